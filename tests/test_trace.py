"""Traces: every byte that is sent and received, each piece behind its line; and a file that fails disturbs nobody."""

from __future__ import annotations

import io
import logging
import os
import re
import socket
import ssl
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Authority
from httpio import HTTPConnection
from httpio.trace import TracedTransport, open_trace
from httpio.transport import TLSTransport, Transport
from servers.scripted import Peer, Scripted, server_context

Piece = tuple[str, float, bytes]


def pieces(data: bytes) -> list[Piece]:
    """The pieces of a trace, read as its description says; all of it has to be pieces."""
    found = []
    while data:
        line = re.match(rb"\n(>>>|<<<) (\d+\.\d{6}) (\d+)\n", data)
        assert line is not None
        end = line.end() + int(line[3])
        assert len(data) >= end
        found.append((line[1].decode(), float(line[2]), data[line.end() : end]))
        data = data[end:]
    return found


def joined(found: list[Piece], direction: str) -> bytes:
    return b"".join(data for kind, _, data in found if kind == direction)


# -- opening --


def test_the_number_goes_into_the_name(tmp_path: Path) -> None:
    with open_trace(tmp_path / "100%s %d-%d %%.trace", 7) as file:
        file.write(b"x")
        assert (tmp_path / "100%s 7-7 %%.trace").read_bytes() == b"x"  # at once


def test_a_numbered_file_is_replaced_and_another_added_to(tmp_path: Path) -> None:
    for name, content in (("%d", b"second"), ("all", b"firstsecond")):
        for data in (b"first", b"second"):
            with open_trace(str(tmp_path / name), 1) as file:
                file.write(data)
        assert (tmp_path / name.replace("%d", "1")).read_bytes() == content


@pytest.mark.skipif(os.name != "posix", reason="files have no such modes")
def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        for name in ("%d", "all"):
            open_trace(tmp_path / name, 3).close()
            assert stat.S_IMODE((tmp_path / name.replace("%d", "3")).stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_trace(tmp_path / "no" / "folder", 1)


# -- one transport --


def test_each_piece_stands_behind_its_line() -> None:
    ours, peer = socket.socketpair()
    file = io.BytesIO()
    with ours, peer:
        transport = TracedTransport(Transport(ours), file)
        buffer = bytearray(5)
        assert transport.try_receive_into(buffer) is None
        assert file.getvalue() == b""
        assert transport.try_send(memoryview(b"two\nlines")) == 9
        assert peer.recv(100) == b"two\nlines"
        peer.sendall(b"an answer")
        assert transport.try_receive_into(buffer) == 5
        assert transport.try_receive_into(buffer, 2) == 2
        assert buffer == b"sw an"
        assert transport.try_receive_into(buffer) == 2
        peer.shutdown(socket.SHUT_WR)
        assert transport.try_receive_into(buffer) == 0
        transport.close()
    found = pieces(file.getvalue())
    assert [(kind, data) for kind, _, data in found] == [
        (">>>", b"two\nlines"),
        ("<<<", b"an an"),
        ("<<<", b"sw"),
        ("<<<", b"er"),
        ("<<<", b""),
    ]
    times = [since for _, since, _ in found]
    assert times == sorted(times)
    assert not file.closed


def test_only_what_was_taken_is_there() -> None:
    ours, peer = socket.socketpair()
    file = io.BytesIO()
    with ours, peer:
        transport = TracedTransport(Transport(ours), file)
        data = os.urandom(1_000_000)
        taken = 0
        while (count := transport.try_send(memoryview(data)[taken:])) is not None:
            taken += count
        assert taken < len(data)
        assert joined(pieces(file.getvalue()), ">>>") == data[:taken]


def test_no_way_past_it(tmp_path: Path) -> None:
    ours, peer = socket.socketpair()
    with ours, peer, (tmp_path / "file").open("wb") as file:
        transport = TracedTransport(Transport(ours), io.BytesIO())
        assert transport.splice_to(file) is None
        assert not transport.can_sendfile


@pytest.mark.parametrize("kind", [Transport, TLSTransport])
def test_it_has_all_that_a_transport_has(kind: type[Transport]) -> None:
    """A call that was inherited would go to a transport without a socket."""
    public = {name for name in vars(kind) if not name.startswith("_")} - {"try_sendfile"}
    assert public <= set(vars(TracedTransport))
    ours, peer = socket.socketpair()
    with ours, peer:
        transport = Transport(ours)
        traced = TracedTransport(transport, io.BytesIO())
        assert isinstance(traced, Transport)
        assert traced.traced is transport
        for name in vars(transport):
            assert getattr(traced, name) is getattr(transport, name)
        assert (traced.pending, traced.stuck) == (False, False)
        traced.abort()
        assert not traced.clean
        assert peer.recv(10) == b""
        assert traced.detach() is ours
        assert traced.fd == -1
        traced.drop()
        assert ours.fileno() == -1


# -- a connection --


def traced(conn: HTTPConnection, file: object) -> None:
    conn.connect()
    link = conn._link
    assert link.transport is not None
    link.transport = TracedTransport(link.transport, file)  # type: ignore[arg-type]


LARGE = os.urandom(300_000)
ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + LARGE,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab\ncd\r\n0\r\nX: y\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + LARGE,
]


