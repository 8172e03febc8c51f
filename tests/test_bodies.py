"""Request bodies of every kind: all of one arrives, as it was declared."""

from __future__ import annotations

import errno
import gzip
import io
import mmap
import os
import select
import tempfile
import threading
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from conftest import Authority
from httpio import BodyFollowing, ExcessBodyData, StateError
from httpio.waiting import run
from servers.scripted import Peer, answers
from serving import BIG, DATA, WAYS, Serve, Store, answered, serving


@pytest.fixture
def served(authority: Authority, tmp_path: Path) -> Iterator[Serve]:
    with serving(authority, tmp_path) as serve:
        yield serve


@pytest.fixture
def sendfiles(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What os.sendfile has sent in each of its calls."""
    real = os.sendfile
    counts: list[int] = []

    def sendfile(*args: Any) -> int:
        counts.append(0)
        counts[-1] = real(*args)
        return counts[-1]

    monkeypatch.setattr(os, "sendfile", sendfile)
    return counts


# -- bytes --

VIEWS: dict[str, Callable[[], Any]] = {
    "bytearray": lambda: bytearray(DATA),
    "large items": lambda: memoryview(array("Q", DATA)),
    "floats": lambda: memoryview(array("d", DATA[:64])),
    "two dimensions": lambda: memoryview(DATA[:600]).cast("B", (20, 30)),
    "a part": lambda: memoryview(DATA)[100:-100],
    "no items": lambda: memoryview(array("Q")),
}


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("kind", VIEWS)
def test_views(kind: str, chunked: bool, served: Serve) -> None:
    """They count in bytes, whatever their items are: as a whole body, as a piece of one, and in writes."""
    store = Store()
    _, conn = served(store)
    view = VIEWS[kind]()
    data = bytes(view)
    conn.send_request("PUT", "/whole", {"Transfer-Encoding": "chunked"} if chunked and data else None, view)
    conn.send_request("PUT", "/pieces", None if chunked else {"Content-Length": str(2 * len(data))}, [view, view])
    conn.send_request("PUT", "/written", body=BodyFollowing(None if chunked else 2 * len(data)))
    if chunked or data:
        assert [conn.write(view), conn.write(view)] == [len(data), len(data)]
    if chunked:
        conn.end_body()
    answered(conn, "/whole", "/pieces", "/written")
    assert store.bodies == [data, data * 2, data * 2, b""]


def test_bytes_that_do_not_lie_together(served: Serve) -> None:
    """They are refused, and that costs nothing."""
    store = Store()
    server, conn = served(store)
    apart = memoryview(b"abcdef")[::2]
    with pytest.raises(ValueError, match="contiguous"):
        conn.send_request("PUT", "/", body=apart)
    assert server.connections == 0
    conn.send_request("PUT", "/", body=BodyFollowing(3))
    for partial in (False, True):
        with pytest.raises((ValueError, TypeError)):
            conn.write(apart, partial)
    conn.write(bytes(apart))
    answered(conn, "/")
    assert store.bodies == [b"ace", b""]


# -- writes --


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("length", [BIG, None])
def test_partial_writes(length: int | None, way: str, served: Serve) -> None:
    """Each takes what goes out now, and says how much that was: nothing, while the peer does not read."""
    store = Store(held=True)
    _, conn = served(store, way)
    data = memoryview(DATA * (BIG // len(DATA) + 1))[:BIG]
    conn.send_request("PUT", "/", body=BodyFollowing(length))
    assert conn.write(b"", partial=True) == 0
    taken = 0
    while taken < BIG:
        count = conn.write(data[taken:], partial=True)
        assert 0 <= count <= BIG - taken
        taken += count
        if count == 0:
            store.gate.set()
            assert select.select([], [conn.fileno()], [], 20)[1]
    assert store.gate.is_set()
    if length is None:
        conn.end_body()
    answered(conn, "/")
    assert store.bodies == [data, b""]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("length", [3, None])
def test_a_partial_write_is_on_its_way(length: int | None, way: str, served: Serve) -> None:
    """Nothing else has to be called for what it has taken."""
    here = threading.Event()

    def script(peer: Peer) -> None:
        peer.head()
        assert peer.take(8 if length is None else 3) == (b"3\r\nabc\r\n" if length is None else b"abc")
        here.set()
        peer.take(5 if length is None else 0)
        peer.answer(b"/")
        answers(peer)

    _, conn = served(script, way)
    conn.send_request("PUT", "/", body=BodyFollowing(length))
    assert conn.write(b"abc", partial=True) == 3
    assert here.wait(20)
    if length is None:
        conn.end_body()
    answered(conn, "/")


@pytest.mark.parametrize("way", WAYS)
def test_flush_sends_what_partial_writes_left(way: str, served: Serve) -> None:
    wanted: SimpleQueue[int] = SimpleQueue()
    here = threading.Event()
    bodies = []

    def script(peer: Peer) -> None:
        assert peer.request() is not None
        peer.answer(b"/first")
        assert peer.head() is not None
        left = wanted.get(timeout=20)
        body = b""
        while len(body) < left:
            body += peer.take(int(peer.line(), 16))
            assert peer.line() == b""
        here.set()
        bodies.append(body + peer.chunks())
        peer.answer(b"/")
        answers(peer)

    _, conn = served(script, way)
    conn.flush()  # not connected: nothing to do
    conn.send_request("GET", "/first")
    conn.flush()
    conn.send_request("PUT", "/", body=BodyFollowing())
    taken = 0
    for _ in range(10_000):  # a megabyte of 100 bytes each would not fill the sockets
        count = conn.write(DATA, partial=True)
        taken += count
        if not count:
            break
    assert not count
    wanted.put(taken)
    conn.flush()
    assert here.wait(20)
    conn.end_body()
    answered(conn, "/first", "/")
    assert len(bodies[0]) == taken
    assert bodies[0] == (DATA[: 16 * 1024] * (taken // (16 * 1024) + 1))[:taken]


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_writes_that_are_refused_cost_nothing(way: str, partial: bool, served: Serve, tmp_path: Path) -> None:
    store = Store()
    _, conn = served(store, way)
    for length in (10, None):
        with pytest.raises(StateError):
            conn.write(b"x", partial)
        conn.send_request("PUT", f"/{length}", body=BodyFollowing(length))
        assert conn.write(b"01234", partial) == 5
        for bad in ("56789", 5, None, [b"5"]):
            with pytest.raises(TypeError):
                conn.write(bad, partial)  # type: ignore[arg-type]
        if length is not None:
            with pytest.raises(ExcessBodyData):
                conn.write(b"567890", partial)
            with pytest.raises(StateError):
                conn.end_body()
        assert conn.write(b"56789", partial) == 5
        if length is None:
            conn.end_body()
    answered(conn, "/10", "/None")
    assert store.bodies == [b"0123456789", b"0123456789", b""]


# -- files --


class OwnFileIO(io.FileIO):
    def read(self, size: Any = -1) -> bytes:
        return super().read(size).swapcase()


class OwnBuffered(io.BufferedReader):
    def read(self, size: Any = -1) -> bytes:
        return super().read(size).swapcase()


class OwnRaw(io.FileIO):
    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer)
        buffer[:count] = bytes(buffer[:count]).swapcase()
        return count

    def readall(self) -> bytes:
        return super().readall().swapcase()


CONTENT = b"Skipped" + b"aBcDeF7\n" * 40_000


def ahead(path: Path) -> Any:
    file = path.open("rb")
    file.read(3)  # and more is in its buffer
    return file


def changed(path: Path) -> Any:
    file = path.open("r+b")
    file.seek(100)
    file.write(b"UNFLUSHED")
    return file


def changed_ahead(path: Path) -> Any:
    file = path.open("r+b")
    file.seek(7)
    file.peek(100)
    file.write(b"UNFLUSHED")
    file.seek(7)  # inside its buffer: nothing is flushed
    return file


def copied(make: Callable[..., Any], *args: Any) -> Any:
    file = make(*args)
    file.write(CONTENT)
    return file


def zipped(path: Path) -> Any:
    with gzip.open(path, "wb") as file:
        file.write(CONTENT)
    return gzip.open(path, "rb")


def mapped(path: Path) -> Any:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


FILES: dict[str, tuple[Callable[[Path], Any], bool]] = {
    "rb": (lambda path: path.open("rb"), True),
    "read ahead": (ahead, True),
    "r+b": (lambda path: path.open("r+b"), True),
    "unflushed": (changed, True),
    "unflushed in its buffer": (changed_ahead, True),
    "FileIO": (lambda path: path.open("rb", buffering=0), True),
    "temporary": (lambda path: copied(tempfile.TemporaryFile), True),
    "named": (lambda path: copied(tempfile.NamedTemporaryFile), False),
    "spooled": (lambda path: copied(tempfile.SpooledTemporaryFile, 1 << 20), False),
    "rolled": (lambda path: copied(tempfile.SpooledTemporaryFile, 10), False),
    "BytesIO": (lambda path: io.BytesIO(CONTENT), False),
    "gzip": (zipped, False),
    "mmap": (mapped, False),
    "FileIO's own read": (OwnFileIO, False),
    "a reader's own read": (lambda path: OwnBuffered(io.FileIO(path)), False),
    "a raw file's own read": (lambda path: io.BufferedReader(OwnRaw(path)), False),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", FILES)
def test_files(kind: str, way: str, served: Serve, sendfiles: list[int], tmp_path: Path) -> None:
    """From their position to their end; inside the kernel where that gives what read() would."""
    store = Store()
    server, conn = served(store, way)
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    make, plain = FILES[kind]
    with make(path) as file:
        start = file.tell() or file.seek(7) or 7
        conn.send_request("PUT", "/", body=file)
        assert file.tell() == len(CONTENT)
        answered(conn, "/")
        assert file.read(1) == b""
        file.seek(start)
        sent = file.read()
    assert len(sent) == len(CONTENT) - start
    assert store.bodies == [sent, b""]
    if plain:
        assert sum(sendfiles) == (0 if way == "tls" else len(sent))
        assert server.seen[0].field("Content-Length") == str(len(sent))
    elif kind != "named":
        assert sendfiles == []
    if server.seen[0].field("Content-Length") is None:  # where it cannot be known
        assert kind in ("mmap", "spooled", "rolled")


@pytest.mark.parametrize("part", [False, True])
def test_a_pipe(part: bool, served: Serve, sendfiles: list[int]) -> None:
    store = Store()
    server, conn = served(store)
    reader, writer = os.pipe()
    thread = threading.Thread(target=lambda: (os.write(writer, DATA), os.close(writer)))
    thread.start()
    with open(reader, "rb") as file:
        conn.send_request("PUT", "/", body=BodyFollowing() if part else file)
        if part:
            assert conn.sendfile(file) == len(DATA)
            conn.end_body()
    thread.join(20)
    answered(conn, "/")
    assert server.seen[0].field("Transfer-Encoding") == "chunked"
    assert (store.bodies, sendfiles) == ([DATA, b""], [])


def test_a_trace_has_all_of_a_file(served: Serve, sendfiles: list[int], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    trace = io.BytesIO()
    store = Store()
    _, conn = served(store, trace=trace)
    with path.open("rb") as file:
        conn.send_request("PUT", "/", body=file)
        conn.send_request("PUT", "/part", body=BodyFollowing(len(DATA)))
        file.seek(0)
        assert conn.sendfile(file) == len(DATA)
    answered(conn, "/", "/part")
    assert (store.bodies, sendfiles) == ([DATA, DATA, b""], [])
    assert DATA[-1000:] in trace.getvalue()


@pytest.mark.parametrize("way", WAYS)
def test_a_declared_part_of_a_file(way: str, served: Serve, tmp_path: Path) -> None:
    """The caller's Content-Length counts; the file stands where its part ends."""
    store = Store()
    _, conn = served(store, way)
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with path.open("rb") as file:
        for length in (100_000, 0, 100_000):
            conn.send_request("PUT", "/", {"Content-Length": str(length)}, file)
        assert file.tell() == 200_000
    answered(conn, "/", "/", "/")
    assert store.bodies == [DATA[:100_000], b"", DATA[100_000:200_000], b""]


@pytest.mark.parametrize("way", WAYS)
def test_a_file_that_grows(way: str, served: Serve, tmp_path: Path) -> None:
    store = Store(held=True)
    _, conn = served(store, way)
    path = tmp_path / "file"
    path.write_bytes(bytes(BIG))
    with path.open("rb") as file:
        conn.connect()
        step = conn.co_send_request("PUT", "/", body=file)
        next(step)
        with path.open("ab") as more:
            more.write(b"later")
        store.gate.set()
        run(step)
        assert file.tell() == BIG
    answered(conn, "/")
    assert store.bodies == [bytes(BIG), b""]


@pytest.mark.parametrize("way", WAYS)
def test_a_part_that_grows(way: str, served: Serve, tmp_path: Path) -> None:
    """Its length is what it was at the call."""
    store = Store(held=True)
    _, conn = served(store, way)
    path = tmp_path / "file"
    path.write_bytes(bytes(BIG - 1))
    conn.send_request("PUT", "/", body=BodyFollowing(BIG - 1))
    with path.open("rb") as file:
        step = conn.co_sendfile(file)
        next(step)
        with path.open("ab") as more:
            more.write(b"later")
        store.gate.set()
        assert run(step) == file.tell() == BIG - 1
    answered(conn, "/")
    assert store.bodies == [bytes(BIG - 1), b""]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS])
