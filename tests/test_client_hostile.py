"""httpio.client against peers, sockets and callers that mean it ill: nothing is lost in silence, nothing goes astray,
and nothing is waited for that cannot come."""

from __future__ import annotations

import contextlib
import pickle
import signal
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest

import httpio
from httpio import client
from servers.scripted import WAIT, Peer, Scripted, answers

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", [b"abc", b"defg", b"hij"]
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    [
        b"3\r\nabc\r\n",
        b"4\r\ndefg\r\n",
        b"3\r\nhij\r\n0\r\n\r\n",
    ],
)
CONTENT = b"abcdefghij"
SECOND = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond"


def into(response: Any) -> bytes:
    target = bytearray(100)
    return bytes(target[: response.readinto(target)])


READERS: dict[str, Callable[[Any], bytes]] = {
    "read()": lambda response: response.read(),
    "read(100)": lambda response: response.read(100),
    "read1()": lambda response: response.read1(),
    "readline()": lambda response: response.readline(),
    "readinto": into,
}


def connection(server: Scripted, **options: Any) -> client.HTTPConnection:
    return client.HTTPConnection("127.0.0.1", server.port, timeout=20, **options)


def get(conn: client.HTTPConnection, target: str) -> bytes:
    conn.request("GET", target)
    return conn.getresponse().read()


@pytest.mark.parametrize("message", [LENGTH, CHUNKED], ids=["length", "chunked"])
@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_socket_that_does_not_block(message: tuple[bytes, list[bytes]], read: Callable[[Any], bytes]) -> None:
    """What is handed out is the content's beginning, and all of it unless an error says otherwise."""
    head, pieces = message
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(head)
        response = client.HTTPResponse(ours)
        response.begin()
        ours.setblocking(False)
        got = b""
        failed = False
        for piece in [*pieces[:-1], pieces[-1] + SECOND]:
            theirs.sendall(piece)
            for _ in range(3):
                try:
                    got += read(response)
                except OSError:
                    failed = True
        assert CONTENT.startswith(got)
        assert got == CONTENT or (failed and not response.isclosed())


@pytest.mark.parametrize("message", [LENGTH, CHUNKED], ids=["length", "chunked"])
@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_read_that_a_signal_interrupts(message: tuple[bytes, list[bytes]], read: Callable[[Any], bytes]) -> None:
    class Alarm(Exception):
        pass

    def ring(*_: object) -> None:
        raise Alarm

    head, pieces = message
    ours, theirs = socket.socketpair()
    before = signal.signal(signal.SIGALRM, ring)
    try:
        with ours, theirs:
            ours.settimeout(WAIT)
            theirs.sendall(head + pieces[0])
            response = client.HTTPResponse(ours)
            response.begin()
            got = b""
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                while True:
                    got += read(response)
            except Alarm:
                pass
            theirs.sendall(b"".join(pieces[1:]))
            theirs.close()
            try:
                while data := read(response):
                    got += data
            except (httpio.HTTPError, OSError):
                assert CONTENT.startswith(got)
            else:
                assert got == CONTENT
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_look_does_not_forget_what_a_read_has_lost() -> None:
    """A read that was broken off inside a large chunk: what is handed out later has no hole."""

    class Alarm(Exception):
        pass

    def ring(*_: object) -> None:
        raise Alarm

    content = bytes(range(256)) * 400
    ours, theirs = socket.socketpair()
    before = signal.signal(signal.SIGALRM, ring)
    try:
        with ours, theirs:
            ours.settimeout(WAIT)
            theirs.sendall(CHUNKED[0] + b"%x\r\n" % len(content) + content[:30000])
            response = client.HTTPResponse(ours)
            response.begin()
            with contextlib.suppress(Alarm):
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                response.readinto(bytearray(len(content)))
            theirs.sendall(content[30000:40000])
            theirs.close()
            got = b""
            for _ in range(200):
                with contextlib.suppress(httpio.HTTPError, OSError):
                    got += response.read(1000)
            assert content.startswith(got)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_the_body_waits_for_100_no_longer_than_it_should_under_tls_1_3(authority: Any) -> None:
    """The session tickets make the socket readable, and are no answer."""

    def script(peer: Peer) -> None:
        seen = peer.head()
        assert seen is not None
        peer.answer(peer.take(3))

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.chain, authority.key)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with Scripted(script, context) as server:
        trusting = ssl.create_default_context(cafile=authority.ca)
        conn = client.HTTPSConnection("127.0.0.1", server.port, timeout=10, context=trusting)
        conn.expect_timeout = 0.05
        conn.request("PUT", "/", b"abc", {"Expect": "100-continue"})
        assert conn.getresponse().read() == b"abc"
        conn.close()


def test_half_an_answer_holds_the_body_no_longer_than_it_should() -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 1")
        body = peer.take(3)
        peer.send(b"00 Continue\r\n\r\n")
        peer.answer(body)

    with Scripted(script) as server:
        conn = client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        conn.expect_timeout = 0.05
        conn.request("PUT", "/", b"abc", {"Expect": "100-continue"})
        assert conn.getresponse().read() == b"abc"
        conn.close()


