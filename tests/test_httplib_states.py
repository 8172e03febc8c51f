"""The state diagram of the httplib documentation: every state, every move that it allows and that it refuses.

It stands in http.client's docstring. The state is what `_HTTPConnection__state` says, and whether a response is
outstanding. A response that has been read is forgotten with the next call; unread ones and those partly read are not
told apart. Where `httpio.client`, and `httpio.httplib` on it, are to differ from http.client, a test says so by name.
"""

from __future__ import annotations

import http.client
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

import httpio.client
from conftest import Contexts
from httpio import httplib
from servers.scripted import WAIT, Peer, Scripted

STANDARD, OURS = http.client, httpio.client
BODY = b"0123456789"

IDLE, STARTED, SENT = "Idle", "Request-started", "Request-sent"
UNREAD, STARTED_UNREAD, SENT_UNREAD = "Unread-response", "Req-started-unread-response", "Req-sent-unread-response"

# How a new connection comes to each state.
WAYS = {
    IDLE: "",
    STARTED: "putrequest",
    SENT: "putrequest endheaders",
    UNREAD: "putrequest endheaders getresponse",
    STARTED_UNREAD: "putrequest endheaders getresponse putrequest",
    SENT_UNREAD: "putrequest endheaders getresponse putrequest endheaders",
}
# Where each move leads, by state; what is not here is refused.
ALLOWED = {
    IDLE: {"putrequest": STARTED, "request": SENT, "close": IDLE},
    STARTED: {"putheader": STARTED, "endheaders": SENT, "close": IDLE},
    SENT: {"getresponse": UNREAD, "close": IDLE},
    UNREAD: {
        "putrequest": STARTED_UNREAD,
        "request": SENT_UNREAD,
        "read a piece": UNREAD,
        "read": IDLE,
        "close": IDLE,
    },
    STARTED_UNREAD: {
        "putheader": STARTED_UNREAD,
        "endheaders": SENT_UNREAD,
        "read a piece": STARTED_UNREAD,
        "read": STARTED,
        "close": IDLE,
    },
    SENT_UNREAD: {"read a piece": SENT_UNREAD, "read": SENT, "close": IDLE},
}
REFUSALS = {
    "putrequest": "CannotSendRequest",
    "request": "CannotSendRequest",
    "putheader": "CannotSendHeader",
    "endheaders": "CannotSendHeader",
    "getresponse": "ResponseNotReady",
}


class Player:
    """A connection of a module's, and its last response."""

    def __init__(self, module: ModuleType, port: int) -> None:
        self.module = module
        self.conn = module.HTTPConnection("127.0.0.1", port, timeout=20)
        self.response: Any = None

    def __enter__(self) -> Player:
        return self

    def __exit__(self, *error: object) -> None:
        self.conn.close()
        if self.response is not None:
            self.response.close()

    def state(self) -> str:
        """The name that the documentation gives to where it is."""
        state = self.conn._HTTPConnection__state
        response = self.conn._HTTPConnection__response
        if response is None or response.isclosed():
            return str(state)
        return {IDLE: UNREAD, STARTED: STARTED_UNREAD, SENT: SENT_UNREAD}[state]

    def move(self, name: str) -> None:
        if name == "putrequest":
            self.conn.putrequest("GET", "/")
        elif name == "putheader":
            self.conn.putheader("X-Name", "value", 1)
        elif name == "request":
            self.conn.request("GET", "/")
        elif name == "getresponse":
            self.response = self.conn.getresponse()
        elif name == "read":
            assert BODY.endswith(self.response.read())
        elif name == "read a piece":
            assert self.response.read(3) == BODY[:3]
        else:
            getattr(self.conn, name)()

    def come_to(self, state: str) -> None:
        for name in WAYS[state].split():
            self.move(name)
        assert self.state() == state

    def finish(self) -> None:
        """Go on from wherever it is to the response of one more request: what was refused has changed nothing."""
        if self.state() in (UNREAD, STARTED_UNREAD, SENT_UNREAD):
            self.move("read")
        for name in ("putrequest", "endheaders", "getresponse", "read")[[IDLE, STARTED, SENT].index(self.state()) :]:
            self.move(name)
        assert self.state() == IDLE
        assert self.response.status == 200


def answering(peer: Peer) -> None:
    while peer.request() is not None:
        peer.answer(BODY)


@pytest.fixture(params=[STANDARD, OURS, httplib], ids=lambda module: module.__name__)
def module(request: pytest.FixtureRequest) -> ModuleType:
    tested: ModuleType = request.param
    return tested


@pytest.fixture
def server() -> Iterator[Scripted]:
    with Scripted(answering) as server:
        yield server


@pytest.fixture
def player(module: ModuleType, server: Scripted) -> Iterator[Player]:
    with Player(module, server.port) as player:
        yield player


def test_these_are_the_states_of_the_documentation(player: Player) -> None:
    """Its table: the name of a state, what `__state` is there, and whether there is a `__response`."""
    rows = re.findall(r"^([A-Z][\w-]+) +(_CS_\w+) +(\S+)$", http.client.__doc__ or "", re.MULTILINE)
    assert [row[0] for row in rows] == list(WAYS)
    for name, state, response in rows:
        player.come_to(name)
        assert player.conn._HTTPConnection__state == getattr(player.module, state)
        assert (player.conn._HTTPConnection__response is not None) == (response != "None")
        player.conn.close()


