"""Transports: bytes in and out without blocking, over socket pairs and TLS."""

from __future__ import annotations

import errno
import io
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Authority
from httpio import POLLIN, POLLOUT
from httpio.transport import TLSTransport, Transport, open_transport
from servers.scripted import server_context

Pair = tuple[Transport, socket.socket]


@pytest.fixture(params=["plain", "tls"])
def pair(request: pytest.FixtureRequest, authority: Authority) -> Iterator[Pair]:
    """A transport, and the blocking socket of its peer."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(20)
    if request.param == "tls":
        context = server_context(authority.chain, authority.key)
        done: list[ssl.SSLSocket] = []
        thread = threading.Thread(target=lambda: done.append(context.wrap_socket(theirs, server_side=True)))
        thread.start()
        client = ssl.create_default_context(cafile=authority.ca)
        ours.settimeout(20)
        ours = client.wrap_socket(ours, server_hostname="localhost", suppress_ragged_eofs=False)
        thread.join(20)
        theirs = done[0]
    transport = open_transport(ours)
    assert isinstance(transport, TLSTransport) == (request.param == "tls")
    yield transport, theirs
    theirs.close()
    transport.close()
    ours.close()


def receive(transport: Transport, size: int = 65536) -> bytes:
    """What is here; more than one call where TLS has its own messages."""
    buffer = bytearray(size)
    for _ in range(50):
        count = transport.try_receive_into(buffer)
        if count is not None:
            return bytes(buffer[:count])
        threading.Event().wait(0.01)
    raise AssertionError("nothing came")


def test_nothing_is_there(pair: Pair) -> None:
    transport, _ = pair
    for _ in range(3):
        assert transport.try_receive_into(bytearray(10)) is None
        assert transport.receive_wants == POLLIN
    assert not transport.pending
    assert not transport.stuck


def test_both_ways(pair: Pair) -> None:
    transport, peer = pair
    assert transport.try_send(b"hello") == 5
    assert peer.recv(100) == b"hello"
    assert transport.try_send(memoryview(b"world")) == 5
    assert peer.recv(100) == b"world"
    peer.sendall(b"answer")
    assert receive(transport) == b"answer"


def test_a_small_buffer_leaves_the_rest_pending(pair: Pair) -> None:
    transport, peer = pair
    peer.sendall(b"abcdef")
    assert receive(transport, 2) == b"ab"
    assert transport.pending == isinstance(transport, TLSTransport)
    assert receive(transport) == b"cdef"
    assert not transport.pending


def test_size_limits_what_is_received(pair: Pair) -> None:
    transport, peer = pair
    peer.sendall(b"abcdef")
    assert receive(transport, 1) == b"a"
    buffer = bytearray(100)
    assert transport.try_receive_into(buffer, 2) == 2
    assert bytes(buffer[:3]) == b"bc\0"


def test_a_send_that_would_block(pair: Pair) -> None:
    """What counts as taken arrives, once, in order."""
    transport, peer = pair
    data = bytes(range(251)) * 40_000
    view, taken = memoryview(data), 0
    while (count := transport.try_send(view[taken : taken + 300_000])) is not None:
        assert count > 0
        taken += count
        if not transport.stuck:
            assert taken < len(data)
    assert transport.send_wants == POLLOUT
    received = bytearray()

    def read() -> None:
        while len(received) < len(data):
            received.extend(peer.recv(65536))

    thread = threading.Thread(target=read)
    thread.start()
    while taken < len(data) or transport.stuck:
        taken += transport.try_send(view[taken : taken + 300_000]) or 0
    thread.join(20)
    assert bytes(received) == data


@pytest.mark.parametrize("end", ["clean", "cut"])
def test_the_end_of_the_stream(end: str, pair: Pair) -> None:
    transport, peer = pair
    peer.sendall(b"last")
    if end == "clean" and isinstance(peer, ssl.SSLSocket):
        peer.settimeout(0)
        with pytest.raises(ssl.SSLWantReadError):
            peer.unwrap()
    socket.socket.shutdown(peer, socket.SHUT_WR)
    assert receive(transport) == b"last"
    for _ in range(2):
        assert receive(transport) == b""
    assert transport.clean == (end == "clean" or not isinstance(transport, TLSTransport))


def test_abort(pair: Pair) -> None:
    """It wakes who waits; what is received after it is no plaintext of the peer's, and no clean end."""
    transport, peer = pair
    peer.sendall(b"secret")
    transport.abort()
    transport.abort()
    buffer = bytearray(100)
    try:
        count = transport.try_receive_into(buffer)
    except OSError:
        count = 0
    assert count is not None
    assert bytes(buffer[:count]) in (b"", b"secret")
    try:
        while transport.try_receive_into(buffer):
            pass
    except OSError:
        pass
    else:
        assert not transport.clean
    with pytest.raises(OSError):  # noqa: PT011
        transport.try_send(b"more")
    transport.close()