def test_a_head_that_dribbles_holds_the_body_no_longer_than_it_should() -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.sock.settimeout(0.02)
        while len(peer.buffer) < 3:  # the body
            peer.send(b"HTTP/1.1 103 Early Hints\r\nX: " if not begun else b"x")
            begun.append(1)
            with contextlib.suppress(TimeoutError):
                peer.receive()
        peer.send(b"\r\n\r\n")
        peer.answer(bytes(peer.buffer))

    begun: list[int] = []
    with Scripted(script) as server:
        conn = client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        conn.expect_timeout = 0.2
        conn.request("PUT", "/", b"abc", {"Expect": "100-continue"})
        assert conn.getresponse().read() == b"abc"
        conn.close()


def test_a_socket_with_files_of_its_own_waits_for_no_100() -> None:
    class Own(socket.socket):
        def makefile(self, *arguments: Any, **options: Any) -> Any:
            return super().makefile(*arguments, **options)

    def script(peer: Peer) -> None:
        peer.head()
        peer.answer(peer.take(3))

    with Scripted(script) as server, Own() as sock:
        sock.settimeout(WAIT)
        sock.connect(("127.0.0.1", server.port))
        conn = connection(server)
        conn.sock = sock
        conn.expect_timeout = 0.01
        conn.request("PUT", "/", b"abc", {"Expect": "100-continue"})
        assert conn.getresponse().read() == b"abc"
        conn.close()


def test_a_class_that_reads_its_own_status_line_does_not_swallow_100() -> None:
    class Own(client.HTTPResponse):
        def _read_status(self) -> tuple[str, int, str]:
            return super()._read_status()

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        peer.answer(peer.take(3))

    with Scripted(script) as server:
        conn = client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        conn.response_class = Own
        conn.request("PUT", "/", b"abc", {"Expect": "100-continue"})
        assert conn.getresponse().read() == b"abc"
        conn.close()


def test_a_socket_of_the_callers_is_not_made_again() -> None:
    """It may have been TLS, or led elsewhere: what was meant for it goes nowhere else."""

    def once(peer: Peer) -> None:
        peer.request()
        peer.answer(b"first")

    with Scripted(answers) as elsewhere, Scripted(once) as server:
        conn = connection(elsewhere)
        conn.sock = socket.create_connection(("127.0.0.1", server.port))
        assert get(conn, "/1") == b"first"
        server.settle(1)
        with pytest.raises((client.HTTPException, OSError)):
            get(conn, "/secret")
        conn.close()
        assert elsewhere.seen == []


def test_the_socket_closed_by_the_caller() -> None:
    """An error that programs catch, or a new connection."""
    with Scripted(answers) as server:
        conn = connection(server)
        assert get(conn, "/1") == b"/1"
        conn.sock.close()
        try:
            assert get(conn, "/2") == b"/2"
        except OSError:
            conn.close()


def test_a_port_in_text() -> None:
    with Scripted(answers) as server:
        conn = client.HTTPConnection("127.0.0.1", str(server.port), timeout=20)  # type: ignore[arg-type]
        assert get(conn, "/") == b"/"
        conn.close()
        assert server.seen[0].field("Host") == f"127.0.0.1:{server.port}"


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 O"], ids=["nothing has come", "half a head has"])
def test_the_answer_is_asked_for_again_after_a_timeout(begun: bytes) -> None:
    go = threading.Event()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate"

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(begun)
        assert go.wait(WAIT)
        peer.send(answer[len(begun) :])
        answers(peer)

    with Scripted(script) as server:
        conn = connection(server)
        conn.request("GET", "/1")
        conn.sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            conn.getresponse()
        conn.sock.settimeout(WAIT)
        go.set()
        assert conn.getresponse().read() == b"late"
        assert get(conn, "/2") == b"/2"
        conn.close()


def test_a_response_that_was_read_is_pickled() -> None:
    with Scripted(answers) as server:
        conn = connection(server)
        conn.request("GET", "/")
        response = conn.getresponse()
        response.read()
        assert pickle.loads(pickle.dumps(response)).getheader("Content-Length") == "1"
        conn.close()


def test_another_protocol_goes_on_over_the_connections_socket() -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        peer.send(peer.take(4))

    with Scripted(script) as server:
        conn = connection(server)
        conn.request("GET", "/", headers={"Connection": "upgrade", "Upgrade": "echo"})
        assert conn.getresponse().status == 101
        conn.sock.sendall(b"ping")
        assert conn.sock.recv(4) == b"ping"
        conn.close()


def test_an_empty_line_in_the_place_of_a_chunk_size_is_no_end() -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n")
        peer.drain()

    with Scripted(script) as server:
        conn = connection(server)
        conn.request("GET", "/")
        response = conn.getresponse()
        assert response.fp.readline() == b"\r\n"
        response.close()
        assert conn.sock is None


def test_an_unread_response_behind_one_that_was_read_line_by_line() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(chunked + b"0\r\n\r\n")
        peer.request()
        peer.send(chunked)
        peer.drain()

    with Scripted(script) as server:
        conn = connection(server)
        conn.request("GET", "/1")
        response = conn.getresponse()
        while response.fp.readline() != b"\r\n":
            pass
        response.close()
        assert conn.sock is not None
        conn.request("GET", "/2")
        conn.getresponse().close()
        assert conn.sock is None


def test_chunks_under_a_content_length_are_not_sent() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        conn = client.HTTPConnection("host")
        conn.sock = ours
        conn.putrequest("POST", "/")
        conn.putheader("Content-Length", "3")
        with pytest.raises(ValueError, match="Content-Length"):
            conn.endheaders(iter([b"abc"]), encode_chunked=True)
        conn.close()
        assert theirs.recv(1000) == b""
