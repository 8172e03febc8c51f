"""`httpio.contrib.urllib3` and `.requests`: which connections have httpio under them, and which have not."""

from __future__ import annotations

import http.client
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import httpio.client
from conftest import Authority
from servers.proxy import Proxy, relays, socks, tunnels
from servers.scripted import Peer, Scripted, server_context

if os.environ.get("CI") != "true":
    pytest.importorskip("requests")

import requests
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

import httpio.contrib.requests
from httpio.contrib.urllib3 import extract_from_urllib3, inject_into_urllib3, pool_class

SOURCE = Path(httpio.__file__).parent.parent
STANDARD, OURS = http.client.HTTPResponse, httpio.client.HTTPResponse


@pytest.fixture
def injected() -> Iterator[None]:
    inject_into_urllib3()
    yield
    extract_from_urllib3()


def served(peer: Peer) -> None:
    while (request := peer.request()) is not None:
        if request.target == "/chunked":
            peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n")
        elif request.target == "/cut":
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            return
        elif request.target == "/both":
            peer.send(
                b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
            )
        elif request.target.startswith("/fields/"):
            peer.answer(b"body", fields="X: a value of some length\r\n" * int(request.target[8:]))
        elif request.target == "/hints":
            peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
            peer.answer(b"body")
        else:
            peer.answer(request.body or b"body")


@pytest.fixture
def server() -> Iterator[Scripted]:
    with Scripted(served) as server:
        yield server


def under(response: Any) -> Any:
    """Whose class read the head, OURS or STANDARD: of a response of urllib3 or of requests."""
    raw = getattr(response, "raw", response)
    assert isinstance(raw._original_response, OURS | STANDARD)
    return OURS if isinstance(raw._original_response, OURS) else STANDARD


def get(pool: Any, url: str, **options: Any) -> Any:
    response = pool.request("GET", url, retries=False, **options)
    assert response.data == b"body"
    return response


# -- injection --


def test_importing_injects_nothing(server: Scripted) -> None:
    assert under(get(urllib3.PoolManager(), server.url)) is STANDARD


def test_inject_and_extract(server: Scripted) -> None:
    for _ in range(2):
        inject_into_urllib3()
        inject_into_urllib3()
        assert under(get(urllib3.PoolManager(), server.url)) is OURS
        extract_from_urllib3()
        assert HTTPConnection.__bases__[0] is http.client.HTTPConnection
        assert not issubclass(HTTPConnection, httpio.client.HTTPConnection)
        assert under(get(urllib3.PoolManager(), server.url)) is STANDARD
    bases = HTTPConnection.__bases__
    extract_from_urllib3()
    assert HTTPConnection.__bases__ == bases


def test_a_kept_connection_goes_on(server: Scripted) -> None:
    """Injected and extracted between the requests of one connection."""
    pool = urllib3.HTTPConnectionPool("127.0.0.1", server.port, maxsize=1)
    for expected in (STANDARD, OURS, STANDARD, OURS):
        (inject_into_urllib3 if expected is OURS else extract_from_urllib3)()
        for target in ("/", "/chunked", "/"):
            assert under(get(pool, target)) is expected
    extract_from_urllib3()
    assert server.connections == 1


def test_a_response_that_is_read_when_it_is_injected(server: Scripted) -> None:
    pool = urllib3.HTTPConnectionPool("127.0.0.1", server.port, maxsize=1)
    for first, then in ((inject_into_urllib3, extract_from_urllib3), (extract_from_urllib3, inject_into_urllib3)):
        first()
        response: Any = pool.request("GET", "/", preload_content=False)
        then()
        assert response.read() == b"body"
        response.release_conn()
        get(pool, "/")
    extract_from_urllib3()
    assert server.connections == 1


def test_connections_are_instances_of_all_their_ancestors(injected: None) -> None:
    for conn in (HTTPConnection("localhost"), HTTPSConnection("localhost")):
        assert isinstance(conn, HTTPConnection)
        assert isinstance(conn, httpio.client.HTTPConnection)
        assert isinstance(conn, http.client.HTTPConnection)


