"""The test endpoints on http.server: usage PORT [fork]; with fork, each connection is inherited by a process of its own."""
import http.server
import socketserver
import sys
import time


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # It writes head and body apart; Nagle's algorithm would hold the body back for the client's delayed ACK, and the
    # client's clock would no longer measure what the server did.
    disable_nagle_algorithm = True

    def do_GET(self):
        _, name, argument = (self.path.split("?")[0] + "//").split("/")[:3]
        n = int(argument) if argument.isdigit() else 0
        if name == "sleep":
            time.sleep(n / 1000)
        if name == "bytes":
            return self.reply(200, bytes(n))
        if name == "status":
            return self.reply(n, b"")
        if name == "chunked":
            return self.chunks(n)
        return self.reply(200 if name in ("fast", "sleep") else 404, b"ok")

    def do_POST(self):
        left = size = int(self.headers.get("Content-Length", 0))
        while left:
            left -= len(self.rfile.read(min(left, 65536)))
        self.reply(200, str(size).encode())

    def reply(self, code, body):
        self.send_response(code)
        if code not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if code not in (204, 304):
            self.wfile.write(body)

    def chunks(self, n):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(n):
            self.wfile.write(b"64\r\n" + bytes(100) + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        pass


class Forking(socketserver.ForkingMixIn, http.server.HTTPServer):
    block_on_close = False


kind = Forking if sys.argv[2:] == ["fork"] else http.server.ThreadingHTTPServer
kind(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
