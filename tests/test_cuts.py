"""The connection cut at every byte of an exchange: what was complete is delivered, and nothing else is."""

from __future__ import annotations

import ssl
import sys
import threading
from collections import Counter
from collections.abc import Callable, Generator
from itertools import accumulate, islice
from queue import SimpleQueue
from typing import Any, NamedTuple

import pytest

from conftest import Authority, Contexts
from exchange import (
    ANSWERS,
    ENDS,
    PATHS,
    STARTS,
    WIRE,
    Way,
    by_readall,
    by_readinto,
    check,
    check_answer,
    facts,
    send_all,
    whole,
)
from httpio import (
    ConnectionClosed,
    HTTPConnection,
    HTTPResponse,
    PollNeeded,
    Request,
    eval_coroutine,
)
from kernel import reset
from servers.scripted import WAIT, Peer, Scripted, Seen, server_context

End = Callable[[Peer], None]

CUTS = range(len(WIRE) + 1)


class Kind(NamedTuple):
    """How a connection ends."""

    end: End
    tls: bool
    clean: bool
    """Whether that may be the end of a close-delimited body."""


keeps_what_was_received = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere a reset takes with it what was received before"
)
PLAIN = [
    pytest.param(Kind(Peer.finish, False, True), id="FIN"),
    pytest.param(Kind(Peer.reset, False, False), id="RST", marks=keeps_what_was_received),
]
TLS = [
    pytest.param(Kind(Peer.finish, True, False), id="TLS-FIN"),
    pytest.param(Kind(Peer.notify, True, True), id="TLS-notify"),
    pytest.param(Kind(Peer.reset, True, False), id="TLS-RST", marks=keeps_what_was_received),
]
every_kind = pytest.mark.parametrize("kind", PLAIN + TLS)
kinds_of_a_pipeline = pytest.mark.parametrize(
    "kind", PLAIN + [pytest.param(*param.values, id=param.id, marks=[*param.marks, pytest.mark.heavy]) for param in TLS]
)


@pytest.fixture
def contexts(kind: Kind, authority: Authority) -> Contexts:
    if not kind.tls:
        return None, None
    return server_context(authority.chain, authority.key), ssl.create_default_context(cafile=authority.ca)


@every_kind
@pytest.mark.parametrize("way", [by_readall, by_readinto])
def test_every_byte(way: Way, kind: Kind, contexts: Contexts) -> None:
    """The end is here before anything is read."""
    over = threading.Semaphore(0)

    def script(peer: Peer) -> None:
        for _ in PATHS:
            assert peer.request() is not None
        peer.send(WIRE[: peer.number])
        kind.end(peer)
        over.release()

    with Scripted(script, contexts[0]) as server:
        for cut in CUTS:
            with HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=WAIT) as conn:
                send_all(conn)
                assert over.acquire(timeout=WAIT)
                check(conn, way, cut, kind.clean)


@every_kind
def test_every_byte_to_one_who_waits(kind: Kind, contexts: Contexts) -> None:
    """The end comes when all before it has been received, and the steps wait for more."""
    sent, waits = threading.Semaphore(0), threading.Semaphore(0)

    def script(peer: Peer) -> None:
        for _ in PATHS:
            assert peer.request() is not None
        peer.send(WIRE[: peer.number])
        sent.release()
        assert waits.acquire(timeout=WAIT)
        kind.end(peer)

    def ending(step: Generator[PollNeeded, None, Any]) -> Generator[PollNeeded, None, Any]:
        """The same step; when it waits in vain for the first time, the server may end."""
        nonlocal told
        try:
            while True:
                need = next(step)
                if not told and not need.poll(0):
                    told = True
                    waits.release()
                yield need
        except StopIteration as stop:
            return stop.value

    def by_steps(conn: HTTPConnection) -> tuple[HTTPResponse, bytes]:
        response = eval_coroutine(ending(conn.co_read_response()))
        return response, eval_coroutine(ending(conn.co_readall()))

    with Scripted(script, contexts[0]) as server:
        for cut in CUTS:
            told = False
            with HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=WAIT) as conn:
                send_all(conn)
                assert sent.acquire(timeout=WAIT)
                check(conn, by_steps, cut, kind.clean)
            assert told