def test_classes_that_others_derived_before(server: Scripted) -> None:
    class Theirs(HTTPConnection):
        def request(self, *args: Any, **options: Any) -> None:
            asked.append(self)
            super().request(*args, **options)

    class Pool(urllib3.HTTPConnectionPool):
        ConnectionCls = Theirs

    asked: list[Any] = []
    inject_into_urllib3()
    try:
        assert under(get(Pool("127.0.0.1", server.port), "/")) is OURS
    finally:
        extract_from_urllib3()
    assert under(get(Pool("127.0.0.1", server.port), "/")) is STANDARD
    assert len(asked) == 2


def test_what_is_set_in_the_class_of_http_client(
    injected: None, server: Scripted, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    standard = http.client.HTTPConnection
    monkeypatch.setattr(standard, "debuglevel", 1)
    monkeypatch.setattr(standard, "_http_vsn", 10)
    monkeypatch.setattr(standard, "_http_vsn_str", "HTTP/1.0")
    get(urllib3.PoolManager(), server.url)
    assert capsys.readouterr().out.startswith("send: b'GET / HTTP/1.0")
    conn = HTTPConnection("127.0.0.1", server.port)
    conn.set_debuglevel(0)
    monkeypatch.setattr(standard, "auto_open", 0)
    assert (conn.debuglevel, conn.auto_open, conn._http_vsn) == (0, 0, 10)  # type: ignore[attr-defined]


def test_what_is_set_in_the_module_http_client(
    injected: None, server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By programs that do not know of httpio; what is set in httpio.client does not count."""
    pool = urllib3.PoolManager()
    monkeypatch.setattr(httpio.client, "_MAXHEADERS", 3)
    get(pool, f"{server.url}/fields/50")
    with pytest.raises(urllib3.exceptions.ProtocolError, match="more than 100 headers"):
        get(pool, f"{server.url}/fields/150")
    monkeypatch.setattr(http.client, "_MAXHEADERS", 200)
    get(pool, f"{server.url}/fields/150")
    monkeypatch.setattr(http.client, "_MAXLINE", 20)
    with pytest.raises(urllib3.exceptions.ProtocolError):
        get(pool, f"{server.url}/fields/1")


def test_debugging_is_printed_by_the_print_of_http_client(
    injected: None, server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[str] = []
    monkeypatch.setattr(http.client, "print", lambda *words: printed.append(str(words[0])), raising=False)
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    get(urllib3.PoolManager(), server.url)
    assert printed[0] == "send:"
    assert {"reply:", "header:"} <= set(printed)


@pytest.mark.parametrize("first", [inject_into_urllib3, extract_from_urllib3])
def test_injected_or_extracted_at_any_line_of_a_request(server: Scripted, first: Callable[[], None]) -> None:
    """As another thread might."""
    change = extract_from_urllib3 if first is inject_into_urllib3 else inject_into_urllib3
    files = {http.client.__file__, *(str(file) for file in Path(httpio.client.__file__).parent.iterdir())}
    pool = urllib3.HTTPConnectionPool("127.0.0.1", server.port, maxsize=1)

    def after(count: int) -> Callable[..., Any]:
        lines = iter(range(count))

        def trace(frame: FrameType, event: str, argument: object) -> Any:
            if frame.f_code.co_filename in files and next(lines, None) is None:
                sys.settrace(None)
                change()
            return trace if sys.gettrace() else None

        return trace

    inject_into_urllib3()
    for count in range(1, 2000, 3):
        first()
        sys.settrace(after(count))
        try:
            get(pool, "/")
        finally:
            reached, _ = sys.gettrace() is None, sys.settrace(None)
        if not reached:
            break
    extract_from_urllib3()
    assert 20 < count < 1999


def test_under_the_drop_in_nothing_is_left_to_inject() -> None:
    code = """
import httpio.dropin
httpio.dropin.install()
import urllib3.connection
import httpio.client, httpio.contrib.urllib3 as contrib
bases = urllib3.connection.HTTPConnection.__bases__
assert bases[0] is httpio.client.HTTPConnection
contrib.inject_into_urllib3()
assert urllib3.connection.HTTPConnection.__bases__ == bases
contrib.extract_from_urllib3()
assert urllib3.connection.HTTPConnection.__bases__ == bases
pool = contrib.pool_class(urllib3.HTTPConnectionPool)
assert pool.ConnectionCls is urllib3.connection.HTTPConnection
"""
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(SOURCE)}, check=True, timeout=60)


NOT_HTTP_CLIENT = """
import sys, types
fake = sys.modules["urllib3"] = types.ModuleType("urllib3")
fake.connection = sys.modules["urllib3.connection"] = types.ModuleType("urllib3.connection")
fake.connection.HTTPConnection = type("HTTPConnection", (type("Other", (), {}),), {})
try:
    import httpio.contrib.urllib3
except ImportError as exc:
    assert "http.client" in str(exc)
else:
    raise AssertionError
"""
INSTALLED_LATER = """
import http.client, urllib3.connection
standard = http.client.HTTPConnection
import httpio.dropin
httpio.dropin.install()
import httpio.client, httpio.contrib.urllib3 as contrib
assert urllib3.connection.HTTPConnection.__bases__[0] is standard
contrib.inject_into_urllib3()
assert issubclass(urllib3.connection.HTTPConnection, httpio.client.HTTPConnection)
"""

EXTRACTED_ALONE = """
import urllib3.connection, httpio.contrib.urllib3 as contrib
bases = urllib3.connection.HTTPConnection.__bases__
contrib.extract_from_urllib3()
assert urllib3.connection.HTTPConnection.__bases__ == bases
"""


@pytest.mark.parametrize("code", [NOT_HTTP_CLIENT, INSTALLED_LATER, EXTRACTED_ALONE])
def test_what_it_is_built_on(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(SOURCE)}, check=True, timeout=60)


# -- what urllib3 gains, and what stays --


@pytest.mark.parametrize("target", ["/", "/chunked", "/hints"])
def test_bodies(injected: None, server: Scripted, target: str) -> None:
    pool = urllib3.HTTPConnectionPool("127.0.0.1", server.port, maxsize=1)
    if target != "/hints":
        get(pool, target)
    response: Any = pool.request("GET", target, preload_content=False)
    assert response.status == 200
    assert b"".join(response.stream(3)) == b"body"


def test_refused_responses(server: Scripted) -> None:
    pool = urllib3.HTTPConnectionPool("127.0.0.1", server.port)
    get(pool, "/both")  # http.client and urllib3 take the chunks
    inject_into_urllib3()
    try:
        with pytest.raises(urllib3.exceptions.ProtocolError):
            get(pool, "/both")
    finally:
        extract_from_urllib3()


def test_a_short_body(injected: None, server: Scripted) -> None:
    with pytest.raises(urllib3.exceptions.ProtocolError) as caught:
        urllib3.PoolManager().request("GET", f"{server.url}/cut", retries=False)
    assert "IncompleteRead" in str(caught.value)


def test_field_lines_cannot_be_injected(injected: None, server: Scripted) -> None:
    pool = urllib3.PoolManager()
    with pytest.raises(ValueError, match="header value"):
        pool.request("GET", server.url, headers={"X": "one\r\nY: two"})
    assert server.seen == []


def test_tls_and_a_tunnel(injected: None, authority: Authority) -> None:
    options = {"ca_certs": str(authority.ca), "retries": False}
    with Scripted(served, server_context(authority.chain, authority.key)) as server, Proxy(tunnels()) as proxy:
        url = f"https://127.0.0.1:{server.port}/"
        for pool in (urllib3.PoolManager(**options), urllib3.ProxyManager(f"http://127.0.0.1:{proxy.port}", **options)):
            response: Any = pool.request("GET", url, preload_content=False)
            assert under(response) is OURS
            assert response.read() == b"body"
            response.release_conn()
            pool.clear()


# -- pools and sessions of one's own --


def test_pool_class(server: Scripted) -> None:
    own = pool_class(urllib3.HTTPConnectionPool)
    assert pool_class(urllib3.HTTPConnectionPool) is own
    assert issubclass(own, urllib3.HTTPConnectionPool)
    pool = own("127.0.0.1", server.port, maxsize=1)
    for target in ("/", "/chunked", "/"):
        assert under(get(pool, target)) is OURS
    assert pool.request("PUT", "/", body=b"given").data == b"given"
    assert pool.request("GET", "/", headers={"User-Agent": urllib3.util.SKIP_HEADER}).data == b"body"
    assert server.seen[-1].field("User-Agent") is None
    with pytest.raises(ValueError, match="G ET"):
        pool.request("G ET", "/")
    assert server.connections == 1
    assert under(get(urllib3.PoolManager(), server.url)) is STANDARD


def test_pool_class_stays_what_it_is(server: Scripted) -> None:
    """Made before, while and after it is injected, of a pool or of what it has made."""

    class Theirs(HTTPConnection):
        pass

    class Pool(urllib3.HTTPConnectionPool):
        ConnectionCls = Theirs

    inject_into_urllib3()
    try:
        own = pool_class(Pool)
        assert own is not Pool
        assert pool_class(own) is own
        assert under(get(own("127.0.0.1", server.port), "/")) is OURS
    finally:
        extract_from_urllib3()
    assert under(get(own("127.0.0.1", server.port), "/")) is OURS
    assert under(get(Pool("127.0.0.1", server.port), "/")) is STANDARD
    assert pool_class(own) is own


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        for scheme in ("http://", "https://"):
            session.mount(scheme, httpio.contrib.requests.HTTPAdapter(max_retries=0, pool_maxsize=2))
        yield session


def test_the_adapter_changes_its_own_session(session: requests.Session, server: Scripted) -> None:
    response = session.post(server.url, data=b"given")
    assert (under(response), response.content) == (OURS, b"given")
    assert session.get(f"{server.url}/chunked").text == "body"
    assert server.connections == 1
    with requests.Session() as other:
        other.trust_env = False
        assert under(other.get(server.url)) is STANDARD
    assert under(get(urllib3.PoolManager(), server.url)) is STANDARD


def test_the_adapter_with_proxies(session: requests.Session, authority: Authority, server: Scripted) -> None:
    session.verify = str(authority.ca)
    with (
        Scripted(served, server_context(authority.chain, authority.key)) as secure,
        Proxy(relays()) as relay,
        Proxy(tunnels()) as tunnel,
        Proxy(socks()) as socks5,
    ):
        by_http = {"http": f"http://127.0.0.1:{relay.port}", "https": f"http://127.0.0.1:{tunnel.port}"}
        by_socks = dict.fromkeys(by_http, f"socks5h://127.0.0.1:{socks5.port}")
        for session.proxies in (by_http, by_socks):
            for url in (server.url, f"https://127.0.0.1:{secure.port}"):
                for _ in range(2):
                    response = session.get(url)
                    assert (under(response), response.text) == (OURS, "body")
        session.close()
        assert (relay.connections, tunnel.connections, socks5.connections) == (1, 1, 2)


def test_the_adapter_takes_a_proxy_manager_that_another_thread_has_just_made() -> None:
    adapter = httpio.contrib.requests.HTTPAdapter()
    made = requests.adapters.HTTPAdapter.proxy_manager_for(adapter, "http://127.0.0.1:3128")
    assert adapter.proxy_manager_for("http://127.0.0.1:3128") is made
    pools = dict(made.pool_classes_by_scheme)
    assert all(issubclass(pool.ConnectionCls, httpio.client.HTTPConnection) for pool in pools.values())
    assert adapter.proxy_manager_for("http://127.0.0.1:3128").pool_classes_by_scheme == pools


def test_the_adapter_survives_a_pickle(session: requests.Session, server: Scripted) -> None:
    copy = pickle.loads(pickle.dumps(session))
    copy.trust_env = False
    assert under(copy.get(server.url)) is OURS
