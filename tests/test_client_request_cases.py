"""What a caller may not pass, through `httpio.client`: the error comes before a byte is sent."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import corpus
import httpio
from httpio import ExcessBodyData, StateError
from httpio.client import CannotSendRequest, HTTPConnection
from test_request_cases import arguments

ERRORS: dict[str, Any] = {
    "ValueError": ValueError,
    "InvalidURL": (httpio.InvalidURL, UnicodeEncodeError),
    "TypeError": TypeError,
    "ExcessBodyData or StateError (a body-length error)": (ExcessBodyData, StateError),
}

# Rows whose outcome is another of those that the row allows: it is sent, as by http.client.
TAKEN_INSTEAD = {"RQ-023", "RQ-024", "RQ-025", "RQ-062", "RQ-069", "RQ-094", "RQ-095", "RQ-097", "RQ-098"}
# Rows about a sequence of calls: the states of http.client allow or refuse it.
SEQUENCES = {"RQ-101", "RQ-102", "RQ-105", "RQ-106"}
# The fault is seen when the body is drawn: the connection is closed.
LATE = {"RQ-086", "RQ-088", "RQ-089"}
# A file without a length is chunked: there is none to hold to, and all that is read is sent.
CHUNKED = {"RQ-089", "RQ-090"}


class Recorder:
    """A stand-in for a socket, which keeps what is sent."""

    def __init__(self) -> None:
        self.sent = b""
        self.closed = False

    def sendall(self, data: Any) -> None:
        self.sent += bytes(memoryview(data))

    def setsockopt(self, *_: object) -> None:
        """It has none."""

    def makefile(self, mode: str) -> io.BytesIO:
        """A proxy's answer to CONNECT."""
        return io.BytesIO(b"HTTP/1.0 200 Connected\r\n\r\n")

    def close(self) -> None:
        self.closed = True


