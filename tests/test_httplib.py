"""httpio.httplib: Python 2's names, and what its programs see."""

from __future__ import annotations

import io
import pickle
import socket
import ssl
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import carried_over
from conftest import Authority
from httpio import client, httplib
from servers.scripted import Peer, Scripted, server_context

PAGE = b"<p>page</p>\n" * 9
FORM = "application/x-www-form-urlencoded"
DESCRIBED = (
    'Content-Type: Text/HTML; Charset="u;x"; b\r\nSet-Cookie: a=1; Expires=Wed, 01 Jan 2031 00:00:00 GMT\r\n'
    "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nset-cookie: b=2\r\nX-One: 1\r\nX-Empty:\r\n"
)


def old_site(peer: Peer) -> None:
    """What the programs ask for. A form is answered with how it came."""
    while (seen := peer.request()) is not None:
        match seen.target:
            case "/index.html":
                head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(PAGE)}\r\n\r\n".encode()
                peer.send(head if seen.method == "HEAD" else head + PAGE)
            case "/form":
                fields = "Host", "Content-Length", "Content-Type", "Transfer-Encoding", "Accept-Encoding", "X-Parts"
                said = [f"{seen.method} {seen.head.split()[2].decode()}", str(len(seen.body))]
                said += [f"{name}={seen.field(name)}" for name in fields[1:] if seen.field(name) is not None]
                peer.answer("; ".join(said).encode(), fields="Content-Type: text/plain\r\n")
            case "/described":
                peer.answer(b"body", fields=DESCRIBED)
            case "/moved":
                peer.send(b"HTTP/1.1 302 Found\r\nLocation: /index.html\r\nContent-Length: 0\r\n\r\n")
            case "/again":
                peer.send(b"HTTP/1.1 301 Moved Permanently\r\nLocation: again\r\nContent-Length: 0\r\n\r\n")
            case "/old":
                return peer.send(b"<title>old</title>\n<p>no head\n")
            case "/tiny":
                return peer.send(b"HTX")
            case "/nothing":
                return None
            case "/broken":
                return peer.send(b"HTTP/1.1 two hundred\r\n\r\n")
            case _:
                peer.answer(b"none", "404 Not Found")


@pytest.fixture(scope="module")
def site() -> Iterable[Scripted]:
    with Scripted(old_site) as server:
        yield server


# -- programs --


def test_fetch(site: Scripted) -> None:
    assert carried_over.fetch("127.0.0.1", site.port) == [
        (200, "OK", 11, len(PAGE)),
        (404, "Not Found", 11, 4),
        (200, "text/html", "nothing", 0),
        (
            200,
            f"POST HTTP/1.1; 15; Content-Length=15; Content-Type={FORM}; Accept-Encoding=identity",
        ),
    ]


def test_upload_form(site: Scripted) -> None:
    fields, files = [("a", "1"), ("b", "two")], [("f", "f.txt", "x" * 100)]
    code, message, kind, said, size = carried_over.upload_form("127.0.0.1", site.port, fields, files)
    assert (code, message, kind) == (200, "OK", "text/plain")
    assert said.startswith(f"POST HTTP/1.0; {size}; Content-Length={size}; Content-Type=multipart/form-data; boundary=")
    assert "Accept-Encoding" not in said


def test_put_file(site: Scripted, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 20)
    assert carried_over.put_file("127.0.0.1", site.port, str(path)) == [
        "PUT HTTP/1.1; 5120; Content-Length=5120; Accept-Encoding=identity",
        "PUT HTTP/1.1; 5120; Content-Length=5120; X-Parts=one",
    ]
    assert b"X-Parts: one\r\n\ttwo\r\n" in site.seen[-1].head


