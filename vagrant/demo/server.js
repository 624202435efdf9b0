// Demo service: answers after a short while, with a body of varying size.
const http = require('http');

http.createServer((request, response) => {
  setTimeout(() => {
    if (request.url === '/missing') {
      response.writeHead(404).end();
      return;
    }
    response.end('x'.repeat(Math.floor(Math.random() * 20000)));
  }, Math.random() * 10);
}).listen(3000, '127.0.0.1');
