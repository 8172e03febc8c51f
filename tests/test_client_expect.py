"""httpio.client waits for 100 (Continue) where a request with a body asks for it."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator

import pytest

import httpio
from conftest import Authority, Contexts
from httpio import client
from servers.scripted import Peer, Scripted, answers, server_context

BODY = b"a body"
ASKED = {"Expect": "100-continue"}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def connection(server: Scripted, context: ssl.SSLContext | None = None) -> client.HTTPConnection:
    if context is None:
        return client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    return client.HTTPSConnection("127.0.0.1", server.port, timeout=20, context=context)


class Awaited:
    """A body that may be drawn only after `said` was set."""

    def __init__(self) -> None:
        self.said = threading.Event()
        self.drawn = False

    def __iter__(self) -> Iterator[bytes]:
        self.drawn = True
        assert self.said.is_set()
        yield BODY


@pytest.mark.parametrize("framing", [{}, {"Content-Length": str(len(BODY))}], ids=["chunked", "length"])
@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"], ids=["100", "103 and 100"])
def test_the_body_goes_out_when_100_has_come(contexts: Contexts, framing: dict[str, str], before: bytes) -> None:
    body = Awaited()

    def script(peer: Peer) -> None:
        seen = peer.head()
        assert seen is not None
        assert seen.field("Expect") == "100-continue"
        if before:
            peer.send(before)
        body.said.set()
        peer.send(CONTINUE)
        peer.answer(peer.take(len(BODY)) if framing else peer.chunks())
        answers(peer)

    theirs, ours = contexts
    with Scripted(script, theirs) as server:
        conn = connection(server, ours)
        conn.expect_timeout = None
        conn.request("PUT", "/", body, {**ASKED, **framing})
        response = conn.getresponse()
        assert (response.status, response.read()) == (200, BODY)
        conn.request("GET", "/next")
        assert conn.getresponse().read() == b"/next"
        conn.close()
    assert server.connections == 1


def test_a_final_answer_in_the_place_of_100(contexts: Contexts) -> None:
    body = Awaited()

    def script(peer: Peer) -> None:
        if peer.number:
            return answers(peer)
        peer.head()
        peer.answer(b"too large", "413 Content Too Large")
        peer.drain()
        assert not peer.buffer
        return None

    theirs, ours = contexts
    with Scripted(script, theirs) as server:
        conn = connection(server, ours)
        conn.expect_timeout = None
        conn.request("PUT", "/", body, ASKED)
        response = conn.getresponse()
        assert conn.sock is None  # what came next on it might be taken for the body
        assert (response.status, response.read()) == (413, b"too large")
        assert not body.drawn
        conn.request("GET", "/next")
        assert conn.getresponse().read() == b"/next"
        conn.close()
    assert server.connections == 2


def test_nothing_comes_and_the_body_goes_out() -> None:
    def script(peer: Peer) -> None:
        seen = peer.request()
        assert seen is not None
        peer.send(CONTINUE)  # too late to mean anything
        peer.answer(seen.body)
        peer.drain()

    with Scripted(script) as server:
        conn = connection(server)
        conn.expect_timeout = 0.01
        conn.request("PUT", "/", BODY, ASKED)
        assert conn.getresponse().read() == BODY
        conn.close()


def test_the_limit_holds_between_interim_responses() -> None:
    """What comes and is not 100 does not begin the wait anew, and does not let the body go."""

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        peer.answer(peer.take(len(BODY)))
        peer.drain()

    with Scripted(script) as server:
        conn = connection(server)
        conn.expect_timeout = 0.01
        conn.request("PUT", "/", BODY, ASKED)
        response = conn.getresponse()
        assert (response.status, response.read()) == (200, BODY)
        conn.close()


def test_the_peer_closes_in_the_wait() -> None:
    body = Awaited()

    def script(peer: Peer) -> None:
        if peer.number:
            answers(peer)
        else:
            peer.head()

    with Scripted(script) as server:
        conn = connection(server)
        conn.expect_timeout = None
        with pytest.raises(client.RemoteDisconnected) as caught:
            conn.request("PUT", "/", body, ASKED)
        assert isinstance(caught.value, httpio.ConnectionClosed)
        assert conn.sock is None
        assert not body.drawn
        conn.request("GET", "/next")
        assert conn.getresponse().read() == b"/next"
        conn.close()


def test_what_is_not_an_answer_in_the_wait() -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"SSH-2.0-x\r\n\r\n")
        peer.drain()
        assert not peer.buffer

    with Scripted(script) as server:
        conn = connection(server)
        conn.expect_timeout = None
        with pytest.raises(client.BadStatusLine):
            conn.request("PUT", "/", BODY, ASKED)
        assert conn.sock is None


def test_a_close_in_the_wait_leaves_nothing_behind() -> None:
    """The head that came early is not given to a later request."""

    def script(peer: Peer) -> None:
        if peer.number:
            return answers(peer)
        peer.head()
        peer.answer(b"early")
        peer.drain()
        return None

    with Scripted(script) as server:
        conn = connection(server)
        conn.expect_timeout = None
        conn.request("PUT", "/", BODY, ASKED)
        conn.close()
        conn.request("GET", "/next")
        assert conn.getresponse().read() == b"/next"
        conn.close()


def test_without_a_body_nothing_is_awaited() -> None:
    with Scripted(answers) as server:
        conn = connection(server)
        conn.expect_timeout = None
        conn.request("GET", "/", headers=ASKED)
        assert conn.getresponse().read() == b"/"
        conn.putrequest("POST", "/")
        conn.putheader("Expect", "100-continue")
        conn.putheader("Content-Length", "0")
        conn.endheaders()
        assert conn.getresponse().read() == b"/"
        conn.close()


def test_the_tickets_of_tls_are_not_the_answer(authority: Authority) -> None:
    """They come at once, and wake who waits; the peer waits for the body."""

    def script(peer: Peer) -> None:
        peer.head()
        peer.answer(peer.take(len(BODY)))
        peer.drain()

    with Scripted(script, server_context(authority.chain, authority.key)) as server:
        conn = connection(server, ssl.create_default_context(cafile=authority.ca))
        conn.expect_timeout = 0.05
        conn.request("PUT", "/", BODY, ASKED)
        assert conn.sock.gettimeout() == 20
        assert conn.getresponse().read() == BODY
        conn.close()


def test_half_a_head_in_the_wait() -> None:
    """It does not hold the body back for longer, and its other half is the answer's."""

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 200 O")
        body = peer.take(len(BODY))
        peer.send(b"K\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        peer.drain()

    with Scripted(script) as server:
        conn = connection(server)
        conn.expect_timeout = 0.05
        conn.request("PUT", "/", BODY, ASKED)
        response = conn.getresponse()
        assert (response.status, response.reason, response.read()) == (200, "OK", BODY)
        conn.close()


def test_a_class_that_reads_the_status_line_itself() -> None:
    """As botocore's: nothing is awaited for it."""

    class Own(client.HTTPResponse):
        def _read_status(self) -> tuple[str, int, str]:
            return super()._read_status()

    with Scripted(answers) as server:
        conn = connection(server)
        conn.expect_timeout = None
        conn.response_class = Own
        conn.request("PUT", "/own", BODY, ASKED)
        assert conn.getresponse().read() == b"/own"
        conn.close()