def test_describe(site: Scripted) -> None:
    cookies = ["a=1; Expires=Wed, 01 Jan 2031 00:00:00 GMT", "b=2"]
    items = [
        ("content-length", "4"),
        ("content-type", 'Text/HTML; Charset="u;x"; b'),
        ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("set-cookie", ", ".join(cookies)),
        ("x-empty", ""),
        ("x-one", "1"),
    ]
    assert carried_over.describe("127.0.0.1", site.port) == {
        "type": ("text/html", "text", "html", "u;x", ['charset="u;x"', "b"]),
        "cookies": cookies,
        "joined": ", ".join(cookies),
        "modified": 784111777,
        "dict": items,
        "headers": ["X-One: 1\r\n", "X-Empty: \r\n"],
        "names": [name for name, _ in items],
        "getheaders": items,
        "missing": (None, "-", False),
        "text": ["X-New: added"],
        "body": "body",
    }


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/moved", (200, "OK", "/index.html")),
        ("/missing", (404, "Not Found", "/missing")),
        ("/again", "too many"),
        ("/nothing", "bad status line"),
        ("/broken", "bad status line"),
    ],
)
def test_follow(site: Scripted, path: str, found: object) -> None:
    assert carried_over.follow(site.url + path) == found


@pytest.mark.parametrize("strict", [None, 0, False])
def test_raw(site: Scripted, strict: int | None) -> None:
    answer = carried_over.raw("127.0.0.1", site.port, "/old", strict)
    assert answer == (9, 200, "", b"<tit", b"le>old</title>\n<p>no head\n", [])
    assert carried_over.raw("127.0.0.1", site.port, "/tiny", strict) == (9, 200, "", b"HTX", b"", [])


def test_raw_refused(site: Scripted) -> None:
    assert carried_over.raw("127.0.0.1", site.port, "/old", True) == "refused"


def test_reply(site: Scripted) -> None:
    assert carried_over.reply("127.0.0.1", site.port, "/index.html") == (200, "OK", [b"<p>page</p>\n"] * 9)
    assert carried_over.reply("127.0.0.1", site.port, "/old") == (200, "", [b"<title>old</title>\n", b"<p>no head\n"])
    assert carried_over.reply("127.0.0.1", site.port, "/broken") == (-1, None)
    assert carried_over.reply("127.0.0.1", site.port, "/nothing") == (-1, None)
    h = httplib.HTTP("127.0.0.1", site.port)
    h.putrequest("GET", "/nothing")
    h.endheaders()
    assert h.getreply() == (-1, "Remote end closed connection without response", None)
    assert h.getfile() is None
    h.putrequest("GET", "/broken")
    h.endheaders()
    code, said, headers = h.getreply()
    assert (code, headers, h.getfile(), h._conn.sock) == (-1, None, None, None)
    assert "status" in said


def test_unix() -> None:
    with tempfile.TemporaryDirectory() as folder, Scripted(old_site, path=f"{folder}/s") as server:
        assert carried_over.unix(f"{folder}/s") == PAGE
        assert server.seen[0].field("Host") == "localhost"


def test_fake() -> None:
    assert carried_over.fake() == ("text/xml", "utf-8", "1, 2\n 3", ["X-A: 1\r\n", "X-A: 2\r\n", " 3\r\n"], "rest")


def test_record(site: Scripted) -> None:
    carried_over.Recording.begun.clear()
    assert carried_over.record("127.0.0.1", site.port) == [("GET", 200, 1)]


# -- names --


