"""What a caller may not pass, through every call that takes it: the error comes before a byte is written."""

from __future__ import annotations

import itertools
import select
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import corpus
import httpio
from conftest import Authority
from httpio import ConnectionClosed, ExcessBodyData, HTTPConnection, Request, StateError
from httpio.waiting import run
from servers.proxy import Proxy, socks, tunnels
from servers.scripted import Peer, Scripted, answers, server_context

ERRORS: dict[str, Any] = {
    "ValueError": ValueError,
    "InvalidURL": httpio.InvalidURL,
    "TypeError": TypeError,
    "StateError": StateError,
    "ConnectionClosed": ConnectionClosed,
    "ExcessBodyData or StateError (a body-length error)": (ExcessBodyData, StateError),
}

# Rows whose outcome is another of those that the row allows, and why.
TAKEN_INSTEAD = {
    "RQ-106": ("reconnect", "after close(), as after its creation, a connection connects when it is needed"),
}

# Rows about a sequence of calls, about the host, or about a tunnel: each has a test of its own below.
APART = {
    "RQ-064", "RQ-066", "RQ-067", "RQ-068", "RQ-069", "RQ-100", "RQ-101", "RQ-102", "RQ-105", "RQ-106",
}  # fmt: skip

# Rows whose fault cannot be seen before the body is drawn, which is after the head is out. The request is
# never completed, and the connection cannot be used any more.
LATE = {"RQ-086", "RQ-088", "RQ-089"}

Make = Callable[[], dict[str, Any]]


class Endless:
    """Pieces for ever; how many were drawn is counted, so that a test of it ends."""

    def __iter__(self) -> Iterator[bytes]:
        for number in itertools.count():
            assert number < 1000, "the body is drawn without an end"
            yield b"abc"


def changed_file(folder: Path, then: int) -> Any:
    """A file of 300,000 bytes, whose size is another one when it is read."""

    class Changing:
        def __init__(self) -> None:
            self.path = folder / "body"
            self.path.write_bytes(b"a" * 300_000)
            self.file = self.path.open("rb")

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def read(self, size: int = -1) -> bytes:
            with self.path.open("r+b") as file:
                file.truncate(then)
            return self.file.read(size)

    return Changing()


def arguments(row: corpus.Row, folder: Path) -> dict[str, Any]:
    """The row's call as the arguments of `send_request`. A text body is meant as bytes."""
    call = row["call"]
    headers = call.get("headers")
    if isinstance(headers, list):
        headers = [tuple(pair) for pair in headers]
    body = call.get("body")
    if body == "ITER_STR":
        body = iter([b"a", "b"])
    elif body == "ITER_EMPTYCHUNK":
        body = iter([b"a", b"", b"b"])
    elif body == "ITER_INF":
        headers, body = {"Content-Length": "10"}, Endless()
    elif body == "FILE_SHRINKS":
        body = changed_file(folder, 1000)
    elif body == "FILE_GROWS":
        body = changed_file(folder, 900_000)
    elif isinstance(body, str):
        body = body.encode()
    return {"method": call["method"], "path": call["url"], "headers": headers, "body": body}


def rows(*expect: str) -> list[corpus.Row]:
    return [row for row in corpus.requests() if row["id"] not in APART and (row["expect"] == "ok") == bool(expect)]


REFUSED = [row for row in rows() if row["id"] not in LATE]
ACCEPTED = rows("ok")


def ids(row: corpus.Row) -> str:
    return str(row["id"])


def assert_nothing_else_came(server: Scripted, targets: list[str], connections: int = 1) -> None:
    """The server got these requests, whole, and not a byte besides."""
    server.settle(connections)
    assert server.targets() == targets
    assert server.received() == sum(len(seen.head) for seen in server.seen)
    assert server.connections == connections


@pytest.mark.parametrize("row", REFUSED, ids=ids)
def test_send_request_refuses(row: corpus.Row, tmp_path: Path) -> None:
    with Scripted(answers) as server, HTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
        with pytest.raises(ERRORS[row["expect"]]):
            conn.send_request(**arguments(row, tmp_path))
        assert server.connections == 0  # a mistake costs no connection
        for target in ("/before", "/behind"):
            conn.send_request("GET", target)
            with pytest.raises(ERRORS[row["expect"]]):
                conn.send_request(**arguments(row, tmp_path))
            assert [request.path for request in conn.outstanding] == [target]
            assert conn.read_response().status == 200
            assert conn.readall() == target.encode()
            with pytest.raises(ERRORS[row["expect"]]):
                conn.send_request(**arguments(row, tmp_path))
            assert not conn.response_pending()
        conn.close()
        assert_nothing_else_came(server, ["/before", "/behind"])


