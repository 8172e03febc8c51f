"""Request trailers: they follow every kind of body, and what cannot be one is refused."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Authority
from httpio import BodyFollowing, ExcessBodyData, HTTPConnection, Request, StateError, fetch
from serving import DATA, Serve, Store, answered, serving

FORBIDDEN = (
    "Content-Length", "transfer-encoding", "HOST", "Trailer", "Connection", "Content-Type", "Content-Encoding",
    "Content-Range", "Authorization", "TE", "Expect", "Range", "If-Match", "Cache-Control", "Max-Forwards",
)  # fmt: skip
SUM = hashlib.sha256(DATA).hexdigest()
BODIES: dict[str, Callable[[Path], Any]] = {
    "bytes": lambda path: DATA,
    "file": lambda path: path.open("rb"),
    "BytesIO": lambda path: io.BytesIO(DATA),
    "iterable": lambda path: iter([DATA[:1000], b"", DATA[1000:]]),
    "following": lambda path: BodyFollowing(),
}
TRAILERS: dict[str, tuple[Any, str | None]] = {
    "mapping": ({"X-Sum": SUM, "X-End": "yes"}, "X-Sum, X-End"),
    "pairs": ([("X-Sum", SUM), ("X-End", "yes")], "X-Sum, X-End"),
    "iterator": (lambda: iter([("X-Sum", SUM), ("X-End", "yes")]), None),
    "function": (lambda: {"X-Sum": SUM, "X-End": "yes"}, None),
}


@pytest.fixture
def served(authority: Authority, tmp_path: Path) -> Iterator[Serve]:
    with serving(authority, tmp_path) as serve:
        yield serve


def send(conn: HTTPConnection, body: Any, **options: Any) -> None:
    """Send a PUT, and write its body where that follows."""
    conn.send_request("PUT", "/", body=body, **options)
    if isinstance(body, BodyFollowing):
        conn.write(DATA)
        conn.end_body()


@pytest.mark.parametrize("kind", TRAILERS)
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("way", ["plain", "tls"])
def test_they_follow_the_body(way: str, body: str, kind: str, served: Serve, tmp_path: Path) -> None:
    store = Store()
    server, conn = served(store, way)
    (tmp_path / "file").write_bytes(DATA)
    trailers, names = TRAILERS[kind]
    send(conn, BODIES[body](tmp_path / "file"), trailers=trailers)
    send(conn, BODIES[body](tmp_path / "file"), trailers=trailers, headers={"Trailer": "X-Own"})
    answered(conn, "/", "/")
    assert store.bodies == [DATA, DATA, b""]
    assert store.trailers == [[b"X-Sum: " + SUM.encode(), b"X-End: yes"]] * 2 + [[]]
    assert [seen.field("Trailer") for seen in server.seen] == [names, "X-Own", None]
    assert [seen.field("Transfer-Encoding") for seen in server.seen] == ["chunked", "chunked", None]
    assert [seen.field("Content-Length") for seen in server.seen] == [None] * 3


def test_a_function_is_asked_when_the_body_has_been_drawn(served: Serve) -> None:
    store = Store()
    _, conn = served(store)
    events: list[str] = []
    total = hashlib.sha256()

    def body() -> Iterator[bytes]:
        for start in range(0, len(DATA), 100_000):
            events.append("piece")
            total.update(DATA[start : start + 100_000])
            yield DATA[start : start + 100_000]
        events.append("end")

    def trailers() -> dict[str, str]:
        events.append("trailers")
        return {"X-Sum": total.hexdigest()}

    conn.send_request("PUT", "/", body=body(), trailers=trailers)
    assert events == [*["piece"] * 4, "end", "trailers"]
    file = io.BytesIO(DATA)
    conn.send_request("PUT", "/", body=file, trailers=lambda: {"X-Position": str(file.tell())})
    answered(conn, "/", "/")
    assert store.trailers == [[b"X-Sum: " + SUM.encode()], [b"X-Position: %d" % len(DATA)], []]


def test_the_end_may_bring_its_own(served: Serve) -> None:
    """What end_body is given goes out in place of the other, which is not asked for; what is wrong costs nothing."""
    store = Store()
    _, conn = served(store)
    for trailers in ({"X-A": "1"}, lambda: [][0], lambda: {"Host": "x"}, None):
        conn.send_request("PUT", "/", body=BodyFollowing(), trailers=trailers)
        conn.write(b"body")
        for wrong in ({"Host": "x"}, {"X": "a\r\nb"}, lambda: {"TE": "x"}):
            with pytest.raises(ValueError, match=r"trailer|value"):
                conn.end_body(wrong)
        if callable(trailers):
            with pytest.raises((IndexError, ValueError)):
                conn.end_body()
        conn.end_body(lambda: [("X-B", "2")])
    conn.send_request("PUT", "/", body=BodyFollowing(), trailers={"X-A": "1"})
    conn.end_body({})
    answered(conn, *["/"] * 5)
    assert store.trailers == [*[[b"X-B: 2"]] * 4, [], []]


@pytest.mark.parametrize("connected", [False, True])
def test_refused(connected: bool, served: Serve, tmp_path: Path) -> None:
    """Before a byte is sent, and before a connection is made for it."""
    server, conn = served(Store())
    (tmp_path / "file").write_bytes(DATA)
    if connected:
        conn.connect()
    with (tmp_path / "file").open("rb") as file:
        bodies = [b"x", file, [b"x"], BodyFollowing(), BodyFollowing(1)]
        for body in bodies:
            for name in FORBIDDEN:
                with pytest.raises(ValueError, match="trailer"):
                    conn.send_request("PUT", "/", body=body, trailers={name: "1"})
            for bad in ({"X Y": "1"}, {"X": "a\nb"}):
                with pytest.raises(ValueError, match=r"name|value|field"):
                    conn.send_request("PUT", "/", body=body, trailers=bad)
            with pytest.raises(ValueError, match="Content-Length"):
                conn.send_request("PUT", "/", {"Content-Length": "1"}, body, trailers={"X": "1"})
            with pytest.raises(ValueError, match="Trailer"):
                conn.send_request("PUT", "/", {"Trailer": "Host"}, body, trailers={"X": "1"})
        assert file.tell() == 0
    for nothing in (None, b""):
        with pytest.raises(ValueError, match="trailers"):
            conn.send_request("PUT", "/", body=nothing, trailers={"X": "1"})
    assert (conn.peername is not None) == connected
    for error, trailers in ((IndexError, lambda: [][0]), (ValueError, lambda: {"Host": "1"})):
        with pytest.raises(error):
            conn.send_request("PUT", "/", body=b"x", trailers=trailers)
    answered(conn)
    assert server.targets() == ["/behind"]


def test_in_a_pipeline(served: Serve) -> None:
    store = Store()
    server, conn = served(store)

    def requests(base: str) -> list[Any]:
        return [
            f"{base}/0",
            Request("PUT", f"{base}/1", body=DATA, trailers={"X-Sum": SUM}),
            Request("PUT", f"{base}/2", body=iter([b"ab", b"cd"]), trailers=lambda: {"X-Sum": "2"}),
            Request("PUT", f"{base}/3", body=DATA, trailers=iter([("X-Sum", "3")])),
            f"{base}/4",
        ]

    assert [response.body for response in conn.pipeline(requests(""))] == [b"/0", b"/1", b"/2", b"/3", b"/4"]
    assert [result.content for result in fetch(requests(server.url))] == [b"/0", b"/1", b"/2", b"/3", b"/4"]
    sums = [[], [b"X-Sum: " + SUM.encode()], [b"X-Sum: 2"], [b"X-Sum: 3"], []]
    assert (store.bodies, store.trailers) == ([b"", DATA, b"abcd", DATA, b""] * 2, sums * 2)


@pytest.mark.parametrize("body", ["bytes", "BytesIO", "iterable"])
def test_that_fail_in_a_pipeline(body: str, served: Serve, tmp_path: Path) -> None:
    """What was asked for before is answered first."""
    _, conn = served(Store())

    requests = ["/0", "/1", Request("PUT", "/2", body=BODIES[body](tmp_path), trailers=lambda: [][0])]
    responses = conn.pipeline(requests)
    assert [next(responses).path, next(responses).path] == ["/0", "/1"]
    with pytest.raises(IndexError):
        next(responses)


def test_a_length_that_was_declared_is_held(served: Serve) -> None:
    """Though the body goes out in chunks."""
    store = Store()
    _, conn = served(store)
    conn.send_request("PUT", "/", body=BodyFollowing(5), trailers={"X": "1"})
    conn.write(b"123")
    with pytest.raises(StateError):
        conn.end_body()
    with pytest.raises(ExcessBodyData):
        conn.write(b"456")
    conn.write(b"45")
    conn.end_body()
    answered(conn, "/")
    assert (store.bodies, store.trailers) == ([b"12345", b""], [[b"X: 1"], []])
