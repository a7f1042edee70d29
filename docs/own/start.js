// The beginning of a server: it listens, and closes every connection unanswered.
const net = require('node:net');

const server = net.createServer((connection) => {
  // Stage 1: read the request, and send the answer.
  connection.destroy();
});
server.listen(Number(process.argv[2]), '127.0.0.1');
