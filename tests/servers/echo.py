"""An HTTP/1.1 server that tells what it was asked, and answers in the ways that real servers do.

    python -m servers.echo [CHAIN KEY]     over TLS with these

`/echo` and any other path: a JSON object of the request, with its number on the connection. `/redirect/STATUS/TARGET`,
`/status/CODE`, `/basic`, `/digest` (the user is "user", the password "pass"), `/cookies`, `/chunked`, `/gzip`, `/close`
(HTTP/1.0), `/lines`, `/once/NAME` (503 the first time), `/never` (no answer), `/interim` (100 first), `/short` and
`/shortchunks` (the connection ends inside the body).
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LINES = b"".join(b"line %d\n" % number for number in range(2000))
BASIC = "Basic " + base64.b64encode(b"user:pass").decode()
NONCE = "a-nonce"


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


ONCE: set[str] = set()
"""The names that were asked for at `/once/NAME`."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    number = 0

    def handle_one_request(self) -> None:
        self.number += 1
        super().handle_one_request()

    def body(self) -> bytes:
        """The request's, decoded."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def answer(self, status: int, content: bytes, *fields: tuple[str, str]) -> None:
        """`content` with its length, unless `fields` say how else it ends."""
        framed = {"transfer-encoding", "content-length", "connection"} & {name.lower() for name, _ in fields}
        bodiless = status in (204, 304)
        self.send_response_only(status)
        for name, value in fields:
            self.send_header(name, value)
        if not framed and not bodiless:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD" and not bodiless:
            self.wfile.write(content)

    def echo(self, body: bytes, status: int = 200, *fields: tuple[str, str]) -> None:
        told = {
            "number": self.number,
            "method": self.command,
            "target": self.path,
            "version": self.request_version,
            "fields": [[name, value] for name, value in self.headers.items()],
            "length": len(body),
            "digest": hashlib.sha256(body).hexdigest(),
        }
        self.answer(status, json.dumps(told).encode(), ("Content-Type", "application/json"), *fields)

    def do_GET(self) -> None:
        body = self.body()
        _, name, *rest = self.path.split("?")[0].split("/", 3)
        special = getattr(self, f"on_{name}", None)
        if special is None:
            self.echo(body)
        else:
            special(body, *rest)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_GET

    def on_redirect(self, body: bytes, status: str, target: str) -> None:
        self.answer(int(status), b"elsewhere", ("Location", f"/{target}"))

    def on_status(self, body: bytes, code: str) -> None:
        self.echo(body, int(code))

    def on_basic(self, body: bytes) -> None:
        if self.headers.get("Authorization") == BASIC:
            self.echo(body)
        else:
            self.answer(401, b"who are you?", ("WWW-Authenticate", 'Basic realm="here"'))

    def on_digest(self, body: bytes) -> None:
        given = dict(re.findall(r'(\w+)="?([^",]+)"?', self.headers.get("Authorization", "")))
        hashes = md5("user:here:pass"), md5(f"{self.command}:{self.path}")
        middle = [NONCE, *([given[key] for key in ("nc", "cnonce", "qop")] if "qop" in given else [])]
        if given.get("response") == md5(":".join([hashes[0], *middle, hashes[1]])):
            self.answer(200, b"known")  # the fields have a random number in them
        else:
            fields = f'Digest realm="here", nonce="{NONCE}", qop="auth", algorithm=MD5'
            self.answer(401, b"who are you?", ("WWW-Authenticate", fields))

    def on_cookies(self, body: bytes) -> None:
        fields = [("Set-Cookie", "first=1; Path=/"), ("Set-Cookie", "second=2; Path=/; HttpOnly")]
        self.answer(302, b"", *fields, ("Location", "/echo"))

    def on_chunked(self, body: bytes) -> None:
        sizes = [1, 10, 1000, len(LINES) - 1011]
        pieces, start = [], 0
        for size in sizes:
            pieces.append(b"%x;extension=1\r\n%b\r\n" % (size, LINES[start : start + size]))
            start += size
        self.answer(200, b"".join(pieces) + b"0\r\nX-Trailer: 1\r\n\r\n", ("Transfer-Encoding", "chunked"))

    def on_gzip(self, body: bytes) -> None:
        self.answer(200, gzip.compress(LINES, mtime=0), ("Content-Encoding", "gzip"))

    def on_lines(self, body: bytes) -> None:
        self.answer(200, LINES, ("Content-Type", "text/plain; charset=utf-8"), ("X-Twice", "1"), ("X-Twice", "2"))

    def on_close(self, body: bytes) -> None:
        self.close_connection = True
        self.wfile.write(b"HTTP/1.0 200 Fine\r\nContent-Type: text/plain\r\n\r\n" + LINES)

    def on_once(self, body: bytes, name: str) -> None:
        if name in ONCE:
            self.echo(body)
        else:
            ONCE.add(name)
            self.echo(body, 503, ("Retry-After", "0"))

    def on_never(self, body: bytes) -> None:
        self.rfile.read(1)
        self.close_connection = True

    def on_short(self, body: bytes) -> None:
        self.close_connection = True
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(LINES) + 1) + LINES)

    def on_shortchunks(self, body: bytes) -> None:
        self.close_connection = True
        self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b" % (len(LINES) + 1, LINES))

    def on_interim(self, body: bytes) -> None:
        self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.echo(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, certificate: list[str]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.context = None
        if certificate:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*certificate)

    def finish_request(self, request, client_address) -> None:  # type: ignore[no-untyped-def]
        """In the connection's thread."""
        if self.context is not None:
            request = self.context.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)

    def handle_error(self, request, client_address) -> None:  # type: ignore[no-untyped-def]
        """A client may leave when it likes."""


def main() -> None:
    with Server(sys.argv[1:]) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(server.server_port, flush=True)
        sys.stdin.read()
        print("{}")


if __name__ == "__main__":
    main()