def read(conn: HTTPConnection, folder: Path) -> list[bytes]:
    """Three bodies, each in another way."""
    conn.read_response()
    with (folder / "body").open("wb") as file:
        conn.write_to(file)
    conn.read_response()
    chunked = conn.readall()
    conn.read_response()
    buffer = bytearray(50_000)
    parts = []
    while count := conn.readinto(buffer):
        parts.append(bytes(buffer[:count]))
    return [(folder / "body").read_bytes(), chunked, b"".join(parts)]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_all_that_passes_is_in_the_trace(tls: bool, authority: Authority, tmp_path: Path) -> None:
    came = bytearray()

    def script(peer: Peer) -> None:
        while len(peer.server.seen) < 3:
            seen = peer.request()
            assert seen is not None
            came.extend(seen.head + seen.body)
        peer.send(b"".join(ANSWERS))

    context = server_context(authority.chain, authority.key) if tls else None
    client = ssl.create_default_context(cafile=authority.ca) if tls else None
    with (
        Scripted(script, context) as server,
        HTTPConnection("localhost", server.port, client, timeout=20) as conn,
        open_trace(tmp_path / "trace", 1) as file,
    ):
        traced(conn, file)
        conn.send_request("PUT", "/a", body=LARGE)
        conn.send_request("GET", "/b", {"X": "y"})
        conn.send_request("GET", "/c")
        assert read(conn, tmp_path) == [LARGE, b"ab\ncd", LARGE]
    found = pieces((tmp_path / "trace").read_bytes())
    assert joined(found, ">>>") == came
    assert joined(found, "<<<") == b"".join(ANSWERS)


class Failing(io.BytesIO):
    """Fails at its third write in the way that is asked for."""

    def __init__(self, fail: Callable[[], int | None]) -> None:
        super().__init__()
        self.writes = 0
        self.fail = fail

    def write(self, data: object) -> int:  # type: ignore[override]
        self.writes += 1
        return self.fail() if self.writes == 3 else super().write(data)  # type: ignore[return-value,arg-type]


def full() -> int:
    raise OSError("no space left on device")


def closed() -> int:
    raise ValueError("I/O operation on closed file")


@pytest.mark.parametrize("fail", [full, closed, lambda: 0], ids=["full", "closed", "takes nothing"])
def test_a_file_that_fails_ends_the_trace_only(
    fail: Callable[[], int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def script(peer: Peer) -> None:
        while peer.request():
            peer.send(ANSWERS[len(peer.server.seen) - 1])

    file = Failing(fail)
    with Scripted(script) as server, HTTPConnection("localhost", server.port, timeout=20) as conn:
        traced(conn, file)
        for target in ("/a", "/b", "/c"):
            conn.send_request("GET", target)
        with caplog.at_level(logging.WARNING, "httpio.trace"):
            assert read(conn, tmp_path) == [LARGE, b"ab\ncd", LARGE]
    assert file.writes == 3
    assert len(pieces(file.getvalue())) == 2
    assert [record.name for record in caplog.records] == ["httpio.trace"]


class Slow(io.RawIOBase):
    """Takes a few bytes at each write."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        taken = bytes(data[:7])
        self.data += taken
        return len(taken)


class Mute:
    """Does not say how much it has taken."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> None:
        self.data += data


@pytest.mark.parametrize("kind", [Slow, Mute])
def test_files_of_other_kinds(kind: type[Slow | Mute]) -> None:
    ours, peer = socket.socketpair()
    file = kind()
    with ours, peer:
        transport = TracedTransport(Transport(ours), file)  # type: ignore[arg-type]
        transport.try_send(b"0123456789")
        transport.try_send(b"abc")
    assert joined(pieces(bytes(file.data)), ">>>") == b"0123456789abc"
