"""Through a SOCKS5 proxy: microsocks, and one that is played by hand."""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from conformance.faces import FACES, Face
from conftest import Authority, ServeSocks
from httpio import HTTPConnection, ProxyError, is_temp_network_error
from proxied import TARGETS, Origin, collect, converse, run
from servers.program import held_port
from servers.scripted import END

LOGIN = ("us er", "w:o@r/d")
USERINFO = "us%20er:w%3Ao%40r%2Fd@"

BLOCKING_AND_ASYNCIO = ["blocking", "asyncio"]
FETCHES = ["fetch", "afetch"]
COUNT = 100

Start = Callable[..., Origin]


@pytest.fixture
def start(authority: Authority) -> Iterator[Start]:
    """A function that starts an origin: `start(tls=False, **options)`."""
    with contextlib.ExitStack() as started:
        yield lambda tls=False, **options: started.enter_context(Origin(authority, tls, **options))


def assert_served(origin: Origin) -> None:
    """All of `converse` came, on one connection, with nothing of the proxy in it."""
    assert origin.targets() == TARGETS
    assert origin.connections == 1
    origin.saw_no_secret()


# -- each face --


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_exchanges_with_a_password(tls: bool, face: str, start: Start, serve_socks: ServeSocks) -> None:
    origin, socks = start(tls), serve_socks(LOGIN)
    run(face, origin, f"socks5h://{USERINFO}127.0.0.1:{socks.port}", converse)
    assert socks.connected() == [("127.0.0.1", origin.port)]
    assert {seen.field("Host") for seen in origin.seen} == {origin.authority}
    assert_served(origin)


@pytest.mark.parametrize("userinfo", ["", USERINFO])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(("scheme", "told"), [("socks5", "127.0.0.1"), ("socks5h", "localhost")])
def test_who_looks_names_up(
    scheme: str, told: str, tls: bool, userinfo: str, start: Start, serve_socks: ServeSocks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """With socks5h the name goes to the proxy, and is looked up nowhere else. A password that it does not ask for does
    no harm."""
    asked: list[str] = []

    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))]

    origin, socks = start(tls), serve_socks()
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    run("blocking", origin, f"{scheme}://{userinfo}127.0.0.1:{socks.port}", converse, "LocalHost")
    assert socks.connected() == [(told, origin.port)]
    assert asked == ([] if scheme == "socks5h" else ["localhost"])
    assert {seen.field("Host") for seen in origin.seen} == {f"localhost:{origin.port}"}
    assert_served(origin)


