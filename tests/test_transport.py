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
from httpio import POLLIN, POLLOUT, PollNeeded
from httpio.transport import (
    HANG_UP,
    READ_FROM_FILE,
    SENT_AT_ONCE,
    TLS_RECORD,
    Bell,
    TLSTransport,
    Transport,
)
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
    transport = TLSTransport(ours) if isinstance(ours, ssl.SSLSocket) else Transport(ours)
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
    assert PollNeeded(transport.fd, POLLIN).poll(20)
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


# -- sending from files --


def drain(peer: socket.socket, count: int) -> bytes:
    """So many bytes, which have been sent."""
    data = bytearray()
    while len(data) < count:
        data += peer.recv(count - len(data))
    return bytes(data)


@pytest.fixture
def plain() -> Iterator[tuple[Transport, socket.socket]]:
    ours, peer = socket.socketpair()
    with ours, peer:
        peer.settimeout(20)
        yield Transport(ours), peer


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    """A file of 2 MiB and a bit."""
    (tmp_path / "file").write_bytes(FILE)
    with (tmp_path / "file").open("rb") as file:
        yield file.fileno()


FILE = bytes(range(251)) * 8400
CANNOT = [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP]


def refuse(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Let sendfile(2) fail."""

    def sendfile(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "sendfile", sendfile)


sendfile = pytest.mark.skipif(not hasattr(os, "sendfile"), reason="the system has no sendfile")


@sendfile
@pytest.mark.parametrize("code", [None, *CANNOT])
def test_sendfile(code: int | None, plain: Pair, descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the place that is named, wherever the file stands; as much as fits; also where the kernel cannot."""
    transport, peer = plain
    assert transport.can_sendfile
    if code is not None:
        refuse(monkeypatch, code)
    os.lseek(descriptor, 5, os.SEEK_SET)
    assert transport.try_sendfile(descriptor, 1000, 10) == 10
    assert drain(peer, 10) == FILE[1000:1010]
    assert transport.try_sendfile(descriptor, len(FILE) - 3, 10) == 3
    assert drain(peer, 3) == FILE[-3:]
    for offset in (len(FILE), len(FILE) + 1):
        assert transport.try_sendfile(descriptor, offset, 10) == 0
    assert os.lseek(descriptor, 0, os.SEEK_CUR) == 5
    assert transport.clean


@sendfile
@pytest.mark.parametrize("code", [None, *CANNOT])
def test_sendfile_that_would_block(
    code: int | None, plain: Pair, descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport, peer = plain
    if code is not None:
        refuse(monkeypatch, code)
    offset = 0
    received = bytearray()
    while offset < len(FILE):
        taken = transport.try_sendfile(descriptor, offset, len(FILE) - offset)
        if taken is None:
            received += drain(peer, 50_000)
            continue
        assert 0 < taken <= (SENT_AT_ONCE if code is None else READ_FROM_FILE)
        offset += taken
    assert transport.send_wants == POLLOUT
    received += drain(peer, offset - len(received))
    assert bytes(received) == FILE


@sendfile
def test_sendfile_is_not_asked_for_too_much_at_once(plain: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large socket buffer could take all of a body before anybody listens."""
    asked: list[tuple[int, ...]] = []
    monkeypatch.setattr(os, "sendfile", lambda *args: asked.append(args) or args[-1])
    transport, _ = plain
    assert transport.try_sendfile(7, 5, 10 * SENT_AT_ONCE) == SENT_AT_ONCE
    assert transport.try_sendfile(7, 5, SENT_AT_ONCE - 1) == SENT_AT_ONCE - 1
    assert asked == [(transport.fd, 7, 5, SENT_AT_ONCE), (transport.fd, 7, 5, SENT_AT_ONCE - 1)]


@sendfile
@pytest.mark.parametrize("code", [errno.ECONNRESET, errno.EIO, errno.EBADF])
def test_sendfile_that_fails(code: int, plain: Pair, descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the stream counts for nothing after it: the system tells once of a reset."""
    transport, _ = plain
    refuse(monkeypatch, code)
    with pytest.raises(OSError, match=r"\w") as caught:
        transport.try_sendfile(descriptor, 0, 10)
    assert caught.value.errno == code
    assert not transport.clean


def test_there_is_no_sendfile_under_tls(pair: Pair) -> None:
    transport, _ = pair
    assert transport.can_sendfile == (hasattr(os, "sendfile") and not isinstance(transport, TLSTransport))


# -- whether the peer is there --


@pytest.mark.skipif(HANG_UP == 0, reason="the system does not tell")
@pytest.mark.parametrize("unread", [b"", b"unread"])
@pytest.mark.parametrize("end", ["finish", "close"])
def test_hung_up(end: str, unread: bytes, pair: Pair) -> None:
    """It is seen before what came is received."""
    transport, peer = pair
    assert not transport.hung_up()
    peer.sendall(unread)
    assert not transport.hung_up()
    if end == "finish":
        socket.socket.shutdown(peer, socket.SHUT_WR)
    else:
        peer.close()
    for _ in range(2):
        assert transport.hung_up()
    if unread:
        assert receive(transport) == unread
    assert transport.hung_up()


def test_hung_up_where_the_system_does_not_tell(plain: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("httpio.transport.HANG_UP", 0)
    transport, peer = plain
    peer.close()
    assert not transport.hung_up()


# -- TLS records --


class Records:
    """Stands in for an SSLSocket: what each send is given, and how it ends."""

    def __init__(self, *outcomes: OSError | None) -> None:
        self.outcomes = list(outcomes)
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> int:
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if outcome is not None:
            raise outcome
        self.sent.append(bytes(data))
        return len(data)


@pytest.fixture
def tls(authority: Authority) -> Iterator[TLSTransport]:
    ours, theirs = socket.socketpair()
    context = ssl.create_default_context(cafile=authority.ca)
    sock = context.wrap_socket(ours, server_hostname="localhost", do_handshake_on_connect=False)
    with sock, theirs:
        yield TLSTransport(sock)


def over(transport: TLSTransport, *outcomes: OSError | None) -> Records:
    """Let the transport's sends end so."""
    records = transport._ssl = Records(*outcomes)  # type: ignore[assignment]
    return records


DATA = memoryview(bytes(range(251)) * 20_000)


def test_a_send_takes_a_mebibyte_at_most(tls: TLSTransport) -> None:
    """However much the socket would take: whoever sends is to listen in between."""
    records = over(tls)
    assert tls.try_send(DATA) == SENT_AT_ONCE == 1 << 20
    assert [len(record) for record in records.sent] == [TLS_RECORD] * 64
    assert tls.try_send(DATA[SENT_AT_ONCE:]) == SENT_AT_ONCE
    assert b"".join(records.sent) == DATA[: 2 * SENT_AT_ONCE]
    assert tls.try_send(DATA[: TLS_RECORD + 1]) == TLS_RECORD + 1
    assert [len(record) for record in records.sent[-2:]] == [TLS_RECORD, 1]
    assert not tls.stuck


@pytest.mark.parametrize("error", [ConnectionResetError(errno.ECONNRESET, "reset"), ssl.SSLError(1, "bad record")])
def test_a_send_that_fails_at_its_second_record(error: OSError, tls: TLSTransport) -> None:
    """What is out is told; the next call tells of the failure, and so does each that follows."""
    records = over(tls, None, error)
    assert tls.try_send(DATA) == TLS_RECORD
    assert not tls.stuck
    for data in (DATA[TLS_RECORD:], b"", b"x"):
        with pytest.raises(OSError, match=r"\w") as caught:
            tls.try_send(data)
        assert caught.value is error
    assert records.sent == [DATA[:TLS_RECORD]]


def test_a_send_that_fails_at_its_first_record(tls: TLSTransport) -> None:
    error = BrokenPipeError(errno.EPIPE, "gone")
    records = over(tls, error)
    for _ in range(2):
        with pytest.raises(BrokenPipeError):
            tls.try_send(DATA)
    assert records.sent == []
    assert not tls.stuck


@pytest.mark.parametrize(
    ("want", "wants"), [(ssl.SSLWantWriteError(), POLLOUT), (ssl.SSLWantReadError(), POLLIN)], ids=["write", "read"]
)
def test_a_record_that_would_block_counts_as_sent(want: OSError, wants: int, tls: TLSTransport) -> None:
    """OpenSSL wants the same bytes again: they are sent before all others."""
    records = over(tls, None, want, want)
    assert tls.try_send(DATA[: 5 * TLS_RECORD]) == 2 * TLS_RECORD
    assert (tls.stuck, tls.send_wants) == (True, wants)
    assert tls.try_send(DATA[2 * TLS_RECORD : 3 * TLS_RECORD]) is None
    assert tls.stuck
    assert tls.try_send(b"") is None
    assert not tls.stuck
    assert tls.try_send(b"behind") == 6
    assert b"".join(records.sent) == bytes(DATA[: 2 * TLS_RECORD]) + b"behind"


def test_a_record_that_was_stuck_and_fails(tls: TLSTransport) -> None:
    error = ConnectionResetError(errno.ECONNRESET, "reset")
    over(tls, ssl.SSLWantWriteError(), error)
    assert tls.try_send(b"abc") == 3
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            tls.try_send(b"behind")
        assert not tls.stuck


# -- waking --


def test_a_bell_wakes_who_waits_now_or_next() -> None:
    bell = Bell()
    need = PollNeeded(bell.fd, POLLIN)
    assert not need.poll(0)
    bell.ring()
    assert need.poll()
    bell.silence()
    assert not need.poll(0)
    bell.silence()
    thread = threading.Thread(target=bell.ring)
    thread.start()
    assert need.poll(20)
    thread.join()
    bell.close()


def test_a_bell_never_blocks() -> None:
    bell = Bell()
    need = PollNeeded(bell.fd, POLLIN)
    for _ in range(100_000):
        bell.ring()
    for _ in range(100_000):
        if not need.poll(0):
            break
        bell.silence()
    assert not need.poll(0)
    bell.ring()
    assert need.poll(0)
    bell.close()


def test_a_bell_that_is_gone_is_rung_in_vain() -> None:
    bell = Bell()
    bell.close()
    bell.ring()
    bell.close()