def as_bytes(given: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The same with bytes in the places where bytes are taken, one place at a time."""
    if given["path"] != "/":
        yield {**given, "path": given["path"].encode("utf-8")}
    headers = given["headers"]
    if headers:
        pairs = list(headers.items() if isinstance(headers, dict) else headers)
        yield {**given, "headers": [(name.encode("utf-8"), value) for name, value in pairs]}
        if all(ord(character) < 256 for _, value in pairs for character in value):
            yield {**given, "headers": [(name, value.encode("latin-1")) for name, value in pairs]}


@pytest.mark.parametrize("row", REFUSED, ids=ids)
def test_send_request_refuses_the_same_as_bytes(row: corpus.Row, tmp_path: Path) -> None:
    variants = list(as_bytes(arguments(row, tmp_path)))
    if not variants:
        pytest.skip("no part of this row could be bytes")
    with Scripted(answers) as server, HTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
        conn.connect()
        for given in variants:
            with pytest.raises(ERRORS[row["expect"]]):
                conn.send_request(**given)
        conn.send_request("GET", "/behind")
        assert conn.read_response().status == 200
        conn.close()
        assert_nothing_else_came(server, ["/behind"])


def run_through(
    conn: HTTPConnection, requests: list[str | Request], answered: list[str], depth: int | None = None
) -> None:
    """Note the paths of the responses of a pipeline."""
    for response in conn.pipeline(requests, depth):
        assert response.body is not None
        answered.append(response.path)


@pytest.mark.parametrize("depth", [None, 4])
@pytest.mark.parametrize("row", REFUSED, ids=ids)
def test_pipeline_refuses(row: corpus.Row, depth: int | None, tmp_path: Path) -> None:
    with Scripted(answers) as server, HTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
        before = ["/1", "/2", "/3"]
        answered: list[str] = []
        with pytest.raises(ERRORS[row["expect"]]):
            run_through(conn, [*before, Request(**arguments(row, tmp_path)), "/never"], answered, depth)
        assert answered == before
        assert not conn.response_pending()
        conn.send_request("GET", "/behind")
        assert conn.read_response().status == 200
        assert conn.readall() == b"/behind"
        conn.close()
        assert_nothing_else_came(server, [*before, "/behind"])


@pytest.mark.parametrize("row", REFUSED, ids=ids)
def test_fetch_refuses(row: corpus.Row, tmp_path: Path) -> None:
    given = arguments(row, tmp_path)
    path = given.pop("path")
    if not path.startswith("/") or "#" in path:
        pytest.skip("this is a part of another URL, or of one whose fragment is dropped")
    with Scripted(answers) as server:
        bad = Request(path=server.url + path, **given)
        results = list(httpio.fetch([f"{server.url}/1", bad, f"{server.url}/2"], timeout=20))
        # In order for each origin; what is no URL has none.
        (failed,) = [result for result in results if result.request is bad]
        assert isinstance(failed.error, ERRORS[row["expect"]])
        assert failed.status is None
        assert [result.content for result in results if result is not failed] == [b"/1", b"/2"]
        assert_nothing_else_came(server, ["/1", "/2"])


def expected_head(given: dict[str, Any]) -> bytes:
    return f"{given['method']} {given['path']} HTTP/1.1\r\n".encode()


@pytest.mark.parametrize("call", ["send_request", "pipeline"])
@pytest.mark.parametrize("row", ACCEPTED, ids=ids)
def test_accepted(row: corpus.Row, call: str, tmp_path: Path) -> None:
    bodies = []

    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            bodies.append(seen.body)
            peer.answer()

    given = arguments(row, tmp_path)
    with Scripted(script) as server, HTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
        if call == "pipeline":
            assert [response.status for response in conn.pipeline([Request(**given)])] == [200]
        else:
            conn.send_request(**given)
            assert conn.read_response().status == 200
        conn.send_request("GET", "/behind")
        assert conn.read_response().status == 200
        conn.close()
        server.settle()
        assert server.targets() == [given["path"], "/behind"]
    head = server.seen[0].head
    assert head.startswith(expected_head(given))
    if row["id"] == "RQ-060":
        assert "X: caf\u00e9\r\n".encode("latin-1") in head
    if row["id"] == "RQ-096":
        assert server.seen[0].field("Expect") is None
    wanted = {"RQ-087": b"ab", "RQ-090": b"a" * 300_000}
    assert bodies == [wanted.get(row["id"], b""), b""]


LATE_ROWS = [row for row in corpus.requests() if row["id"] in LATE]


@pytest.mark.parametrize("row", LATE_ROWS, ids=ids)
def test_late_fault_of_a_body(row: corpus.Row, tmp_path: Path) -> None:
    whole = []

    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            whole.append(seen.target)
            peer.answer(b"good")

    with Scripted(script) as server, HTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
        with pytest.raises(ERRORS[row["expect"]]):
            conn.send_request(**arguments(row, tmp_path))
        with pytest.raises(ConnectionClosed):
            conn.send_request("GET", "/behind")
        conn.close()
        conn.send_request("GET", "/anew")
        assert conn.read_response().status == 200
        conn.close()
        server.settle()
        assert whole == ["/anew"]
        assert server.peers[0].received < 300_000


@pytest.mark.parametrize("row", LATE_ROWS, ids=ids)
def test_late_fault_of_a_body_in_a_pipeline(row: corpus.Row, tmp_path: Path) -> None:
    whole = []

    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            whole.append(seen.target)
            peer.answer(b"good")

    with Scripted(script) as server, HTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
        answered: list[str] = []
        with pytest.raises(ERRORS[row["expect"]]):
            run_through(conn, ["/1", "/2", Request(**arguments(row, tmp_path)), "/never"], answered)
        assert answered == ["/1", "/2"]
        assert [response.body for response in conn.pipeline(["/3"])] == [b"good"]
        conn.close()
        server.settle()
        assert whole == ["/1", "/2", "/3"]


@pytest.mark.parametrize("row", LATE_ROWS, ids=ids)
def test_late_fault_of_a_body_in_fetch(row: corpus.Row, tmp_path: Path) -> None:
    whole = []

    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            whole.append(seen.target)
            peer.answer(b"good")

    given = arguments(row, tmp_path)
    with Scripted(script) as server:
        given["path"] = server.url + given["path"]
        items = [f"{server.url}/1", Request(**given), f"{server.url}/2"]
        first, failed, last = httpio.fetch(items, timeout=20)
        assert (first.content, last.content) == (b"good", b"good")
        assert isinstance(failed.error, ERRORS[row["expect"]])
        server.settle()
        assert whole == ["/1", "/2"]


def test_a_body_that_ends_a_piece_at_its_length_and_goes_on() -> None:
    with Scripted(answers) as server, HTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
        with pytest.raises(ExcessBodyData):
            conn.send_request("POST", "/", {"Content-Length": "6"}, Endless())
        conn.close()
        with suppress(ExcessBodyData):  # unless the answer comes before the next piece is looked at
            list(conn.pipeline([Request("POST", "/", {"Content-Length": "6"}, Endless())]))
        conn.close()
        server.settle()
        for peer, seen in zip(server.peers, server.seen, strict=False):
            assert peer.received <= len(seen.head) + 6


@pytest.mark.parametrize("row", [row for row in corpus.requests() if row["group"] == "host"], ids=ids)
def test_host(row: corpus.Row) -> None:
    host = row["call"].get("host")
    if host is None:
        assert row in REFUSED
        return
    with pytest.raises(ERRORS[row["expect"]]):
        HTTPConnection(host)
    (result,) = httpio.fetch([f"http://{host}/"])
    assert isinstance(result.error, ERRORS[row["expect"]])


@pytest.mark.parametrize("row", [row for row in corpus.requests() if row["group"] == "tunnel"], ids=ids)
@pytest.mark.parametrize("call", ["send_request", "pipeline", "fetch"])
@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_tunnel(row: corpus.Row, call: str, scheme: str, authority: Authority) -> None:
    """The fields of CONNECT are the proxy's."""
    host, _, *headers = row["call"]["tunnel"]
    given = {"method": row["call"]["method"], "headers": row["call"].get("headers")}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if scheme == "http" else None
    if context is not None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def use(port: int, proxy: httpio.Proxy) -> None:
        if call == "fetch":
            url = f"{'http' if context is None else 'https'}://{host}:{port}{row['call']['url']}"
            for result in httpio.fetch([Request(path=url, **given)], ssl_context=context, proxy=proxy):
                assert result.error is not None
                raise result.error
        with HTTPConnection(host, port, context, proxy) as conn:
            if call == "pipeline":
                next(conn.pipeline([Request(path=row["call"]["url"], **given)]))
            else:
                conn.send_request(path=row["call"]["url"], **given)

    with (
        Scripted(answers, None if context is None else server_context(authority.chain, authority.key)) as origin,
        Proxy(socks() if context is None else tunnels()) as proxy,
    ):
        with pytest.raises(ERRORS[row["expect"]]):
            use(
                origin.port, httpio.Proxy(f"{scheme}://127.0.0.1:{proxy.port}", headers=headers[0] if headers else None)
            )
        assert proxy.connections <= (row["id"] == "RQ-069" and call != "send_request")
        assert origin.seen == []


def test_nothing_follows_connection_close() -> None:
    """RQ-100."""
    with Scripted(answers) as server, HTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
        conn.send_request("GET", "/last", {"Connection": "close"})
        with pytest.raises((StateError, ConnectionClosed)):
            conn.send_request("GET", "/never")
        assert conn.read_response().path == "/last"
        assert conn.readall() == b"/last"
        last = Request("GET", "/last", {"Connection": "close"})
        conn.close()
        assert [response.body for response in conn.pipeline(["/1", last, "/2"], 8)] == [
            b"/1",
            b"/last",
            b"/2",
        ]
        conn.close()
        assert_nothing_else_came(server, ["/last", "/1", "/last", "/2"], connections=3)


def test_get_behind_post() -> None:
    """RQ-101: `send_request` leaves it to the caller, `pipeline` holds the GET back."""

    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            if seen.target == "/held":
                assert not peer.buffer
                assert not select.select([peer.sock], [], [], 0.05)[0]
            peer.answer(seen.target.encode())

    with Scripted(script) as server, HTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
        conn.send_request("POST", "/ridden", body=b"x")
        conn.send_request("GET", "/rides")
        for target in ("/ridden", "/rides"):
            assert conn.read_response().path == target
            assert conn.readall() == target.encode()
        requests = ["/1", "/2", Request("POST", "/held", body=b"x"), "/3", "/4"]
        assert [response.body for response in conn.pipeline(requests, 8)] == [
            b"/1", b"/2", b"/held", b"/3", b"/4",
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("CONNECT", "example.org:443", None),
        ("GET", "/", {"Connection": "Upgrade", "Upgrade": "websocket"}),
    ],
)
def test_nothing_behind_a_handover(method: str, target: str, headers: dict[str, str] | None) -> None:
    """RQ-102."""

    def script(peer: Peer) -> None:
        assert peer.head() is not None
        peer.answer(b"no", "403 Forbidden")
        answers(peer)

    with Scripted(script) as server, HTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
        conn.send_request(method, target, headers)
        with pytest.raises(StateError):
            conn.send_request("GET", "/never")
        assert conn.read_response().status == 403
        assert conn.readall() == b"no"
        conn.send_request("GET", "/behind")
        assert conn.read_response().status == 200
        conn.close()
        assert_nothing_else_came(server, [target, "/behind"])


