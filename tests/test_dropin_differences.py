"""What the page on the drop-in says of `httpio.client` beside http.client, row by row, with both of them.

What http.client is said to do is what it did when this was written. It may have become stricter: an error of its own is
right too.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

import httpio
import httpio.client
from conftest import Authority
from servers.proxy import Proxy, says
from servers.scripted import Peer, Scripted, server_context

STANDARD: Any = http.client
OURS: Any = httpio.client
MODULES = (STANDARD, OURS)
OK = b"HTTP/1.1 200 OK\r\n"
SHORT = OK + b"Content-Length: 10\r\n\r\nhalf"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

Use = Callable[[Any], object]
Errors = tuple[type[Exception], ...]
"""What an error is an instance of: all of these."""

CLOSED: Errors = (http.client.IncompleteRead, httpio.ConnectionClosed)
INVALID: Errors = (http.client.HTTPException, httpio.InvalidResponse)


def outcome(call: Callable[[], object]) -> object:
    """What it gives, or the error."""
    try:
        return call()
    except Exception as exc:
        return exc


def assert_of(found: object, errors: Errors) -> None:
    assert isinstance(found, Exception), found
    assert [one for one in errors if not isinstance(found, one)] == [], repr(found)


def assert_as_said(found: object, said: object) -> None:
    """http.client, or one that has learned since."""
    assert found == said or isinstance(found, http.client.HTTPException | ValueError), found


# -- reading --


def answer(module: Any, wire: bytes, use: Use, method: str = "GET") -> object:
    """A response to read from a socket on which these bytes come, and then the end."""
    near, far = socket.socketpair()
    with near, far:
        far.sendall(wire)
        far.shutdown(socket.SHUT_WR)
        response = module.HTTPResponse(near, method=method)

        def read() -> object:
            response.begin()
            return use(response)

        try:
            return outcome(read)
        finally:
            response.close()


def read(response: Any) -> object:
    return response.status, response.read()


def status(response: Any) -> object:
    return response.status


def in_pieces(how: str) -> Use:
    """All that comes until nothing does."""

    def use(response: Any) -> bytes:
        found = b""
        buffer = bytearray(3)
        while True:
            got = getattr(response, how)(buffer if how == "readinto" else 3)
            piece = bytes(buffer[:got]) if how == "readinto" else got
            if not piece:
                return found
            found += piece

    return use


class Reading(NamedTuple):
    wire: bytes
    use: Use
    said: object
    errors: Errors


def by_line(response: Any) -> bytes:
    return b"".join(response)


OF_WAYS = {
    f"a short body by {how}": Reading(SHORT, in_pieces(how), b"half", CLOSED)
    for how in ("read", "readinto", "read1", "readline")
}
REFUSED = {
    "two lengths": (b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc", (200, b"ab"), INVALID),
    "a length beside chunks": (
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", (200, b"ab"), INVALID,
    ),
    "a signed length": (b"Content-Length: +2\r\n\r\nab", (200, b"ab"), INVALID),
    "a negative length": (b"Content-Length: -2\r\n\r\nab", (200, b"ab"), INVALID),
    "no length": (b"Content-Length:\r\n\r\nab", (200, b"ab"), INVALID),
    "a list of lengths": (b"Content-Length: 2, 2\r\n\r\nab", (200, b"ab"), INVALID),
    "a field without a name": (b": x\r\nContent-Length: 2\r\n\r\nab", (200, b"ab"), INVALID),
    "a field without a colon": (b"Odd\r\nContent-Length: 2\r\n\r\nab", (200, b"ab"), INVALID),
    "a blank before the colon": (b"Content-Length : 2\r\n\r\nab", (200, b"ab"), INVALID),
    "a folded line": (b"X: a\r\n b\r\nContent-Length: 2\r\n\r\nab", (200, b"ab"), INVALID),
    "a bare CR": (b"X: a\rb\r\nContent-Length: 2\r\n\r\nab", (200, b"ab"), INVALID),
    "a NUL": (b"X: a\0b\r\nContent-Length: 2\r\n\r\nab", (200, b"ab"), INVALID),
    "another transfer coding": (
        b"Transfer-Encoding: br, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", (200, b"2\r\nab\r\n0\r\n\r\n"),
        (http.client.UnknownTransferEncoding, httpio.UnsupportedResponse),
    ),
}  # fmt: skip
READING = {
    **OF_WAYS,
    "a short body line by line": Reading(SHORT, by_line, b"half", CLOSED),
    "an end in the header section": Reading(OK + b"Content-Length: 0\r\n", read, (200, b""), CLOSED),
    "an end in the trailer section": Reading(CHUNKED + b"2\r\nab\r\n0\r\nX: y\r\n", read, (200, b"ab"), CLOSED),
    **{name: Reading(OK + wire, read, said, errors) for name, (wire, said, errors) in REFUSED.items()},
    "a status line of another version": Reading(
        b"HTTP/1.9 200 OK\r\nContent-Length: 2\r\n\r\nab", read, (200, b"ab"),
        (http.client.UnknownProtocol, httpio.UnsupportedResponse),
    ),
    "a status line that is none": Reading(
        b"HTTP/1.1 2OO OK\r\n\r\n", read, None, (http.client.BadStatusLine, httpio.InvalidResponse)
    ),
    "HTTP/0.9": Reading(b"hello\r\n", read, None, (http.client.BadStatusLine, httpio.InvalidResponse)),
    "chunked in HTTP/1.0": Reading(
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", read, (200, b"ab"), INVALID
    ),
    "chunks that cannot be read": Reading(
        CHUNKED + b"x\r\nab\r\n0\r\n\r\n", read, None, (http.client.IncompleteRead, httpio.InvalidResponse)
    ),
    "a chunk that does not end": Reading(
        CHUNKED + b"2\r\nabc\r\n0\r\n\r\n", read, None, (http.client.IncompleteRead, httpio.InvalidResponse)
    ),
    "a long line": Reading(
        OK + b"X: %b\r\n\r\n" % (b"x" * 70_000), read, None, (http.client.LineTooLong, httpio.InvalidResponse)
    ),
    "many fields": Reading(OK + b"X: y\r\n" * 101 + b"\r\n", read, None, INVALID),
    "nothing": Reading(b"", read, None, (http.client.RemoteDisconnected, httpio.ConnectionClosed)),
    "a short body by read()": Reading(SHORT, read, None, CLOSED),
}  # fmt: skip


@pytest.mark.parametrize("name", READING)
def test_reading(name: str) -> None:
    row = READING[name]
    assert_as_said(answer(STANDARD, row.wire, row.use), row.said)
    assert_of(answer(OURS, row.wire, row.use), row.errors)


@pytest.mark.parametrize("name", [*OF_WAYS, "a short body line by line", "an end in the header section"])
def test_the_switch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgiving(OURS.HTTPResponse):  # type: ignore[misc]
        legacy_short_reads = True

    row = READING[name]
    said = answer(STANDARD, row.wire, row.use)
    near, far = socket.socketpair()
    with near, far:
        far.sendall(row.wire)
        far.shutdown(socket.SHUT_WR)
        response = Forgiving(near)
        response.begin()
        assert row.use(response) == said == row.said
    assert_of(answer(OURS, row.wire, row.use), row.errors)
    monkeypatch.setattr(OURS.HTTPResponse, "legacy_short_reads", True)
    assert answer(OURS, row.wire, row.use) == said
    assert_of(answer(OURS, SHORT, read), CLOSED)


SAME = {
    "LF ends a line": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nab",
    "no framing": OK + b"\r\nab",
    "no space behind the status": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nab",
    "100 first": b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nab",
}


@pytest.mark.parametrize("name", SAME)
def test_the_same(name: str) -> None:
    assert answer(OURS, SAME[name], read) == answer(STANDARD, SAME[name], read) == (200, b"ab")


def test_interim_responses() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    final = OK + b"Content-Length: 2\r\n\r\nab"
    assert_as_said(answer(STANDARD, hints + final, status), 103)
    assert answer(OURS, hints + final, read) == (200, b"ab")
    assert answer(OURS, hints * 100 + final, read) == (200, b"ab")
    assert_of(answer(OURS, hints * 101 + final, read), INVALID)


def connected(module: Any, server: Scripted, **options: Any) -> Any:
    return module.HTTPConnection("127.0.0.1", server.port, timeout=20, **options)


def get(connection: Any, target: str = "/") -> bytes:
    connection.request("GET", target)
    content: bytes = connection.getresponse().read()
    return content


def test_101_that_was_not_asked_for() -> None:
    with Scripted(says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")) as server:
        for module in MODULES:
            connection = connected(module, server)
            connection.request("GET", "/")
            found = outcome(connection.getresponse)
            if module is OURS:
                assert_of(found, INVALID)
                assert connection.sock is None
                connection.request("GET", "/", headers={"Upgrade": "x", "Connection": "upgrade"})
                assert connection.getresponse().status == 101
            connection.close()


def numbered(peer: Peer) -> None:
    """Each answer says on which connection it came, and is long enough not to be received at once."""
    while (seen := peer.request()) is not None:
        peer.answer(b"%d" % peer.number + b"." * (100_000 if seen.target == "/long" else 0))


def test_a_response_that_is_closed_unread() -> None:
    with Scripted(numbered) as server:
        connection = connected(STANDARD, server)
        connection.request("GET", "/long")
        connection.getresponse().close()
        found = outcome(lambda: get(connection))
        assert isinstance(found, http.client.HTTPException) or found == b"1"
        connection.close()
    with Scripted(numbered) as server:
        connection = connected(OURS, server)
        connection.request("GET", "/long")
        connection.getresponse().close()
        assert connection.sock is None
        assert get(connection) == b"1"
        connection.close()


def evil(peer: Peer) -> None:
    """The first answer on the first connection is followed by another one."""
    while peer.request() is not None:
        answer = OK + b"Content-Length: 1\r\n\r\n%d" % peer.number
        peer.send(answer + (OK + b"Content-Length: 4\r\n\r\nevil" if peer.number == 0 else b""))


def test_bytes_behind_an_answer() -> None:
    with Scripted(evil) as server:
        connection = connected(OURS, server)
        assert get(connection) == b"0"
        assert get(connection) == b"1"
        assert get(connection) == b"1"
        connection.close()


def test_each_response_on_a_socket_reads_its_own_answer() -> None:
    def both(module: Any) -> object:
        near, far = socket.socketpair()
        with near, far:
            far.sendall(OK + b"Content-Length: 3\r\n\r\none" + OK + b"Content-Length: 3\r\n\r\ntwo")
            far.shutdown(socket.SHUT_WR)
            found = []
            for _ in range(2):
                response = module.HTTPResponse(near)
                response.begin()
                found.append(response.read())
            return found

    assert isinstance(outcome(lambda: both(STANDARD)), http.client.RemoteDisconnected)
    assert both(OURS) == [b"one", b"two"]


def test_tls_that_ends_without_close_notify(authority: Authority) -> None:
    def cut(peer: Peer) -> None:
        if peer.request() is not None:
            peer.send(b"HTTP/1.0 200 OK\r\n\r\nhalf")
            peer.finish()

    context = ssl.create_default_context(cafile=str(authority.ca))
    with Scripted(cut, server_context(authority.chain, authority.key)) as server:
        for module in MODULES:
            connection = module.HTTPSConnection("127.0.0.1", server.port, timeout=20, context=context)
            found = outcome(lambda connection=connection: get(connection))  # type: ignore[misc]
            if module is OURS:
                assert_of(found, CLOSED)
                assert found.partial == b"half"  # type: ignore[attr-defined]
            else:
                assert_as_said(found, b"half")
            connection.close()


@pytest.mark.parametrize("head", [b"", OK + b"Content-Length: 9\r\n\r\nhalf"])
def test_a_timeout_while_it_is_read(head: bytes) -> None:
    near, far = socket.socketpair()
    with near, far:
        far.sendall(head)
        near.settimeout(0.01)
        response = OURS.HTTPResponse(near)
        assert_of(outcome(lambda: (response.begin(), response.read())), (TimeoutError, httpio.ConnectionTimedOut))
        response.close()


def test_a_connection_that_is_reset() -> None:
    def script(peer: Peer) -> None:
        if peer.request() is not None:
            peer.send(OK + b"Content-Length: 9\r\n\r\nhalf")
            read_half.wait(20)
            peer.reset()

    read_half = threading.Event()
    with Scripted(script) as server:
        connection = connected(OURS, server)
        connection.request("GET", "/")
        response = connection.getresponse()
        assert response.read(4) == b"half"
        read_half.set()
        assert_of(outcome(response.read), (ConnectionResetError, httpio.ConnectionClosed))
        connection.close()


def test_headers_are_messages() -> None:
    headers: Any = answer(OURS, OK + b"Content-Length: 0\r\nX: 1\r\nX: 2\r\n\r\n", lambda response: response.headers)
    assert type(headers) is not http.client.HTTPMessage
    assert isinstance(headers, http.client.HTTPMessage)
    assert headers.get_all("x") == ["1", "2"]


# -- sending --


def sent(module: Any, send: Use) -> tuple[object, bytes]:
    """What a call does, and all that arrives."""
    near, far = socket.socketpair()
    with near, far:
        connection = module.HTTPConnection("localhost")
        connection.sock = near
        found = outcome(lambda: send(connection))
        near.shutdown(socket.SHUT_WR)
        far.settimeout(20)
        arrived = b""
        while data := far.recv(65536):
            arrived += data
        return found, arrived


def request(*arguments: Any, **options: Any) -> Use:
    return lambda connection: connection.request(*arguments, **options)


def steps(*fields: tuple[str, str], body: Any = None) -> Use:
    def use(connection: Any) -> None:
        connection.putrequest("POST", "/")
        for field in fields:
            connection.putheader(*field)
        connection.endheaders(body)

    return use


URL: Errors = (http.client.InvalidURL, httpio.InvalidURL)
VALUE: Errors = (ValueError,)
SENDING: dict[str, tuple[Use, Errors]] = {
    "a control character in the method": (request("G\r\nET", "/"), VALUE),
    "DEL in the method": (request("GET\x7f", "/"), VALUE),
    "a method that is no token": (request("G ET", "/"), VALUE),
    "a control character in the target": (request("GET", "/\r\nX: y"), URL),
    "DEL in the target": (request("GET", "/\x7f"), URL),
    "a blank in the target": (request("GET", "/a b"), URL),
    "a line end in a value": (request("GET", "/", headers={"X": "y\r\nZ: z"}), VALUE),
    "NUL in a value": (request("GET", "/", headers={"X": "y\0z"}), VALUE),
    "a control character in a value": (request("GET", "/", headers={"X": "y\x08z"}), VALUE),
    "a line end in a name": (request("GET", "/", headers={"X\n": "y"}), VALUE),
    "NUL in a name": (request("GET", "/", headers={"X\0": "y"}), VALUE),
    "a blank in a name": (request("GET", "/", headers={"X Y": "z"}), VALUE),
    "a folded value": (request("GET", "/", headers={"X": "y\r\n z"}), VALUE),
    "no method": (request("", "/"), VALUE),
    "two Hosts": (steps(("Host", "elsewhere")), VALUE),
    "a length beside a coding": (steps(("Content-Length", "2"), ("Transfer-Encoding", "chunked"), body=b"ab"), VALUE),
    "two lengths": (steps(("Content-Length", "2"), ("Content-Length", "2"), body=b"ab"), VALUE),
    "a length that is no number": (steps(("Content-Length", "+2"), body=b"ab"), VALUE),
    "a coding that is not chunked": (steps(("Transfer-Encoding", "gzip"), body=b"ab"), VALUE),
    "a longer body": (request("POST", "/", b"abc", {"Content-Length": "2"}), VALUE),
    "a shorter body": (request("POST", "/", b"a", {"Content-Length": "2"}), VALUE),
}


@pytest.mark.parametrize("name", SENDING)
def test_sending(name: str) -> None:
    use, errors = SENDING[name]
    found, arrived = sent(OURS, use)
    assert_of(found, errors)
    assert arrived == b""


@pytest.mark.parametrize(
    ("body", "error"), [(b"abc", httpio.ExcessBodyData), (b"a", httpio.StateError)], ids=["longer", "shorter"]
)
@pytest.mark.parametrize("make", [io.BytesIO, lambda body: iter([body])], ids=["file", "iterable"])
def test_bodies_of_another_length(make: Any, body: bytes, error: type[Exception]) -> None:
    """They are known when the header section is out."""

    def use(connection: Any) -> None:
        connection.auto_open = False
        try:
            connection.request("POST", "/", make(body), {"Content-Length": "2"})
        finally:
            closed.append(connection.sock is None)

    closed: list[bool] = []
    near, far = socket.socketpair()
    with far:
        connection = OURS.HTTPConnection("localhost")
        connection.sock = near
        assert_of(outcome(lambda: use(connection)), (error, ValueError))
    assert closed == [True]


def test_a_request_that_was_refused() -> None:
    for module in MODULES:
        with Scripted(numbered) as server:
            connection = connected(module, server)
            with pytest.raises(ValueError, match="value"):
                connection.request("GET", "/", headers={"X": "y\nz"})
            found = outcome(lambda connection=connection: get(connection))  # type: ignore[misc]
            assert found == b"0" or (module is STANDARD and isinstance(found, http.client.CannotSendRequest))
            connection.close()


@pytest.mark.parametrize("host", ["a\r\nX: y", "a b", "a\x7f"])
def test_hosts(host: str) -> None:
    assert_of(outcome(lambda: OURS.HTTPConnection(host)), URL)
    with Scripted(says(b"HTTP/1.1 200 OK\r\n\r\n")) as proxy:
        connection = connected(OURS, proxy)
        connection.set_tunnel(host, 80)
        assert_of(outcome(lambda: connection.request("GET", "/")), VALUE)
        connection.close()
        assert proxy.seen == []


def test_fields_for_a_proxy() -> None:
    with Scripted(says(b"HTTP/1.1 200 OK\r\n\r\n")) as proxy:
        connection = connected(OURS, proxy)
        connection.set_tunnel("example.org", 80, {"X": "y\r\nZ: z"})
        assert_of(outcome(lambda: connection.request("GET", "/")), VALUE)
        connection.close()
        assert proxy.seen == []


def test_a_proxy_that_goes_on_speaking() -> None:
    """Behind its answer to CONNECT stands what the peer would say."""
    with Proxy(says(b"HTTP/1.1 200 OK\r\n\r\n" + OK + b"Content-Length: 4\r\n\r\nevil")) as proxy:
        connection = connected(OURS, proxy)
        connection.set_tunnel("example.org", 80)
        assert_of(outcome(lambda: get(connection)), INVALID)
        connection.close()


def test_a_tunnel_that_is_refused() -> None:
    with Proxy(says(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")) as proxy:
        for module in MODULES:
            connection = connected(module, proxy)
            connection.set_tunnel("example.org", 80)
            found = outcome(lambda connection=connection: get(connection))  # type: ignore[misc]
            assert isinstance(found, OSError)
            assert str(found).startswith("Tunnel connection failed: 403 Forbidden")
            assert (module is OURS) == isinstance(found, httpio.ProxyError)
            connection.close()


# -- 100-continue --


@pytest.fixture
def waiting() -> Any:
    class Waiting(OURS.HTTPConnection):  # type: ignore[misc]
        expect_timeout = None

    return Waiting


def test_a_body_waits_for_100(waiting: Any) -> None:
    before: list[bytes] = []

    def script(peer: Peer) -> None:
        seen = peer.head()
        assert seen is not None
        before.append(bytes(peer.buffer))
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        peer.answer(peer.take(int(seen.field("Content-Length") or 0)))

    with Scripted(script) as server:
        connection = waiting("127.0.0.1", server.port, timeout=20)
        connection.request("PUT", "/", b"content", {"Expect": "100-continue"})
        assert connection.getresponse().read() == b"content"
        connection.close()
    assert before == [b""]


def test_a_final_answer_keeps_the_body_back(waiting: Any) -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.answer(b"no", "403 Forbidden")
        peer.drain()

    with Scripted(script) as server:
        connection = waiting("127.0.0.1", server.port, timeout=20)
        connection.request("PUT", "/", b"content", {"Expect": "100-continue"})
        response = connection.getresponse()
        assert (response.status, response.read()) == (403, b"no")
        assert connection.sock is None
    assert b"content" not in bytes(server.peers[0].buffer)


def test_where_no_100_comes_the_body_goes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OURS.HTTPConnection, "expect_timeout", 0.01)
    with Scripted(numbered) as server:
        connection = connected(OURS, server)
        connection.request("PUT", "/", b"content", {"Expect": "100-continue"})
        assert connection.getresponse().read() == b"0"
        connection.close()