@pytest.mark.parametrize("face", BLOCKING_AND_ASYNCIO)
def test_names_with_several_addresses(
    face: str, start: Start, serve_socks: ServeSocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the proxy cannot reach one of the addresses that this side has found, it is asked for the next."""
    origin, socks = start(), serve_socks()

    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, port)) for address in ("127.0.0.2", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    run(face, origin, f"socks5://127.0.0.1:{socks.port}", converse, "name.test")
    assert socks.connected() == [("127.0.0.1", origin.port)]
    assert_served(origin)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_an_address_of_ip_version_6(scheme: str, tls: bool, start: Start, serve_socks: ServeSocks) -> None:
    origin, socks = start(tls, six=True), serve_socks()
    run("blocking", origin, f"{scheme}://127.0.0.1:{socks.port}", converse)
    assert socks.connected() == [("::1", origin.port)]
    assert_served(origin)


# -- many requests --


@pytest.mark.parametrize("face", BLOCKING_AND_ASYNCIO)
def test_pipeline(face: str, start: Start, serve_socks: ServeSocks) -> None:
    origin, socks = start(True), serve_socks(LOGIN)
    targets = [f"/{number}" for number in range(COUNT)]

    async def program(face: Face, conn: Any) -> list[bytes]:
        return [response.body async for response in face.pipeline(conn, targets)]

    found = run(face, origin, f"socks5h://{USERINFO}127.0.0.1:{socks.port}", program)
    assert found == [target.encode() for target in targets]
    assert origin.targets() == targets
    assert len(socks.connected()) == 1


@pytest.mark.parametrize("kind", FETCHES)
def test_fetch(kind: str, start: Start, serve_socks: ServeSocks) -> None:
    plain, secured, socks = start(), start(True), serve_socks(LOGIN)
    urls = [f"{origin.base}/{number}" for origin in (plain, secured) for number in range(COUNT // 2)]
    proxy = f"socks5h://{USERINFO}127.0.0.1:{socks.port}"
    found = collect(kind, urls, proxy=proxy, ssl_context=secured.context, timeout=20)
    assert {url: found[url].content for url in urls} == {url: b"/" + url.rpartition("/")[2].encode() for url in urls}
    assert sorted(socks.connected(2)) == sorted([("127.0.0.1", plain.port), ("127.0.0.1", secured.port)])


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_the_command(
    tls: bool, start: Start, serve_socks: ServeSocks, get: Callable[..., CompletedProcess[str]], authority: Authority,
    tmp_path: Path,
) -> None:  # fmt: skip
    origin, socks = start(tls), serve_socks(LOGIN)
    proxy = f"socks5h://{USERINFO}127.0.0.1:{socks.port}"
    done = get([f"{origin.base}/it"], tmp_path / "got", "--proxy", proxy, "--cacert", str(authority.ca))
    assert done.returncode == 0, done.stderr
    assert [path.read_text() for path in (tmp_path / "got").rglob("*") if path.is_file()] == ["/it"]
    assert socks.connected() == [("127.0.0.1", origin.port)]


# -- refusals --


async def refused(face: Face, conn: Any) -> ProxyError:
    """The error of a connection that does not come about."""
    with pytest.raises(ProxyError) as caught:
        await face.call(conn, "connect")
    error = caught.value
    assert (error.where, error.response) == ("connecting", None)
    assert not is_temp_network_error(error)
    with pytest.raises(ProxyError):  # and so the next time
        await face.call(conn, "send_request", "GET", "/")
    return error


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("userinfo", ["", "us%20er:wrong@"])
def test_no_or_a_wrong_password(userinfo: str, face: str, start: Start, serve_socks: ServeSocks) -> None:
    origin, socks = start(), serve_socks(LOGIN)
    error = run(face, origin, f"socks5h://{userinfo}127.0.0.1:{socks.port}", refused)
    assert f"socks5h://127.0.0.1:{socks.port}" in str(error)
    assert "password" in str(error)
    assert "wrong" not in str(error)
    assert origin.connections == 0


@pytest.mark.parametrize("face", BLOCKING_AND_ASYNCIO)
@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_an_origin_that_cannot_be_reached(scheme: str, face: str, start: Start, serve_socks: ServeSocks) -> None:
    origin, socks = start(True), serve_socks()
    with held_port() as origin.port:  # nobody listens there
        error = run(face, origin, f"{scheme}://127.0.0.1:{socks.port}", refused)
        assert "refused" in str(error)
        assert f"127.0.0.1 port {origin.port}" in str(error)


@pytest.mark.parametrize("kind", FETCHES)
def test_fetch_with_a_wrong_password(kind: str, start: Start, serve_socks: ServeSocks) -> None:
    origin, socks = start(), serve_socks(LOGIN)
    urls = [f"{origin.base}/{number}" for number in range(20)]
    found = collect(kind, urls, proxy=f"socks5://us%20er:wrong@127.0.0.1:{socks.port}", timeout=20)
    assert len(found) == 20
    assert {type(result.error) for result in found.values()} == {ProxyError}
    assert origin.connections == 0


@pytest.mark.parametrize("face", FACES)
def test_an_origin_whose_certificate_nobody_vouches_for(face: str, start: Start, serve_socks: ServeSocks) -> None:
    origin, socks = start(True), serve_socks()
    origin.context = ssl.create_default_context()

    async def program(face: Face, conn: Any) -> None:
        with pytest.raises(ssl.SSLCertVerificationError):
            await face.call(conn, "send_request", "GET", "/")

    run(face, origin, f"socks5h://127.0.0.1:{socks.port}", program)
    assert origin.seen == []


def test_without_the_extra(start: Start, serve_socks: ServeSocks, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is missed when a connection is made, before the proxy is connected to."""
    origin, socks = start(), serve_socks()
    proxy = f"socks5h://127.0.0.1:{socks.port}"
    with held_port() as nobody, monkeypatch.context() as without:
        for name in [name for name in sys.modules if name.partition(".")[0] == "socksio"]:
            without.delitem(sys.modules, name)
        without.setitem(sys.modules, "socksio", None)

        async def program(face: Face, conn: Any) -> None:
            with pytest.raises(RuntimeError, match=r"pip install 'httpio\[socks\]'"):
                await face.call(conn, "connect")

        for face in FACES:
            run(face, origin, f"socks5h://127.0.0.1:{nobody}", program)
            run(face, origin, f"socks5://127.0.0.1:{nobody}", program, "name.test")
    run("blocking", origin, proxy, converse)
    assert_served(origin)


# -- by hand --


class ByHand:
    """The proxy's side of a connection, in the thread of the step that speaks with it."""

    def __init__(self, url: str, context: ssl.SSLContext | None = None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.conn = HTTPConnection("Origin.Test", 8080, context, url.format(port=port), timeout=20)
        self._step = self.conn.co_connect()
        self._need = next(self._step)
        self.sock = self._listener.accept()[0]
        self.sock.setblocking(False)

    def hears(self) -> bytes:
        """What the step sends before it waits, however often it is resumed."""
        data = b""
        for _ in range(50):
            self._need = self._step.send(None)
            with contextlib.suppress(BlockingIOError):
                data += self.sock.recv(1000)
        return data

    def says(self, reply: bytes) -> bool:
        """The step is given this byte by byte; returns whether it has ended with the last, and not before."""
        for index in range(len(reply)):
            self.sock.send(reply[index : index + 1])
            try:
                assert self._need.poll(20)
                self._need = self._step.send(None)
            except StopIteration:
                assert index == len(reply) - 1
                return True
        return False

    def close(self) -> None:
        self._step.close()
        self.conn.close()
        self.sock.close()
        self._listener.close()


BOUND = {
    "IPv4": b"\1\x7f\0\0\1\x1f\x90",
    "IPv6": b"\4" + bytes(15) + b"\1\x1f\x90",
    "a name": b"\3\x09localhost\x1f\x90",
    "a long name": b"\3\xff" + b"a" * 255 + b"\0\0",
    "no name": b"\3\0\0\0",
    "no UTF-8": b"\3\2\xff\xfe\0\0",
}
"""The address from which the proxy has connected."""


@pytest.mark.parametrize("bound", BOUND)
def test_steps_never_block(bound: str) -> None:
    """Byte by byte what RFC 1928 and RFC 1929 have it say, in one thread with the proxy; nothing behind it is read."""
    with contextlib.closing(ByHand("socks5h://us%20er:w%C3%B6rd@127.0.0.1:{port}")) as proxy:
        assert proxy.hears() == b"\5\2\0\2"
        assert not proxy.says(b"\5\2")
        assert proxy.hears() == b"\1\5us er\5w\xc3\xb6rd"
        assert not proxy.says(b"\1\0")
        assert proxy.hears() == b"\5\1\0\3\x0borigin.test\x1f\x90"
        assert proxy.says(b"\5\0\0" + BOUND[bound])
        proxy.conn.send_request("GET", "/x")
        request = proxy.sock.recv(1000)
        assert request.startswith(b"GET /x HTTP/1.1\r\n")
        assert request.endswith(END)
        proxy.sock.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        assert proxy.conn.read_response().status == 200
        assert proxy.conn.readall() == b"hi"


def test_steps_of_connect_never_block() -> None:
    """The same of an HTTP proxy, behind whose last byte TLS begins."""
    with contextlib.closing(ByHand("http://us%20er:word@127.0.0.1:{port}", ssl.create_default_context())) as proxy:
        assert proxy.hears().split(b"\r\n") == [
            b"CONNECT origin.test:8080 HTTP/1.1", b"Host: origin.test:8080",
            b"Proxy-Authorization: Basic dXMgZXI6d29yZA==", b"", b"",
        ]  # fmt: skip
        assert not proxy.says(b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n")
        assert proxy.hears()[:2] == b"\x16\3"