def test_close_says_so(pair: Pair) -> None:
    transport, peer = pair
    transport.try_send(b"x")
    transport.close()
    assert peer.recv(10) == b"x"
    assert peer.recv(10) == b""  # under TLS it would raise without close_notify
    assert transport.fd == -1
    transport.close()


def test_close_never_waits(pair: Pair) -> None:
    transport, _ = pair
    while transport.try_send(bytes(300_000)) is not None:
        pass
    transport.close()
    assert transport.fd == -1


def test_detach(pair: Pair) -> None:
    transport, peer = pair
    sock = transport.detach()
    peer.sendall(b"on")
    sock.settimeout(20)
    assert sock.recv(10) == b"on"
    assert transport.fd == -1
    sock.close()


def test_a_reset(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        transport = Transport(socket.create_connection(listener.getsockname()))
        peer, _ = listener.accept()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    with pytest.raises(ConnectionResetError) as caught:
        transport.try_receive_into(bytearray(10))
    assert caught.value.errno == errno.ECONNRESET
    transport.close()


def test_one_sends_while_another_receives(pair: Pair) -> None:
    transport, peer = pair
    data = bytes(range(256)) * 8000
    got, echoed = bytearray(), bytearray()

    def echo() -> None:
        count = 0
        while count < len(data):
            piece = peer.recv(65536)
            count += len(piece)
            echoed.extend(piece)
            peer.sendall(piece)

    def send() -> None:
        sent = 0
        while sent < len(data) or transport.stuck:
            sent += transport.try_send(memoryview(data)[sent : sent + 100_000]) or 0

    threads = [threading.Thread(target=work) for work in (echo, send)]
    for thread in threads:
        thread.start()
    buffer = bytearray(65536)
    while len(got) < len(data):
        count = transport.try_receive_into(buffer)
        assert count != 0
        got += buffer[: count or 0]
    for thread in threads:
        thread.join(20)
    assert bytes(got) == bytes(echoed) == data


# -- splicing --


@pytest.mark.skipif(not hasattr(os, "splice"), reason="the system has no splice")
@pytest.mark.parametrize("mode", ["wb", "ab"])
def test_splice(mode: str, tmp_path: Path) -> None:
    ours, peer = socket.socketpair()
    with ours, peer, (tmp_path / "file").open(mode) as file:
        transport = Transport(ours)
        file.write(b"before ")
        splice = transport.splice_to(file)
        assert splice is not None
        assert splice.try_receive(100) is None
        peer.sendall(b"content")
        assert splice.try_receive(3) == 3
        splice.write(3)
        assert splice.try_receive(100) == 4
        splice.write(4)
        peer.shutdown(socket.SHUT_WR)
        assert splice.try_receive(100) == 0
        splice.close()
        file.write(b" behind")
    assert (tmp_path / "file").read_bytes() == b"before content behind"


def test_no_splice_where_there_is_no_file() -> None:
    ours, peer = socket.socketpair()
    with ours, peer:
        assert Transport(ours).splice_to(io.BytesIO()) is None