@pytest.mark.parametrize(("state", "move"), [(state, move) for state, moves in ALLOWED.items() for move in moves])
def test_allowed(state: str, move: str, player: Player) -> None:
    player.come_to(state)
    player.move(move)
    assert player.state() == ALLOWED[state][move]
    player.finish()


@pytest.mark.parametrize(
    ("state", "move"), [(state, move) for state in ALLOWED for move in REFUSALS if move not in ALLOWED[state]]
)
def test_refused(state: str, move: str, player: Player) -> None:
    player.come_to(state)
    with pytest.raises(getattr(player.module, REFUSALS[move])) as caught:
        player.move(move)
    assert isinstance(caught.value, player.module.ImproperConnectionState)
    assert isinstance(caught.value, http.client.ImproperConnectionState)
    assert player.state() == state
    player.finish()


@pytest.mark.parametrize("state", ALLOWED)
def test_closed_in_any_state_it_connects_again(state: str, player: Player, server: Scripted) -> None:
    player.come_to(state)
    player.move("close")
    assert player.conn.sock is None
    assert player.state() == IDLE
    player.finish()
    if player.module is not STANDARD:  # http.client sends what was begun before `close`, and the request behind it
        assert server.seen[-1].head.count(b"Host:") == 1


@pytest.mark.parametrize("ending", [Peer.finish, Peer.reset])
@pytest.mark.parametrize("answered", [0, 1])
def test_a_lost_connection_leaves_it_idle(ending: Callable[[Peer], None], answered: int, module: ModuleType) -> None:
    """What the diagram calls "getresponse() raises ConnectionError". The next request connects again."""

    def script(peer: Peer) -> None:
        while peer.request() is not None:
            if peer.number == 0 and len(peer.server.seen) > answered:
                return ending(peer)
            peer.answer(BODY)

    with Scripted(script) as server, Player(module, server.port) as player:
        player.come_to(UNREAD if answered else IDLE)
        player.move("request")
        if answered:
            player.move("read")
        with pytest.raises(ConnectionError):
            player.move("getresponse")
        assert player.state() == IDLE
        assert player.conn.sock is None
        player.finish()
        assert server.connections == 2


@pytest.mark.parametrize("way", ["unread", "partly read"])
@pytest.mark.parametrize("state", [UNREAD, STARTED_UNREAD, SENT_UNREAD])
def test_closing_a_response_before_its_end_closes_the_connection(state: str, way: str, server: Scripted) -> None:
    """http.client takes the rest of the body for the next response, which whoever wrote the body can forge."""
    with Player(OURS, server.port) as player:
        player.come_to(state)
        if way == "partly read":
            player.move("read a piece")
        player.response.close()
        assert player.conn.sock is None
        assert player.state() == IDLE
        player.finish()
        assert server.connections == 2
        assert server.seen[-1].head.count(b"Host:") == 1


def test_the_standard_library_reads_on_in_a_response_that_was_closed(server: Scripted) -> None:
    """So that the difference is known to be one, and is not asserted for longer than it lasts."""
    with Player(STANDARD, server.port) as player:
        player.come_to(UNREAD)
        player.response.close()
        assert player.conn.sock is not None


def test_a_body_sent_by_hand_changes_no_state(player: Player) -> None:
    player.conn.putrequest("POST", "/")
    player.conn.putheader("Content-Length", "4")
    player.conn.endheaders()
    player.conn.send(b"body")
    assert player.state() == SENT
    player.move("getresponse")
    assert player.state() == UNREAD


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\n", b"body"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"body"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\n", b"body"),
    ],
    ids=["close", "no framing", "HTTP/1.0"],
)
def test_a_last_response_leaves_the_connection_idle(head: bytes, body: bytes, module: ModuleType) -> None:
    """The socket is the response's alone then, and the next request connects again."""

    def script(peer: Peer) -> None:
        while peer.request() is not None:
            peer.send(head + body)
            peer.finish()

    with Scripted(script) as server, Player(module, server.port) as player:
        for _ in range(2):
            player.conn.request("GET", "/")
            player.move("getresponse")
            assert player.conn.sock is None
            assert player.state() == IDLE
            assert player.response.read() == body
        assert server.connections == 2


def test_without_auto_open_it_does_not_connect(module: ModuleType) -> None:
    conn = module.HTTPConnection("127.0.0.1", 9)
    conn.auto_open = 0
    conn.putrequest("GET", "/")
    with pytest.raises(module.NotConnected):
        conn.endheaders()


# -- accelerating the pipeline --

COUNT = 3
WAYS_OF_READING: dict[str, Callable[[Any], bytes]] = {
    "read": lambda response: response.read(),
    "read(7)": lambda response: b"".join(iter(lambda: response.read(7), b"")),
    "readinto": lambda response: read_into(response, 300_001),
    "readline": lambda response: b"".join(response),
}