def test_names() -> None:
    # What `from httplib import *` gave in Python 2.7, and the names that were taken from the module.
    names = """HTTP HTTPS HTTPResponse HTTPConnection HTTPSConnection HTTPException NotConnected UnknownProtocol
        UnknownTransferEncoding UnimplementedFileMode IncompleteRead InvalidURL ImproperConnectionState
        CannotSendRequest CannotSendHeader ResponseNotReady BadStatusLine error responses
        FakeSocket LineAndFileWrapper HTTPMessage LineTooLong urlsplit"""
    assert set(names.split()) == set(httplib.__all__)
    more = """HTTP_PORT HTTPS_PORT MAXAMOUNT _UNKNOWN _CS_IDLE _CS_REQ_STARTED _CS_REQ_SENT _MAXLINE _MAXHEADERS
        OK CREATED NO_CONTENT PARTIAL_CONTENT SEE_OTHER NOT_MODIFIED REQUEST_ENTITY_TOO_LARGE REQUEST_TIMEOUT
        REQUEST_URI_TOO_LONG REQUESTED_RANGE_NOT_SATISFIABLE UNPROCESSABLE_ENTITY SERVICE_UNAVAILABLE"""
    assert all(hasattr(httplib, name) for name in [*names.split(), *more.split()])
    assert httplib.error is httplib.HTTPException is client.HTTPException
    assert httplib.OK == 200  # type: ignore[attr-defined]
    assert httplib.urlsplit("http://a:1/b?c").netloc == "a:1"


def test_fake_socket() -> None:
    with pytest.warns(DeprecationWarning, match="SSLSocket"):
        assert httplib.FakeSocket("socket", "tls") == "tls"


def test_both_headers(site: Scripted) -> None:
    """`msg` is Python 2's, `headers` http.client's, which libraries of Python 3 look for."""
    conn = httplib.HTTPConnection("127.0.0.1", site.port)
    conn.request("GET", "/described")
    response = conn.getresponse()
    assert isinstance(response, client.HTTPResponse)
    assert response.headers.get_all("Set-Cookie") == response.msg.getheaders("Set-Cookie")
    assert response.headers.get_content_charset() == "u;x"
    assert isinstance(response.msg, httplib.HTTPMessage)
    assert response.msg is response.msg
    assert response.headers["x-one"] == "1"
    assert pickle.loads(pickle.dumps(response.msg)).items() == response.msg.items()
    response.msg = response.reason  # as urllib.request has it
    assert (response.msg, response.getheader("x-one")) == ("OK", "1")
    assert ("x-one", "1") in response.getheaders()
    conn.close()


def test_a_stand_in_for_a_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has what Python 2's httplib asked of one, and no setsockopt."""

    class Sock:
        sent = b""

        def sendall(self, data: bytes) -> None:
            Sock.sent += data

        def makefile(self, mode: str, bufsize: int | None = None) -> Any:
            return io.BytesIO(b"HTTP/1.1 200 OK\r\n\r\nbody")

        def close(self) -> None:
            pass

    monkeypatch.setattr(socket, "create_connection", lambda *args: Sock())
    conn = httplib.HTTPConnection("example.org")
    conn.request("GET", "/")
    assert conn.getresponse().read() == b"body"
    assert Sock.sent.startswith(b"GET / HTTP/1.1\r\n")


def test_not_ready() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        response = httplib.HTTPResponse(ours)
        with pytest.raises(httplib.ResponseNotReady):
            response.getheader("a")
        with pytest.raises(httplib.ResponseNotReady):
            response.getheaders()
        response.close()


def test_states(site: Scripted) -> None:
    conn = httplib.HTTPConnection("127.0.0.1", site.port)
    with pytest.raises(httplib.ResponseNotReady):
        conn.getresponse()
    with pytest.raises(httplib.CannotSendHeader):
        conn.putheader("A", "1")
    conn.request("GET", "/index.html")
    with pytest.raises(httplib.CannotSendRequest):
        conn.request("GET", "/index.html")
    conn.getresponse().read()
    conn.request("GET", "/index.html")
    assert conn.getresponse().read() == PAGE
    conn.close()


# -- requests --


def requests_of(send: Any, **options: Any) -> Any:
    with Scripted(old_site) as server:
        conn = httplib.HTTPConnection("127.0.0.1", server.port, **options)
        send(conn)
        conn.getresponse().read()
        conn.close()
    return server.seen[0]


def test_values_of_any_kind() -> None:
    def send(conn: httplib.HTTPConnection) -> None:
        conn.putrequest("GET", "/index.html")
        conn.putheader("X", 1.5)
        conn.putheader("Y", None, b"bytes", bytearray(b"array"))
        conn.endheaders()

    head = requests_of(send).head
    assert b"X: 1.5\r\nY: None\r\n\tbytes\r\n\tarray\r\n" in head


