// The beginning of a server: it reads once, and closes every connection unanswered.
const net = require('node:net');

const server = net.createServer((connection) => {
  connection.on('error', console.error);
  connection.once('data', () => {
    // Stage 1: send the answer.
    connection.destroy();
  });
});
server.listen(Number(process.argv[2]), '127.0.0.1');
