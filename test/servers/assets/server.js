// The test endpoints on Node's own http module.
'use strict';
const http = require('http');
const block = Buffer.alloc(65536);

function bytes(res, n) {
  res.setHeader('Content-Length', n);
  const pump = () => {
    while (n > 0) {
      const piece = n < block.length ? block.subarray(0, n) : block;
      n -= piece.length;
      if (!res.write(piece)) return res.once('drain', pump);
    }
    res.end();
  };
  pump();
}

function chunked(res, n) {
  if (n === 0) return res.end();
  res.write(Buffer.alloc(100));
  setImmediate(chunked, res, n - 1);
}

// In two pieces with a pause between, ?pause=MS; the last never comes where the kind begins with "cut-".
function ends(req, res, kind) {
  if (kind === 'interim') res.writeEarlyHints({ link: '</style.css>; rel=preload' });
  if (kind.endsWith('length')) res.setHeader('Content-Length', 10);
  if (kind === 'chunk-trailers') res.setHeader('Trailer', 'X-Sum');
  if (kind !== 'cut-unanswered') res.write('01234');
  setTimeout(() => {
    if (kind.startsWith('cut-')) return req.socket.destroy();
    if (kind === 'chunk-trailers') res.addTrailers({ 'X-Sum': 'abc' });
    return res.end('56789');
  }, Number(req.url.split('pause=')[1]) || 0);
}

const server = http.createServer((req, res) => {
  const [, name, argument] = req.url.split('?')[0].split('/');
  const n = Number(argument) || 0;
  switch (name) {
    case 'fast': return res.end('ok');
    case 'sleep': return setTimeout(() => res.end('ok'), n);
    case 'bytes': return bytes(res, n);
    case 'chunked': return chunked(res, n);
    case 'status': res.statusCode = n; return res.end();
    case 'ends': return ends(req, res, argument);
    case 'abort': return req.socket.resetAndDestroy ? req.socket.resetAndDestroy() : req.socket.destroy();
    case 'upload': {
      let size = 0;
      req.on('data', (d) => { size += d.length; });
      return req.on('end', () => res.end(String(size)));
    }
    default: res.statusCode = 404; return res.end();
  }
});
server.keepAliveTimeout = 60000;
server.listen(Number(process.argv[2]), '127.0.0.1');