def test_two_at_a_time() -> None:
    """RQ-105: a step that waits stands for the first thread; what the second asks fails."""

    gate = threading.Event()

    def script(peer: Peer) -> None:
        assert peer.head() is not None
        assert gate.wait(20)
        peer.answer(b"good")
        assert peer.head() is not None
        assert gate.wait(20)

    with Scripted(script) as server, HTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
        conn.send_request("GET", "/")
        reading = conn.co_read_response()
        next(reading)
        with pytest.raises(StateError):
            conn.read_response()
        gate.set()
        assert run(reading).status == 200
        assert conn.readall() == b"good"
        gate.clear()
        sending = conn.co_send_request("PUT", "/", body=bytes(64 << 20))
        next(sending)
        with pytest.raises(StateError):
            conn.send_request("GET", "/never")
        assert [request.method for request in conn.outstanding] == ["PUT"]
        sending.close()
        gate.set()


def test_use_after_close() -> None:
    """RQ-106."""
    with Scripted(answers) as server, HTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
        for number in range(3):
            conn.send_request("GET", f"/{number}")
            assert conn.read_response().status == 200
            conn.close()
        assert_nothing_else_came(server, ["/0", "/1", "/2"], connections=3)


def test_the_tables_are_about_rows_that_are_there() -> None:
    known = {row["id"]: row for row in corpus.requests()}
    for name, (outcome, reason) in TAKEN_INSTEAD.items():
        assert outcome in known[name]["also"]
        assert reason
    assert {*APART, *LATE} <= set(known)
    assert {row["id"] for row in (*REFUSED, *ACCEPTED)} | APART | LATE == set(known)
