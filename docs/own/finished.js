// A server in JavaScript for Node, as far as stage 11.
//
//     node finished.js PORT [SECONDS]
//
// SECONDS is how long a request may take, 60 unless given. Node's event loop is hidden:
// it watches level-triggered, so stage 12 is out of reach, and what it does when accept
// fails is its own. The comments name the stage of docs/13-write-your-own.md that asked
// for the line.
const net = require('node:net');

const ANSWER =
  'HTTP/1.0 200 OK\r\nDate: Mon, 1 Jan 1996 01:01:01 GMT\r\n' +
  'Content-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world!';
const REFUSAL = 'HTTP/1.0 431 Request Header Fields Too Large\r\nContent-Length: 0\r\n\r\n';
const MOST = 8192; // bytes of a request (stage 8)
const LINGER_MS = 1000, LINGER_BYTES = 1 << 20; // after the answer (stage 5)

const seconds = Number(process.argv[3] ?? 60);
const clients = new Set();
let stopping = false;

function begin(connection) {
  let request = '';
  let answered = false;
  let discarded = 0;
  clients.add(connection);
  // Stage 9: one timer for the whole request, not connection.setTimeout, which begins
  // again with every byte.
  let timer = setTimeout(() => connection.destroy(), seconds * 1000);

  function answer(text) {
    answered = true;
    request = '';
    clearTimeout(timer);
    timer = setTimeout(() => connection.destroy(), 10000);
    connection.end(text, () => { // stage 5: half-closed; discard until end of file
      clearTimeout(timer);
      timer = setTimeout(() => connection.destroy(), LINGER_MS);
    });
  }

  connection.on('data', (data) => {
    if (answered) {
      discarded += data.length;
      if (discarded > LINGER_BYTES) connection.destroy();
      return;
    }
    request += data.toString('latin1'); // one character for each byte
    if (request.includes('\n\n') || request.includes('\n\r\n')) answer(ANSWER);
    else if (request.length >= MOST) answer(REFUSAL);
  });
  connection.on('end', () => { // stage 4: end of file
    if (!answered) connection.destroy();
  });
  connection.on('error', () => {}); // stage 4: a reset; 'close' follows
  connection.on('close', () => {
    clearTimeout(timer);
    clients.delete(connection);
    if (stopping && clients.size === 0) process.exit(0);
  });
  connection.unfinished = () => !answered;
}

const server = net.createServer({ allowHalfOpen: true }, begin);
server.listen({ port: Number(process.argv[2]), host: '127.0.0.1', backlog: 4096 });

function stop() { // stage 11: answer what has come whole, for a second at most
  stopping = true;
  setTimeout(() => process.exit(0), 1000);
  setTimeout(() => { // after the events that are ready now
    server.close();
    for (const connection of clients) if (connection.unfinished()) connection.destroy();
    if (clients.size === 0) process.exit(0);
  }, 50);
}
process.on('SIGTERM', stop);
process.on('SIGINT', stop);