@pytest.mark.parametrize("end", [Peer.finish, Peer.reset])
def test_every_byte_of_the_ciphertext(end: End, authority: Authority) -> None:
    """A record that is not whole gives nothing, and its content was not received."""
    context = server_context(authority.chain, authority.key)
    pieces = [WIRE[start : start + 25] for start in range(0, len(WIRE), 25)]
    ready: SimpleQueue[tuple[int, int]] = SimpleQueue()

    def script(peer: Peer) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        requests, call = b"", tls.do_handshake
        while requests.count(b"\r\n\r\n") < len(PATHS):
            try:
                requests += call() or b""
                call = tls.read
            except ssl.SSLWantReadError:
                peer.send(outgoing.read())
                incoming.write(peer.sock.recv(65536))
        peer.send(outgoing.read())
        records = []
        for piece in pieces:
            tls.write(piece)
            records.append(outgoing.read())
        cut, data = peer.number, b"".join(records)
        plain = sum(
            len(piece) for piece, stop in zip(pieces, accumulate(map(len, records)), strict=True) if stop <= cut
        )
        peer.send(data[:cut])
        end(peer)
        ready.put((len(data), plain))

    client = ssl.create_default_context(cafile=authority.ca)
    cut = length = 0
    with Scripted(script) as server:
        while cut <= length:
            with HTTPConnection("127.0.0.1", server.port, client, timeout=WAIT) as conn:
                send_all(conn)
                length, plain = ready.get(timeout=WAIT)
                check(conn, by_readall, plain, clean=False)
            cut += 1
    assert plain == len(WIRE)


# -- under a pipeline --


def paths_of(number: int) -> list[str]:
    """The targets of the exchange that is to be cut after *number* bytes."""
    return [f"/{number}{path}" for path in PATHS]


class Cutting:
    """A server's script: the first connection of each exchange is cut, the later ones are not."""

    def __init__(self, kind: Kind, ahead: bool) -> None:
        self.kind = kind
        self.ahead = ahead
        """Whether all requests are to have come before the first answer begins."""
        self.connections: Counter[int] = Counter()
        """By exchange."""

    def __call__(self, peer: Peer) -> None:
        seen = peer.request()
        if seen is None:
            return
        number = int(seen.target.split("/")[1])
        self.connections[number] += 1
        if self.connections[number] == 1:
            self.cut(peer, number)
        else:
            self.serve(peer, seen)

    def cut(self, peer: Peer, number: int) -> None:
        if self.ahead:
            for _ in PATHS[1:]:
                assert peer.request() is not None
            peer.send(WIRE[:number])
        else:
            for index, stop in enumerate(ENDS):
                peer.send(WIRE[STARTS[index] : min(stop, number)])
                if number < stop or index == len(PATHS) - 1:
                    break
                assert peer.request() is not None
        self.kind.end(peer)

    def serve(self, peer: Peer, seen: Seen | None) -> None:
        while seen is not None:
            index = int(seen.target[-1])
            peer.send(ANSWERS[index].wire)
            if index == len(PATHS) - 1:
                return peer.notify() if self.kind.tls else peer.finish()
            seen = peer.request()


@kinds_of_a_pipeline
@pytest.mark.parametrize("ahead", [True, False])
def test_under_a_pipeline(ahead: bool, kind: Kind, contexts: Contexts) -> None:
    """What may be repeated is, on one more connection, and only what was not answered."""
    script = Cutting(kind, ahead)
    with Scripted(script, contexts[0]) as server:
        for cut in CUTS:
            complete = whole(cut, kind.clean)
            targets = paths_of(cut)
            requests = [targets[0], Request("PUT", targets[1], body=b"body"), targets[2]]
            before = len(server.seen)
            with HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=WAIT) as conn:
                responses = list(conn.pipeline(requests, depth=3 if ahead else 1))
                assert conn.outstanding == ()
            assert [response.path for response in responses] == targets
            for index, response in enumerate(responses):
                check_answer(index, response, response.body, cut if complete == len(PATHS) else len(WIRE))
            sent_first = targets if ahead else targets[: complete + 1]
            assert server.targets()[before:] == sent_first + targets[complete:]
            assert script.connections[cut] == 1 + (complete < len(PATHS))


