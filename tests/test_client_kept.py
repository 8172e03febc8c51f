"""A kept connection of httpio.client: what comes on it between an answer and the next request answers nothing."""

from __future__ import annotations

import pickle
import select
import socket
import ssl
import threading
from typing import Any

import pytest

import httpio
from conftest import Contexts
from httpio import client
from httpio.client.file import file_of
from servers.scripted import WAIT, Peer, Scripted, answers

EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"


def connection(server: Scripted, context: ssl.SSLContext | None = None, **options: Any) -> client.HTTPConnection:
    if context is None:
        return client.HTTPConnection("127.0.0.1", server.port, timeout=20, **options)
    return client.HTTPSConnection("127.0.0.1", server.port, timeout=20, context=context, **options)


def until_readable(sock: Any) -> None:
    assert select.select([sock], [], [], WAIT)[0]


def get(conn: client.HTTPConnection, target: str) -> bytes:
    conn.request("GET", target)
    return conn.getresponse().read()


@pytest.mark.parametrize("read", [True, False], ids=["waiting in the socket", "received with the answer"])
def test_an_answer_that_nobody_asked_for(contexts: Contexts, read: bool) -> None:
    go = threading.Event()

    def script(peer: Peer) -> None:
        if peer.number:
            return answers(peer)
        peer.request()
        first = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst"
        if read:
            peer.send(first)
            assert go.wait(WAIT)
            peer.send(EVIL)
        else:
            peer.send(first + EVIL)
        peer.drain()
        return None

    theirs, ours = contexts
    with Scripted(script, theirs) as server:
        conn = connection(server, ours)
        assert get(conn, "/1") == b"first"
        go.set()
        if read:
            until_readable(conn.sock)
        assert get(conn, "/2") == b"/2"
        conn.close()
    assert server.connections == 2


def test_a_peer_that_has_closed(contexts: Contexts) -> None:
    """The request goes out on a new connection, before anything of it was lost."""

    def script(peer: Peer) -> None:
        if peer.number:
            return answers(peer)
        peer.request()
        peer.answer(b"first")
        if isinstance(peer.sock, ssl.SSLSocket):
            peer.notify()
        else:
            peer.finish()
        peer.drain()
        return None

    theirs, ours = contexts
    with Scripted(script, theirs) as server:
        conn = connection(server, ours)
        assert get(conn, "/1") == b"first"
        until_readable(conn.sock)
        assert get(conn, "/2") == b"/2"
        conn.close()


def test_a_peer_that_has_closed_and_auto_open_is_off() -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.answer(b"first")

    with Scripted(script) as server:
        conn = connection(server)
        assert get(conn, "/1") == b"first"
        until_readable(conn.sock)
        conn.auto_open = 0
        with pytest.raises(client.NotConnected):
            conn.request("GET", "/2")


def test_the_tickets_of_tls_1_3_are_no_answer(authority: Any) -> None:
    """They may come at any time; the connection is kept."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.chain, authority.key)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with Scripted(answers, context) as server:
        conn = connection(server, ssl.create_default_context(cafile=authority.ca))
        conn.connect()
        until_readable(conn.sock)  # they came behind the handshake, and nobody has read them
        file = client.HTTPResponse(conn.sock).fp
        assert file.in_order(conn.sock)
        assert conn.sock.gettimeout() == 20
        assert [get(conn, f"/{n}") for n in range(3)] == [b"/0", b"/1", b"/2"]
        conn.close()
    assert server.connections == 1


def test_requests_pipelined_by_hand_go_on() -> None:
    """Where answers are outstanding, what has come is not held against the connection."""
    with Scripted(answers) as server:
        conn: Any = connection(server)
        for number in range(3):
            conn.request("GET", f"/{number}")
            conn._HTTPConnection__state = "Idle"
        until_readable(conn.sock)
        found = []
        for _ in range(3):
            conn._HTTPConnection__state = "Request-sent"
            response = conn.getresponse()
            found.append(response.read())
        assert found == [b"/0", b"/1", b"/2"]
        conn.close()
    assert server.connections == 1


def test_the_file_closed_inside_a_body_ends_the_connection() -> None:
    """Nobody reads on where somebody else has stopped."""
    with Scripted(answers) as server:
        conn = connection(server)
        conn.request("GET", "/a-body")
        response = conn.getresponse()
        response.fp.close()
        response.close()
        assert get(conn, "/next") == b"/next"
        conn.close()
    assert server.connections == 2


def test_the_socket_closed_under_an_open_response() -> None:
    """What urllib.request does: the response keeps the connection for itself, and closes it at its end."""
    ended = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.answer(b"x" * 100_000)
        peer.drain()
        ended.set()

    with Scripted(script) as server:
        conn = connection(server)
        conn.request("GET", "/")
        response = conn.getresponse()
        sock = conn.sock
        sock.close()
        conn.sock = None
        assert len(response.read()) == 100_000
        assert sock.fileno() == -1
        assert ended.wait(WAIT)


def test_no_socket_and_no_file_is_kept_alive() -> None:
    """What is known of a socket ends with it, whether it was closed or forgotten."""
    with Scripted(answers) as server:
        conn = connection(server)
        assert get(conn, "/") == b"/"
        sock, key = conn.sock, id(conn.sock)
        file = file_of(sock)
        assert file is not None
        assert file.raw._sock is None
        sock.close()
        assert sock.fileno() == -1
        conn.sock = None
        del sock, file
        assert client.file._files.get(key) is None


def test_two_responses_on_one_socket_are_not_mixed_up() -> None:
    """The second can be read when the first has been; not before."""
    ours, theirs = socket.socketpair()
    theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\noneHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo")
    with ours, theirs:
        first, second = client.HTTPResponse(ours), client.HTTPResponse(ours)
        first.begin()
        with pytest.raises(client.RemoteDisconnected, match="an earlier response"):
            second.begin()
        assert first.read() == b"one"
        second.begin()
        assert second.read() == b"two"


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        ([b"3\r\n", b"abc\r\n", b"0;x\r\n", b"Trailer: t\r\n", b"\r\n"], True),
        ([b"3\r\n", b"abc\r\n", b"000\r\n", b"\r\n"], True),
        ([b"3\r\n", b"abc\r\n"], False),
        ([b"3\r\n", b"abc\r\n", b"0\r\n"], False),
        ([b"3\r\n", b"abc\r\n", b"\r\n"], False),  # no size, and so no end
        ([], False),
    ],
)
def test_chunks_that_others_read_by_lines(lines: list[bytes], kept: bool) -> None:
    """urllib3 does so, from `fp`. Behind the trailer section the connection is the next response's; nowhere else."""
    wire = b"3\r\nabc\r\n0;x\r\nTrailer: t\r\n\r\n" if b"0;x\r\n" in lines else b"".join(lines)

    def script(peer: Peer) -> None:
        if peer.number:
            return answers(peer)
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + wire)
        answers(peer)
        return None

    with Scripted(script) as server:
        conn = connection(server)
        conn.request("GET", "/")
        response = conn.getresponse()
        assert [response.fp.readline() for _ in lines] == lines
        response.close()
        assert get(conn, "/next") == b"/next"
        conn.close()
    assert server.connections == (1 if kept else 2)