class Connected(HTTPConnection):
    """A connection to a `Recorder`; `socks` are all that it has made."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.socks: list[Recorder] = []
        self._create_connection = self.connected

    def connected(self, *_: object) -> Recorder:
        self.socks.append(Recorder())
        return self.socks[-1]

    @property
    def sent(self) -> bytes:
        return b"".join(sock.sent for sock in self.socks)


def connection(row: corpus.Row) -> Connected:
    conn = Connected(row["call"].get("host", "h"))
    if "tunnel" in row["call"]:
        conn.set_tunnel(*row["call"]["tunnel"])
    return conn


def by_request(conn: Connected, given: dict[str, Any]) -> None:
    conn.request(given["method"], given["path"], given["body"], dict(given["headers"] or {}))


def step_by_step(conn: Connected, given: dict[str, Any]) -> None:
    headers = given["headers"] or {}
    pairs = list(headers.items() if isinstance(headers, dict) else headers)
    names = {name.lower() for name, _ in pairs}
    conn.putrequest(given["method"], given["path"], skip_host="host" in names)
    body = given["body"]
    chunked = False
    if body is not None and not names & {"content-length", "transfer-encoding"}:
        if isinstance(body, bytes):
            conn.putheader("Content-Length", len(body))
        else:
            conn.putheader("Transfer-Encoding", "chunked")
            chunked = True
    for name, value in pairs:
        conn.putheader(name, value)
    conn.endheaders(body, encode_chunked=chunked)


def as_bytes(conn: Connected, given: dict[str, Any]) -> None:
    """Names and values in bytes."""
    headers = given["headers"] or {}
    pairs = list(headers.items() if isinstance(headers, dict) else headers)
    coded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
    conn.putrequest(given["method"], given["path"], skip_host=len(coded) == 1 and coded[0][0] == b"Host")
    for name, value in coded:
        conn.putheader(name, value)
    conn.endheaders(given["body"])


CALLS: dict[str, Callable[[Connected, dict[str, Any]], None]] = {
    "request": by_request,
    "putrequest": step_by_step,
    "bytes": as_bytes,
}
ROWS = [row for row in corpus.requests() if row["id"] not in SEQUENCES]
REFUSED = [row for row in ROWS if row["expect"] != "ok" and row["id"] not in {*LATE, *TAKEN_INSTEAD}]
ACCEPTED = [row for row in ROWS if row["id"] not in LATE and row not in REFUSED]


def fits(row: corpus.Row, call: str) -> bool:
    """Whether the row can be said by that call."""
    headers = row["call"].get("headers")
    if call == "request":  # which takes a mapping
        return not isinstance(headers, list) or len({name for name, _ in headers}) == len(headers)
    if call == "bytes":  # in bytes, what is not ASCII is some other text, or none
        pairs = headers.items() if isinstance(headers, dict) else headers or []
        return (
            headers is not None and "body" not in row["call"] and all((name + value).isascii() for name, value in pairs)
        )
    return True


def cases(rows: list[corpus.Row]) -> Any:
    pairs = [(row, call) for row, call in itertools.product(rows, CALLS) if fits(row, call)]
    return pytest.mark.parametrize(("row", "call"), pairs, ids=[f"{row['id']}-{call}" for row, call in pairs])


@cases(REFUSED)
def test_refused(row: corpus.Row, call: str, tmp_path: Path) -> None:
    kind = ERRORS[row["expect"]]
    if row["id"] == "RQ-064" or "host" in row["call"]:
        with pytest.raises(kind):
            connection(row)
        return
    conn = connection(row)
    with pytest.raises(kind):
        CALLS[call](conn, arguments(row, tmp_path))
    assert conn.sent == b""
    if call == "request" and "tunnel" not in row["call"]:
        conn.request("GET", "/behind")
        assert conn.sent.startswith(b"GET /behind HTTP/1.1\r\n")
        assert conn.sent.count(b"\r\n\r\n") == 1
        assert len(conn.socks) == 1


@cases(REFUSED)
def test_refused_on_a_connection_in_use(row: corpus.Row, call: str, tmp_path: Path) -> None:
    """Nothing of it is sent, and nothing of it is sent with the next one."""
    if "host" in row["call"] or "tunnel" in row["call"]:
        pytest.skip("it is about connecting")
    conn = connection(row)
    conn.connect()
    with pytest.raises(ERRORS[row["expect"]]):
        CALLS[call](conn, arguments(row, tmp_path))
    assert conn.sent == b""
    if call != "request":  # a request by steps is begun, and stays so, as in http.client
        with pytest.raises(CannotSendRequest):
            conn.putrequest("GET", "/")
        conn.close()
    conn.request("GET", "/behind")
    assert conn.sent == b"GET /behind HTTP/1.1\r\nHost: h\r\nAccept-Encoding: identity\r\n\r\n"


@cases([row for row in ROWS if row["id"] in LATE])
def test_late_fault_of_a_body(row: corpus.Row, call: str, tmp_path: Path) -> None:
    given = arguments(row, tmp_path)
    if call == "putrequest" and row["id"] == "RQ-088":
        given["headers"] = {"Content-Length": "10"}
    conn = connection(row)
    if row["id"] in CHUNKED:
        CALLS[call](conn, given)
        assert conn.sent.endswith(b"\r\n0\r\n\r\n")
        return
    with pytest.raises(ERRORS[row["expect"]]):
        CALLS[call](conn, given)
    body = conn.sent.partition(b"\r\n\r\n")[2]
    assert not body.endswith(b"0\r\n\r\n")
    assert len(body) <= 10
    assert conn.sock is None
    assert conn.socks[0].closed


@cases(ACCEPTED)
def test_accepted(row: corpus.Row, call: str, tmp_path: Path) -> None:
    conn = connection(row)
    given = arguments(row, tmp_path)
    if "tunnel" in row["call"]:
        conn.set_tunnel("")  # what is sent to the origin is the same without
    CALLS[call](conn, given)
    head, _, body = conn.sent.partition(b"\r\n\r\n")
    target = given["path"] or "/"
    assert head.startswith(f"{given['method']} {target} HTTP/1.1\r\n".encode())
    for name, value in (given["headers"] or {}).items():
        assert f"\r\n{name}: {value}\r\n".encode("latin-1") in head + b"\r\n"
    wanted = {"RQ-087": b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n"}
    if row["id"] in CHUNKED:
        assert body.endswith(b"\r\n0\r\n\r\n")
    else:
        assert body == wanted.get(row["id"], given["body"] if isinstance(given["body"], bytes) else b"")


def test_the_tables_are_about_rows_that_are_there() -> None:
    rows = {row["id"]: row for row in corpus.requests()}
    assert {*TAKEN_INSTEAD, *SEQUENCES, *LATE, *CHUNKED} <= set(rows)
    assert all("ok" in rows[name]["also"] for name in TAKEN_INSTEAD)


OF_FOUR_BYTES: dict[str, Callable[[], Any]] = {
    "bytes": lambda: b"body",
    "bytearray": lambda: bytearray(b"body"),
    "memoryview": lambda: memoryview(b"body"),
    "str": lambda: "body",
    "file": lambda: io.BytesIO(b"body"),
    "text file": lambda: io.StringIO("body"),
    "list": lambda: [b"bo", b"dy"],
    "generator": lambda: (piece for piece in (b"bo", b"", b"dy")),
}


@pytest.mark.parametrize("body", OF_FOUR_BYTES)
@pytest.mark.parametrize("declared", [0, 3, 5, 100])
def test_a_body_of_another_length_than_is_declared(body: str, declared: int) -> None:
    """It is never completed by the next request, and what is too much does not go out."""
    conn = Connected("h")
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        conn.request("PUT", "/", OF_FOUR_BYTES[body](), {"Content-Length": str(declared)})
    if conn.sent:
        assert isinstance(caught.value, ExcessBodyData if declared < 4 else StateError)
        assert len(conn.sent.partition(b"\r\n\r\n")[2]) <= declared
        assert conn.sock is None
        assert conn.socks[0].closed
    conn.request("GET", "/behind")
    assert conn.socks[-1].sent == b"GET /behind HTTP/1.1\r\nHost: h\r\nAccept-Encoding: identity\r\n\r\n"


@pytest.mark.parametrize("body", OF_FOUR_BYTES)
def test_a_body_of_the_length_that_is_declared(body: str) -> None:
    conn = Connected("h")
    conn.request("PUT", "/", OF_FOUR_BYTES[body](), {"Content-Length": "4"})
    assert conn.sent.endswith(b"\r\n\r\nbody")


def test_a_body_that_raises_is_given_up() -> None:
    def broken() -> Any:
        yield b"a part"
        raise ZeroDivisionError

    for headers in ({}, {"Content-Length": "100"}):
        conn = Connected("h")
        with pytest.raises(ZeroDivisionError):
            conn.request("PUT", "/", broken(), headers)
        assert conn.sock is None
        assert not conn.sent.endswith(b"0\r\n\r\n")
