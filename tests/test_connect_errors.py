"""Every error of the operating system, and of ssl, in connecting: what the caller gets, and that nothing is left."""

from __future__ import annotations

import errno
import itertools
import select
import socket
import ssl
import sys
from collections.abc import Callable
from typing import Any

import pytest

from conftest import Authority
from faults import (
    BIND,
    CONNECT,
    CONNECTED,
    GONE,
    HANDSHAKE,
    NAMES,
    SOCKET,
    TLS_ERRORS,
    Faults,
    kind_of,
    make,
    works_anew,
)
from httpio import ConnectionClosed, HTTPConnection, HTTPError, fetch
from servers.scripted import WAIT, Peer, Scripted, answers, server_context

# -- connecting --

AS_THEY_ARE = (
    "ECONNREFUSED", "ENETUNREACH", "EHOSTUNREACH", "EHOSTDOWN", "ENETDOWN", "EACCES", "EPERM", "EADDRNOTAVAIL",
    "EADDRINUSE", "EAFNOSUPPORT", "EPROTOTYPE", "ENOBUFS", "ENOMEM", "EINVAL", "EIO",
)  # fmt: skip
CONNECT_ERRORS = (*AS_THEY_ARE, *GONE, "ETIMEDOUT")


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    return Faults(monkeypatch)


def fail_connecting(conn: HTTPConnection, arm: Callable[[], None], name: str, faults: Faults) -> None:
    """Whatever connects meets the error, and leaves no socket."""
    for call in (conn.connect, lambda: conn.send_request("GET", "/never"), lambda: next(conn.pipeline(["/never"]))):
        arm()
        with pytest.raises(OSError) as caught:  # noqa: PT011 - which one is checked below
            call()
        assert faults.struck
        check_connecting(caught.value, name)
        assert all(sock.fileno() == -1 for sock in faults.sockets)
        assert conn.outstanding == ()
    faults.disarm()
    conn.timeout = WAIT
    works_anew(conn, faults)


def check_connecting(met: OSError, name: str) -> None:
    """A peer that goes away, and the system's time limit, are httpio's errors; the others are as they are."""
    code = getattr(errno, name)
    if name == "ETIMEDOUT" or name in GONE:
        assert type(met) is kind_of(make(name))
        assert isinstance(met.__cause__, OSError)
        assert met.__cause__.errno == code
        assert met.where == "connecting"
    else:
        assert not isinstance(met, HTTPError)
        assert met.errno == code


@pytest.mark.parametrize("kind", [CONNECT, CONNECTED])
@pytest.mark.parametrize("name", CONNECT_ERRORS)
def test_connecting(name: str, kind: str, faults: Faults) -> None:
    """At once, or after the wait."""
    with Scripted(answers) as server, HTTPConnection("127.0.0.1", server.port) as conn:
        fail_connecting(conn, lambda: faults.arm(kind, 0, make(name)), name, faults)
        assert server.connections <= 1 + 3 * (kind == CONNECTED)