def test_a_socket_of_the_callers_own_is_not_replaced() -> None:
    """Where the caller has made the way, as with STARTTLS, `connect` would make another one."""
    with (
        Scripted(answers) as other,
        Scripted(lambda peer: (peer.request(), peer.answer(b"first"))[0] and None) as server,
    ):
        conn = connection(other)
        conn.sock = socket.create_connection(("127.0.0.1", server.port))
        assert get(conn, "/1") == b"first"
        until_readable(conn.sock)
        with pytest.raises(client.RemoteDisconnected):
            conn.request("GET", "/secret")
        assert conn.sock is None
        assert get(conn, "/plain") == b"/plain"  # now the caller knows
        conn.close()
    assert other.targets() == ["/plain"]


def test_a_response_is_asked_for_again_after_a_timeout() -> None:
    """What has come of its head is not lost."""
    go = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 20")
        assert go.wait(WAIT)
        peer.send(b"0 OK\r\nContent-Length: 4\r\n\r\nbody")
        peer.drain()

    with Scripted(script) as server:
        conn = connection(server)
        conn.request("GET", "/")
        conn.sock.settimeout(0.05)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                conn.getresponse()
        go.set()
        conn.sock.settimeout(WAIT)
        assert conn.getresponse().read() == b"body"
        conn.close()


@pytest.mark.parametrize("framing", [b"Content-Length: 10\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_a_read_that_was_interrupted_loses_nothing_in_silence(framing: bytes) -> None:
    """It is gone on with where nothing is lost, and refused elsewhere: never a body with a hole."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.sendall(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n")
        response = client.HTTPResponse(ours)
        response.begin()
        chunked = b"chunked" in framing
        pieces = [b"5\r\nabcde\r\n", b"5\r\nfghij\r\n0\r\n\r\n"] if chunked else [b"abcde", b"fghij"]
        theirs.sendall(pieces[0])
        with pytest.raises(BlockingIOError):
            response.read()
        theirs.sendall(pieces[1])
        if chunked:
            assert response.read() == b"abcdefghij"
        else:
            with pytest.raises(OSError, match="interrupted") as caught:
                response.read()
            assert isinstance(caught.value, httpio.StateError)
        response.close()


def test_a_101_that_was_asked_for_leaves_the_socket() -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhello")
        assert peer.take(3) == b"hey"

    with Scripted(script) as server:
        conn = connection(server)
        conn.request("GET", "/", headers={"Connection": "upgrade", "Upgrade": "x"})
        response = conn.getresponse()
        assert response.status == 101
        assert response.fp.read(5) == b"hello"
        conn.sock.sendall(b"hey")
        conn.close()


def test_a_response_that_was_read_is_pickled() -> None:
    with Scripted(answers) as server:
        conn = connection(server)
        conn.request("GET", "/x")
        response = conn.getresponse()
        assert response.read() == b"/x"
        again = pickle.loads(pickle.dumps(response))
        assert (again.status, again.headers.items()) == (200, response.headers.items())
        conn.close()


def test_a_socket_closed_by_the_caller_is_replaced() -> None:
    with Scripted(answers) as server:
        conn = connection(server)
        assert get(conn, "/1") == b"/1"
        conn.sock.close()
        assert get(conn, "/2") == b"/2"
        conn.close()


def test_ports_and_numbers_as_others_give_them() -> None:
    with Scripted(answers) as server:
        conn = client.HTTPConnection("127.0.0.1", str(server.port))  # type: ignore[arg-type]
        conn.request("GET", "/", headers={b"X-Bytes": True, b"HOST": "a"})  # type: ignore[dict-item]
        assert conn.getresponse().read() == b"/"
        conn.close()
    assert server.seen[0].field("X-Bytes") == "True"
    assert server.seen[0].head.lower().count(b"host:") == 1


def test_chunks_under_a_length_are_refused() -> None:
    with Scripted(answers) as server:
        conn = connection(server)
        conn.putrequest("POST", "/")
        conn.putheader("Content-Length", "3")
        with pytest.raises(ValueError, match="both"):
            conn.endheaders(iter([b"abc"]), encode_chunked=True)
        conn.close()
    assert server.received() == 0
