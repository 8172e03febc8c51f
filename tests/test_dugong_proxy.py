"""A proxy as programs written for dugong 3.8 name it: a pair of host and port."""

from __future__ import annotations

import ssl

import pytest

import httpio as dugong
from conftest import Authority
from servers.scripted import Peer, Scripted, answers, server_context

NOWHERE = "www.example.invalid"
"""Nobody looks this name up: the proxy would."""


@pytest.mark.parametrize(("port", "shown"), [(None, NOWHERE), (8080, f"{NOWHERE}:8080")])
def test_the_proxy_gets_a_plain_request_with_its_whole_url(port: int | None, shown: str) -> None:
    with Scripted(answers) as server:
        conn = dugong.HTTPConnection(NOWHERE, port, None, ("127.0.0.1", server.port))
        assert conn.proxy == ("127.0.0.1", server.port)
        for _ in range(2):  # it connects anew, to the proxy again
            conn.send_request("GET", "/someurl?barf")
            assert conn.read_response().status == 200
            assert conn.readall() == f"http://{shown}/someurl?barf".encode()
            conn.disconnect()
    assert {seen.field("Host") for seen in server.seen} == {shown}
    assert server.connections == 2


@pytest.mark.parametrize("port", [None, 8080])
def test_tls_goes_through_a_tunnel(port: int | None, authority: Authority) -> None:
    """The proxy is the server, too, once it has answered CONNECT."""
    context = server_context(authority.chain, authority.key)

    def script(peer: Peer) -> None:
        assert peer.request() is not None
        peer.send(b"HTTP/1.1 200 Established\r\n\r\n")
        peer.sock = context.wrap_socket(peer.sock, server_side=True)
        answers(peer)

    with Scripted(script) as server:
        trust = ssl.create_default_context(cafile=authority.ca)
        conn = dugong.HTTPConnection("localhost", port, trust, ("127.0.0.1", server.port))
        conn.send_request("GET", "/someurl?barf")
        assert conn.read_response().status == 200
        assert conn.readall() == b"/someurl?barf"
        assert conn.get_ssl_peercert()["subjectAltName"]  # type: ignore[index, call-overload]
        conn.disconnect()
    connect, get = server.seen
    assert (connect.method, connect.target) == ("CONNECT", f"localhost:{port or 443}")
    assert (get.method, get.target) == ("GET", "/someurl?barf")


def test_a_tunnel_that_is_refused() -> None:
    """Where dugong raised ConnectionError, with the status in its text."""
    with Scripted(lambda peer: peer.request() and peer.answer(b"", "403 Forbidden")) as server:
        trust = ssl.create_default_context()
        conn = dugong.HTTPConnection("localhost", 443, trust, ("127.0.0.1", server.port))
        with pytest.raises(dugong.ProxyError, match="403") as caught:
            conn.send_request("GET", "/")
        assert caught.value.response is not None
        assert caught.value.response.status == 403
        conn.disconnect()
