"""The test endpoints as a WSGI application, for gunicorn."""
import time


def app(environ, start_response):
    _, name, argument = (environ["PATH_INFO"] + "//").split("/")[:3]
    n = int(argument) if argument.isdigit() else 0
    status, body = "200 OK", [b"ok"]
    if name == "sleep":
        time.sleep(n / 1000)
    elif name == "bytes":
        body = [bytes(n)]
    elif name == "status":
        status, body = "%d Status" % n, []
    elif name == "upload":
        size = 0
        while block := environ["wsgi.input"].read(65536):
            size += len(block)
        body = [str(size).encode()]
    elif name == "chunked":
        start_response(status, [])
        return (bytes(100) for _ in range(n))
    elif name != "fast":
        status, body = "404 Not Found", []
    start_response(status, [("Content-Length", str(sum(map(len, body))))])
    return body