@pytest.mark.parametrize("after", [0, 1])
def test_sendfile_that_is_not_there(
    after: int, code: int, served: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not for this file, this socket or this system: it is read instead."""
    real = os.sendfile
    calls = 0

    def sendfile(target: int, file: int, offset: int, count: int) -> int:
        nonlocal calls
        calls += 1
        if calls > after:
            raise OSError(code, os.strerror(code))
        return real(target, file, offset, min(count, 1000))

    monkeypatch.setattr(os, "sendfile", sendfile)
    store = Store()
    _, conn = served(store)
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with path.open("rb") as file:
        conn.send_request("PUT", "/", body=file)
        assert file.tell() == len(DATA)
    answered(conn, "/")
    assert calls > after
    assert store.bodies == [DATA, b""]


# -- files as parts --


@pytest.mark.parametrize("steps", [False, True])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_parts(way: str, chunked: bool, steps: bool, served: Serve, sendfiles: list[int], tmp_path: Path) -> None:
    """Files of several kinds between writes, in one body."""
    store = Store()
    _, conn = served(store, way)
    path = tmp_path / "file"
    path.write_bytes(DATA)
    kinds = [path.open("rb"), io.BytesIO(DATA), path.open("rb", buffering=0), io.BytesIO(b"")]
    body = b"begin" + (DATA + b"between") * 3 + b"between"
    conn.send_request("PUT", "/", body=BodyFollowing(None if chunked else len(body)))
    conn.write(b"begin")
    for file in kinds:
        with file:
            count = run(conn.co_sendfile(file)) if steps else conn.sendfile(file)
            assert count == file.tell()
        conn.write(b"between")
    if chunked:
        conn.end_body()
    answered(conn, "/")
    assert store.bodies == [body, b""]
    assert sum(sendfiles) == (0 if way == "tls" else 2 * len(DATA))


@pytest.mark.parametrize("way", WAYS)
def test_a_part_that_is_too_large(way: str, served: Serve, tmp_path: Path) -> None:
    """Nothing of it is sent, and the file stands where it stood."""
    store = Store()
    _, conn = served(store, way)
    path = tmp_path / "file"
    path.write_bytes(DATA)
    conn.send_request("PUT", "/", body=BodyFollowing(len(DATA)))
    conn.write(DATA[:1])
    for file in (path.open("rb"), path.open("rb", buffering=0), io.BytesIO(DATA)):
        with file:
            with pytest.raises(ExcessBodyData):
                conn.sendfile(file)
            assert file.tell() == 0
    with path.open("rb") as file:
        file.seek(1)
        assert conn.sendfile(file) == len(DATA) - 1
        with pytest.raises(StateError):
            conn.sendfile(file)
    answered(conn, "/")
    assert store.bodies == [DATA, b""]


@pytest.mark.parametrize("what", [io.StringIO("56789"), "56789", b"56789", None], ids=lambda what: type(what).__name__)
def test_a_part_that_is_no_binary_file(what: Any, served: Serve) -> None:
    """It is refused before anything of it is sent, and costs nothing."""
    store = Store()
    _, conn = served(store)
    conn.send_request("PUT", "/", body=BodyFollowing(5))
    with pytest.raises(TypeError):
        conn.sendfile(what)
    conn.write(b"56789")
    answered(conn, "/")


# -- iterables --


@pytest.mark.parametrize("length", [None, 12])
@pytest.mark.parametrize("way", WAYS)
def test_iterables(way: str, length: int | None, served: Serve) -> None:
    """An empty piece does not end the body, whatever it is."""
    store = Store()
    server, conn = served(store, way)
    pieces = [b"", b"ab", b"", bytearray(b"cd"), memoryview(b"efgh"), memoryview(b""), b"ijkl", bytearray(), b""]
    fields = None if length is None else {"Content-Length": str(length)}
    for body in (pieces, tuple(pieces), iter(pieces), (piece for piece in pieces), {b"abcdefgh": 1, b"ijkl": 2}.keys()):
        conn.send_request("PUT", "/", fields, body)
    answered(conn, *["/"] * 5)
    assert store.bodies == [*[b"abcdefghijkl"] * 5, b""]
    assert server.seen[0].field("Content-Length") == (None if length is None else str(length))


def test_nothing_at_all(served: Serve, tmp_path: Path) -> None:
    """An empty body of each kind."""
    store = Store()
    server, conn = served(store)
    empty = tmp_path / "file"
    empty.touch()
    with empty.open("rb") as file:
        bodies = [None, b"", file, io.BytesIO(), [], [b"", b""], iter(()), BodyFollowing(0), BodyFollowing()]
        for body in bodies:
            conn.send_request("PUT", "/", body=body)
    assert conn.write(b"") == conn.write(b"", partial=True) == conn.sendfile(io.BytesIO()) == 0
    conn.end_body()
    answered(conn, *["/"] * len(bodies))
    assert store.bodies == [b""] * (len(bodies) + 1)
    assert [seen.field("Content-Length") for seen in server.seen[:5]] == ["0", "0", "0", "0", None]