@pytest.mark.parametrize("name", ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EACCES", "EAFNOSUPPORT", "EPROTONOSUPPORT"])
def test_making_a_socket(name: str, faults: Faults) -> None:
    with Scripted(answers) as server, HTTPConnection("127.0.0.1", server.port) as conn:
        fail_connecting(conn, lambda: faults.arm(SOCKET, 0, make(name)), name, faults)


@pytest.mark.parametrize("name", ["EADDRINUSE", "EADDRNOTAVAIL", "EACCES"])
def test_binding(name: str, faults: Faults) -> None:
    with (
        Scripted(answers) as server,
        HTTPConnection("127.0.0.1", server.port, source_address=("127.0.0.1", 0)) as conn,
    ):
        fail_connecting(conn, lambda: faults.arm(BIND, 0, make(name)), name, faults)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(SOCKET, "EAFNOSUPPORT"), *((kind, name) for kind in (CONNECT, CONNECTED) for name in CONNECT_ERRORS)],
)
def test_another_address(kind: str, name: str, faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one address fails with does not matter where another answers."""

    def two(host: str, port: int, **_: Any) -> list[Any]:
        found: list[Any] = [(socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET6, ("::ffff:127.0.0.1", port, 0, 0))]
        return [(family, socket.SOCK_STREAM, 6, "", address) for family, address in found]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    with Scripted(answers) as server, HTTPConnection("two.example", server.port, timeout=WAIT) as conn:
        faults.arm(kind, 2 * (kind == SOCKET), make(name))  # behind the two by which the look-up tells its end
        conn.connect()
        assert faults.struck
        works_anew(conn, faults)


@pytest.mark.parametrize("name", CONNECT_ERRORS)
def test_fetch_cannot_connect(name: str, faults: Faults) -> None:
    with Scripted(answers) as server:
        faults.arm(CONNECT, 0, make(name), again=True)
        for result in fetch([f"{server.url}/0", f"{server.url}/1"], timeout=WAIT):
            assert isinstance(result.error, OSError)
            check_connecting(result.error, name)
            assert result.attempts == 0
        assert server.connections == 0


def test_an_interrupted_connect_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """As connect(2) says; to call it again would be wrong."""
    connect_ex = socket.socket.connect_ex
    monkeypatch.setattr(socket.socket, "connect_ex", lambda *args: connect_ex(*args) and errno.EINTR)
    with Scripted(answers) as server, HTTPConnection("127.0.0.1", server.port, timeout=WAIT) as conn:
        conn.send_request("GET", "/0")
        assert conn.read_response().path == "/0"
        assert server.connections == 1


@pytest.mark.skipif(sys.platform == "win32", reason="there EWOULDBLOCK is what says that the connect goes on")
def test_a_connect_that_was_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """EAGAIN is a failure: there is nothing to wait for."""
    monkeypatch.setattr(socket.socket, "connect_ex", lambda *args: errno.EAGAIN)
    with HTTPConnection("127.0.0.1", 1) as conn:
        step = conn.co_connect()
        with pytest.raises(BlockingIOError):
            list(itertools.islice(step, 100))
        step.close()


def test_an_option_that_is_refused(faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS refuses it on a connection that the peer has closed already. It was asked for by nobody."""
    setsockopt, connect_ex = socket.socket.setsockopt, socket.socket.connect_ex
    connected: list[socket.socket] = []

    def refuse(sock: socket.socket, level: int, name: int, value: Any) -> None:
        if (level, name) == (socket.IPPROTO_TCP, socket.TCP_NODELAY) and sock in connected:
            raise make("EINVAL")
        setsockopt(sock, level, name, value)

    def connect(sock: socket.socket, address: Any) -> int:
        connected.append(sock)
        return connect_ex(sock, address)

    monkeypatch.setattr(socket.socket, "setsockopt", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", connect)
    with Scripted(answers) as server, HTTPConnection("127.0.0.1", server.port, timeout=WAIT) as conn:
        works_anew(conn, faults)


# -- the handshake --


@pytest.mark.parametrize("name", [*NAMES, *TLS_ERRORS])
def test_the_handshake(name: str, authority: Authority, faults: Faults) -> None:
    """The connection is established: whatever the system says of it, it is lost. What ssl says of the peer passes."""
    error = make(name)
    client = ssl.create_default_context(cafile=authority.ca)
    with Scripted(answers, server_context(authority.chain, authority.key)) as server:
        for number in itertools.count():
            faults.arm(HANDSHAKE, number, error)
            with HTTPConnection("127.0.0.1", server.port, client, timeout=WAIT) as conn:
                try:
                    conn.send_request("GET", "/0")
                except OSError as met:
                    check_handshake(met, error)
                else:
                    break
                assert faults.struck
                assert all(sock.fileno() == -1 for sock in faults.sockets)
                assert conn.outstanding == ()
                works_anew(conn, faults)
        assert number  # one call is enough where the peer has answered before it looks


def check_handshake(met: OSError, error: OSError) -> None:
    if type(error) in (ssl.SSLError, ssl.SSLCertVerificationError):
        assert met is error
    else:
        assert type(met) is kind_of(error)
        assert met.__cause__ is error
        assert met.where == "connecting"


def test_a_reset_before_the_handshake(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket is dead when ssl takes it."""
    wrap = ssl.SSLContext.wrap_socket

    def wrap_late(context: ssl.SSLContext, sock: socket.socket, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        assert select.select([sock], [], [], WAIT)[0]
        return wrap(context, sock, *args, **kwargs)

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", wrap_late)
    client = ssl.create_default_context(cafile=authority.ca)
    with Scripted(Peer.reset) as server, HTTPConnection("127.0.0.1", server.port, client, timeout=WAIT) as conn:
        for call in (conn.connect, lambda: conn.send_request("GET", "/0"), lambda: next(conn.pipeline(["/0"]))):
            with pytest.raises(ConnectionClosed) as caught:
                call()
            assert caught.value.where == "connecting"
            assert isinstance(caught.value.__cause__, OSError)