@kinds_of_a_pipeline
def test_what_must_not_be_repeated(kind: Kind, contexts: Contexts) -> None:
    """A POST goes out once: where it is not answered, the loop ends with the error."""
    script = Cutting(kind, False)
    with Scripted(script, contexts[0]) as server:
        for cut in CUTS:
            targets = paths_of(cut)
            requests = [targets[0], Request("POST", targets[1], body=b"body"), targets[2]]
            lost = STARTS[1] <= cut < ENDS[1]
            before = len(server.seen)
            with HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=WAIT) as conn:
                iterator = conn.pipeline(requests, depth=3)
                responses = list(islice(iterator, 1 if lost else 4))
                if lost:
                    with pytest.raises(ConnectionClosed) as caught:
                        next(iterator)
                    assert facts(caught.value) == [(targets[1], "answering" if cut > STARTS[1] else "sent", False)]
                assert conn.outstanding == ()
            assert [response.path for response in responses] == targets[: 1 if lost else 3]
            last = cut if whole(cut, kind.clean) == len(PATHS) else len(WIRE)
            for index, response in enumerate(responses):
                check_answer(index, response, response.body, last)
            seen = server.targets()[before:]
            assert seen.count(targets[1]) == 1
            assert (targets[2] in seen) == (not lost)


@kinds_of_a_pipeline
def test_bodies_read_inside_a_pipeline(kind: Kind, contexts: Contexts) -> None:
    """A body that is cut while the caller reads it is lost to him; the others come."""
    script = Cutting(kind, True)
    with Scripted(script, contexts[0]) as server:
        for cut in CUTS:
            targets = paths_of(cut)
            complete = whole(cut, kind.clean)
            failed = None
            with HTTPConnection("127.0.0.1", server.port, contexts[1], timeout=WAIT) as conn:
                for index, response in enumerate(conn.pipeline(targets, depth=3, body_limit=0)):
                    assert response.path == targets[index]
                    try:
                        content = conn.readall()
                    except ConnectionClosed:
                        assert failed is None
                        failed = index
                    else:
                        check_answer(index, response, content, cut if complete == len(PATHS) else len(WIRE))
                assert index == len(PATHS) - 1
            if complete < len(PATHS) and ANSWERS[complete].content(cut - STARTS[complete]):
                assert failed == complete  # it was handed out when its content began
            else:
                assert failed in (None, complete)


# -- a reset that is met in sending --

PAGE = ANSWERS[2].wire
BIG = 24 << 20
"""More than the sockets of two ends can hold."""


@keeps_what_was_received
@pytest.mark.parametrize("end", [Peer.finish, Peer.reset])
def test_what_a_send_has_met_is_not_forgotten(end: End) -> None:
    """The system tells of a reset once. Where a send was told, the next receive only sees an end, which is not one
    that a body may have."""
    ended = threading.Event()

    def script(peer: Peer) -> None:
        assert peer.request() is not None
        peer.send(PAGE)
        end(peer)
        peer.sock.close()
        ended.set()

    with Scripted(script) as server, HTTPConnection("127.0.0.1", server.port, timeout=WAIT) as conn:
        conn.send_request("GET", PATHS[2])
        assert ended.wait(WAIT)
        if end is Peer.finish:
            conn.send_request("GET", "/never")  # this is still taken, and answered by a reset
        reset(conn)
        with pytest.raises(ConnectionClosed) as caught:
            conn.send_request("GET", "/never")
        assert caught.value.where == "sending"
        response = conn.read_response()
        if end is Peer.finish:
            check_answer(2, response, conn.readall())
        else:
            with pytest.raises(ConnectionClosed):
                conn.readall()
            assert response.complete_by is None


@keeps_what_was_received
@pytest.mark.parametrize("replayable", [True, False])
def test_a_page_that_is_cut_while_a_body_goes_out(replayable: bool) -> None:
    """The same under a pipeline, which sends and receives in turns."""
    cut = len(PAGE) - 5

    def script(peer: Peer) -> None:
        if peer.number % 2 == 0:
            assert peer.head() is not None
            peer.send(PAGE[:cut])
            peer.reset()
        elif peer.request() is not None:
            peer.send(PAGE)
            peer.finish()

    with Scripted(script) as server:
        for _ in range(4):
            body = bytes(BIG) if replayable else (bytes(65536) for _ in range(BIG // 65536))
            with HTTPConnection("127.0.0.1", server.port, timeout=WAIT) as conn:
                iterator = conn.pipeline([Request("PUT", "/2", body=body)])
                if replayable:
                    response = next(iterator)
                    check_answer(2, response, response.body)
                else:
                    with pytest.raises(ConnectionClosed):
                        next(iterator)
                    conn.connect()  # for the script's odd turn