def read_into(response: Any, size: int) -> bytes:
    target = bytearray(size)
    return bytes(target[: response.readinto(target)])


def content(number: int, size: int) -> bytes:
    return b"%d\n" % number * (size // 2)


def send_answer(peer: Peer, number: int, size: int) -> None:
    """The second is chunked, and has a trailer section."""
    body = content(number, size)
    if number == 1:
        peer.send(b"HTTP/1.1 200 OK\r\nX-Number: 1\r\nTransfer-Encoding: chunked\r\n\r\n")
        peer.send(b"%x\r\n%b\r\n2\r\n1\n\r\n0\r\nX-Trailer: 1\r\n\r\n" % (len(body) - 2, body[2:]))
    else:
        peer.answer(body, fields=f"X-Number: {number}\r\n")


def accelerate(
    module: ModuleType,
    contexts: Contexts,
    wait: Callable[[Peer, int], None],
    about_to_read: Callable[[int], None],
    size: int = 200,
    way: str = "read",
) -> None:
    """Three requests sent by setting the state back, and three responses that each read their own answer; then a
    request and its response as ever. *wait*: called by the server before each answer."""

    def script(peer: Peer) -> None:
        for _ in range(COUNT):
            peer.request()
        for number in range(COUNT):
            wait(peer, number)
            send_answer(peer, number, size)
        wait(peer, COUNT)
        answering(peer)

    server_side, client_side = contexts
    with Scripted(script, server_side) as server:
        conn = connection(module, server.port, client_side)
        for number in range(COUNT):
            conn.putrequest("GET", f"/{number}")
            conn.endheaders()
            conn._HTTPConnection__state = module._CS_IDLE
        for number in range(COUNT):
            about_to_read(number)
            response = module.HTTPResponse(conn.sock, method="GET")
            response.begin()
            assert response.getheader("X-Number") == str(number)
            assert WAYS_OF_READING[way](response) == content(number, size)
            assert response.isclosed()
        about_to_read(COUNT)
        conn.request("GET", "/3")
        assert conn.getresponse().read() == BODY
        conn.close()
        server.settle(1)
        assert server.targets() == ["/0", "/1", "/2", "/3"]
        assert server.connections == 1


def connection(module: ModuleType, port: int, context: ssl.SSLContext | None) -> Any:
    if context is None:
        return module.HTTPConnection("localhost", port, timeout=WAIT)
    return module.HTTPSConnection("localhost", port, timeout=WAIT, context=context)


def test_three_responses_that_come_one_by_one(module: ModuleType, contexts: Contexts) -> None:
    """Each is sent when the one before has been read."""
    gates = [threading.Event() for _ in range(COUNT + 1)]

    def wait(peer: Peer, number: int) -> None:
        assert gates[number].wait(WAIT)

    accelerate(module, contexts, wait, lambda number: gates[number].set())


@pytest.mark.parametrize("way", WAYS_OF_READING)
@pytest.mark.parametrize("size", [20, 9000])
def test_three_responses_that_are_there_at_once(size: int, way: str, contexts: Contexts) -> None:
    """http.client cannot: its first response takes with it what has been received of the others."""
    there = threading.Event()

    def wait(peer: Peer, number: int) -> None:
        if number == COUNT:
            there.set()

    def about_to_read(number: int) -> None:
        assert there.wait(WAIT)

    accelerate(OURS, contexts, wait, about_to_read, size, way)


def test_the_standard_library_loses_responses_that_are_there_at_once() -> None:
    there = threading.Event()

    def script(peer: Peer) -> None:
        peer.head()
        for number in range(COUNT):
            send_answer(peer, number, 20)
        peer.finish()
        there.set()
        peer.drain()

    with Scripted(script) as server:
        conn = STANDARD.HTTPConnection("127.0.0.1", server.port, timeout=WAIT)
        conn.request("GET", "/")
        assert there.wait(WAIT)
        sock: Any = conn.sock
        response = STANDARD.HTTPResponse(sock)
        response.begin()
        assert response.read() == content(0, 20)
        with STANDARD.HTTPResponse(sock) as response, pytest.raises(STANDARD.RemoteDisconnected):
            response.begin()
        conn.close()


def test_a_response_that_is_not_read_to_its_end_stops_the_others(contexts: Contexts) -> None:
    """What is left of it is not taken for the next one's head."""

    def script(peer: Peer) -> None:
        for _ in range(COUNT):
            peer.request()
        for number in range(COUNT):
            send_answer(peer, number, 200)
        peer.drain()

    server_side, client_side = contexts
    with Scripted(script, server_side) as server:
        conn = connection(OURS, server.port, client_side)
        for number in range(COUNT):
            conn.putrequest("GET", f"/{number}")
            conn.endheaders()
            conn._HTTPConnection__state = OURS._CS_IDLE
        with OURS.HTTPResponse(conn.sock) as response:
            response.begin()
            assert response.read(3) == content(0, 4)[:3]
        with OURS.HTTPResponse(conn.sock) as response, pytest.raises(OURS.RemoteDisconnected):
            response.begin()
        conn.close()