class Sized:
    """A body that only says how long it is."""

    def __init__(self, data: bytes) -> None:
        self.file = io.BytesIO(data)
        self.size = len(data)

    def __len__(self) -> int:
        return self.size

    def read(self, size: int = -1) -> bytes:
        return self.file.read(size)


class Unknown:
    def __init__(self, data: bytes) -> None:
        self.read = io.BytesIO(data).read


def moved(file: Any) -> Any:
    file.seek(4)
    return file


@pytest.mark.parametrize(
    ("body", "length"),
    [
        (io.BytesIO(b"content"), "7"),
        (moved(io.BytesIO(b"content")), "3"),
        (Sized(b"content"), "7"),
        (Unknown(b"content"), None),
        (io.StringIO("content"), None),
        ("content", "7"),
        ([b"con", b"tent"], None),
    ],
)
def test_length_of_a_body(body: Any, length: str | None) -> None:
    seen = requests_of(lambda conn: conn.request("PUT", "/form", body))
    assert seen.field("Content-Length") == length
    assert seen.field("Transfer-Encoding") == (None if length else "chunked")


@pytest.mark.parametrize("target", ["/a b", "/a\r\nX: 1", "/\0"])
def test_injection(target: str) -> None:
    conn = httplib.HTTPConnection("127.0.0.1", 9)
    with pytest.raises(httplib.InvalidURL):
        conn.putrequest("GET", target)
    conn = httplib.HTTPConnection("127.0.0.1", 9)
    conn.putrequest("GET", "/")
    with pytest.raises(ValueError, match="Invalid header value"):
        conn.putheader("A", "b\r\nC: d")
    with pytest.raises(httplib.InvalidURL):
        httplib.HTTP().connect("a\r\nb")


def test_not_connected_by_itself() -> None:
    conn = httplib.HTTPConnection("127.0.0.1", 9)
    conn.auto_open = 0
    with pytest.raises(httplib.NotConnected):
        conn.request("GET", "/")


# -- TLS --


def test_https(authority: Authority) -> None:
    with Scripted(old_site, server_context(authority.chain, authority.key)) as server:
        context = ssl.create_default_context(cafile=authority.ca)
        conn = httplib.HTTPSConnection("localhost", server.port, context=context)
        conn.request("GET", "/index.html")
        assert conn.getresponse().read() == PAGE
        conn.close()
        h = httplib.HTTPS("localhost", server.port, context=context)
        h.putrequest("GET", "/index.html")
        h.endheaders()
        assert h.getreply()[:2] == (200, "OK")
        assert h.getfile().read() == PAGE
        h.close()
        assert server.seen[1].head.startswith(b"GET /index.html HTTP/1.0\r\n")
        conn = httplib.HTTPSConnection("localhost", server.port)
        with pytest.raises(ssl.SSLCertVerificationError):
            conn.request("GET", "/")


def test_client_certificate(authority: Authority) -> None:
    """*key_file* and *cert_file* in the places in which Python 2 has them."""
    context = server_context(authority.chain, authority.key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.ca)
    with Scripted(old_site, context) as server:
        trusting = ssl.create_default_context(cafile=authority.ca)
        conn = httplib.HTTPSConnection(
            "localhost", server.port, str(authority.key), str(authority.chain), 1, 10, context=trusting
        )
        assert (conn.strict, conn.timeout) == (1, 10)
        conn.request("GET", "/index.html")
        assert conn.getresponse().read() == PAGE
        conn.close()
    with pytest.raises(ValueError, match="cert_file"):
        httplib.HTTPS("localhost", 0, str(authority.key))
    assert httplib.HTTPS("localhost", 0)._conn.port == httplib.HTTPS_PORT
    assert httplib.HTTP("localhost:81", 0)._conn.port == 81
