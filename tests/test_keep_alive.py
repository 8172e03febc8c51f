"""The Keep-Alive field of responses: what the parser makes of it, and that a connection is not used beyond it."""

from __future__ import annotations

import itertools
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest

from clock import Clock
from conftest import Authority
from httpio import BodyFollowing, ConnectionClosed, HTTPConnection, Request, fetch
from httpio._parser import ResponseParser
from httpio.exceptions import InvalidResponse, UnsupportedResponse
from httpio.messages import HTTPResponse
from servers.scripted import Peer, Script, Scripted, server_context

Parser: TypeAlias = "ResponseParser[HTTPResponse]"

# -- the parser --


def make(requests: int, limit: int = 100) -> Parser:
    parser = ResponseParser(HTTPResponse, InvalidResponse, UnsupportedResponse, None, 0, limit)
    for number in range(requests):
        parser.expect(number)
    return parser


def receive(parser: Parser, wire: bytes) -> None:
    with memoryview(parser) as free:
        free[: len(wire)] = wire
    parser.buffer_updated(len(wire))


def feed(parser: Parser, wire: bytes) -> None:
    while wire and (taken := parser.feed(wire)):
        wire = wire[taken:]


def answer(*says: str, version: str = "1.1", more: str = "") -> bytes:
    """A response without content, with a Keep-Alive field for each of *says*."""
    fields = "".join(f"Keep-Alive: {say}\r\n" for say in says)
    return f"HTTP/{version} 200 OK\r\n{more}{fields}Content-Length: 0\r\n\r\n".encode("latin-1")


FIELDS: list[tuple[list[str], int, int | None]] = [
    ([], -1, None),
    (["timeout=5"], 5, None),
    (["max=100"], -1, 100),
    (["timeout=5, max=100"], 5, 100),
    (["max=100,timeout=5"], 5, 100),
    (["timeout=5", "max=100"], 5, 100),
    (["TimeOut=5, MAX=100"], 5, 100),
    ([" \ttimeout=5\t , \t max=100 "], 5, 100),
    ([",, timeout=5,,max=100,"], 5, 100),
    (['foo=1, timeout=5, bar, max=100, baz="a"'], 5, 100),
    (["timeout=7, timeout=5"], 5, None),
    (["max=7", "max=5"], -1, 5),
    (["timeout=0, max=0"], 0, 0),
    (["timeout=007"], 7, None),
    (["timeout=999999999, max=999999999"], 999_999_999, 999_999_999),
]
MALFORMED = [
    *("", ",", "5", "timeout", "timeout=", "timeout= 5", "timeout =5", "timeout=5s", "timeout=5.5", "timeout=-5"),
    *("timeout=+5", 'timeout="5"', "timeout=0x5", "timeout=5;max=5", "timeout=5 6", "xtimeout=5", "timeouts=5"),
    *("timeout=\xb2", "timeout=1234567890", "timeout==5", "max=", "max=ten", "max=-1", "max= 5", "xmax=5", "max"),
    *("max=99999999999999999999", "maximum=5", "t", "m=5", "max5"),
]


@pytest.mark.parametrize("bring", [receive, feed])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize(("says", "timeout", "most"), FIELDS, ids=lambda value: str(value))
def test_the_field(
    says: list[str], timeout: int, most: int | None, version: str, bring: Callable[[Parser, bytes], None]
) -> None:
    parser = make(1)
    assert (parser.keep_timeout, parser.takes) == (-1, None)
    bring(parser, answer(*says, version=version, more="Connection: keep-alive\r\n"))
    assert (parser.keep_timeout, parser.takes) == (timeout, most)
    assert parser.reusable == (most != 0)


@pytest.mark.parametrize("name", ["keep-alive", "KEEP-ALIVE", "kEEP-aLIVE"])
def test_the_case_of_its_name(name: str) -> None:
    parser = make(1)
    receive(parser, answer(more=f"{name}: timeout=5, max=9\r\n"))
    assert (parser.keep_timeout, parser.takes) == (5, 9)


@pytest.mark.parametrize("name", ["Keep-Alivx", "KeepxAlive", "Keep-Aliv", "Keep-Alives", "Connection", "X"])
def test_other_fields(name: str) -> None:
    parser = make(1)
    receive(parser, answer(more=f"{name}: timeout=5, max=9\r\n"))
    assert (parser.keep_timeout, parser.takes) == (-1, None)


@pytest.mark.parametrize("say", MALFORMED)
def test_what_is_malformed_says_nothing(say: str) -> None:
    """It is no error, and takes nothing back that was said before."""
    parser = make(2)
    receive(parser, answer(say))
    assert (parser.keep_timeout, parser.takes, parser.reusable) == (-1, None, True)
    parser = make(2)
    receive(parser, answer("timeout=5, max=9"))
    receive(parser, answer(say))
    assert (parser.keep_timeout, parser.takes) == (5, 8)


def test_the_last_word_on_time_stands() -> None:
    parser = make(4)
    found = []
    for says in ([], ["timeout=5"], [], ["timeout=9"]):
        receive(parser, answer(*says))
        found.append(parser.keep_timeout)
    assert found == [-1, 5, 5, 9]


def test_what_the_peer_takes_is_counted_down() -> None:
    parser = make(1)
    receive(parser, answer("max=3"))
    for left in (3, 2, 1):
        assert (parser.takes, parser.reusable) == (left, True)
        parser.expect("next")
        assert parser.takes == left - 1
        receive(parser, answer())
    assert (parser.takes, parser.reusable) == (0, False)


def test_what_is_outstanding_counts() -> None:
    parser = make(5)
    receive(parser, answer("max=6"))
    assert (parser.takes, parser.reusable) == (2, True)
    parser.expect_all(["/5", "/6"])
    assert (parser.takes, parser.reusable) == (0, False)
    receive(parser, answer("max=9") * 2)
    assert (parser.takes, parser.reusable) == (5, True)
    receive(parser, answer("max=1"))
    assert (parser.takes, parser.reusable) == (0, False)  # less than are out already
    assert len(parser.outstanding) == 3
    receive(parser, answer() * 3)
    assert (parser.takes, parser.stage) == (0, 0)


def test_the_word_counts_from_the_head() -> None:
    """Behind an open response, less what has been sent behind it."""
    parser = make(2, limit=-1)
    receive(parser, b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5, max=2\r\nContent-Length: 3\r\n\r\na")
    assert (parser.keep_timeout, parser.takes, parser.reusable) == (5, 1, True)
    receive(parser, b"bc")
    assert parser.read(10) == b"abc"
    assert parser.takes == 1
    receive(parser, answer())
    assert parser.takes == 1


def test_interim_responses_say_nothing() -> None:
    parser = make(1)
    receive(parser, b"HTTP/1.1 103 Early\r\nKeep-Alive: timeout=5, max=0\r\n\r\n")
    assert (parser.keep_timeout, parser.takes) == (-1, None)
    receive(parser, answer())
    assert (parser.keep_timeout, parser.takes, parser.reusable) == (-1, None, True)


# -- a connection --

Serve = Callable[..., tuple[Scripted, HTTPConnection]]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch, still=True)


@pytest.fixture(params=["plain", "tls"])
def served(request: pytest.FixtureRequest, authority: Authority) -> Iterator[Serve]:
    tls = request.param == "tls"
    opened: list[Any] = []

    def serve(script: Script) -> tuple[Scripted, HTTPConnection]:
        server = Scripted(script, server_context(authority.chain, authority.key) if tls else None)
        opened.append(server.__enter__())
        context = ssl.create_default_context(cafile=authority.ca) if tls else None
        conn = HTTPConnection("127.0.0.1", server.port, context, timeout=20)
        opened.append(conn)
        return server, conn

    yield serve
    for one in reversed(opened):
        one.__exit__(None, None, None)


def keeping(*says: str) -> Script:
    """Answers each request with its target; the first with the first of *says* in a Keep-Alive field, and so on, those
    behind the last of them with none."""

    def script(peer: Peer) -> None:
        for say in itertools.chain(says, itertools.repeat("")):
            seen = peer.request()
            if seen is None:
                return
            peer.answer(seen.target.encode(), fields=f"Keep-Alive: {say}\r\n" if say else "")

    return script


def exchange(conn: HTTPConnection, path: str) -> None:
    conn.send_request("GET", path)
    assert conn.read_response().path == path
    assert conn.readall() == path.encode()


WAYS: dict[str, Callable[[HTTPConnection], Any]] = {
    "target": lambda conn: conn.send_request("GET", "/late"),
    "fields": lambda conn: conn.send_request("GET", "/late", {"X": "y"}),
    "bytes": lambda conn: conn.send_request("POST", "/late", body=b"abc"),
    "following": lambda conn: conn.send_request("PUT", "/late", body=BodyFollowing(3)),
    "iterable": lambda conn: conn.send_request("PUT", "/late", body=iter([b"abc"])),
    "expecting": lambda conn: conn.send_request("PUT", "/late", body=b"abc", expect100=True),
    "step": lambda conn: list(conn.co_send_request("GET", "/late")),
    "cofun": lambda conn: list(conn.send_request("GET", "/late", via_cofun=True)),
}


def assert_refused(conn: HTTPConnection, *outstanding: str) -> None:
    """No way to send is taken, and none of them breaks anything."""
    for way in WAYS.values():
        with pytest.raises(ConnectionClosed) as caught:
            way(conn)
        assert [fact.request.path for fact in caught.value.outstanding] == list(outstanding)
    assert [request.path for request in conn.outstanding] == list(outstanding)


@pytest.mark.parametrize(
    ("timeout", "kept", "over"), [(100, 98.9, 99.01), (5, 3.9, 4.01), (2, 0.9, 1.01), (1, 0.4, 0.51), (0, None, 0.0)]
)
def test_idle_past_its_time(timeout: int, kept: float | None, over: float, served: Serve, clock: Clock) -> None:
    """With a margin of a second, or of half the time where that is less."""
    server, conn = served(keeping(f"timeout={timeout}"))
    exchange(conn, "/1")
    if kept is not None:
        clock(kept)
        exchange(conn, "/2")  # counts from here; and the word of the first response goes on to hold
    clock(over)
    assert_refused(conn)
    conn.close()
    server.settle(1)
    assert "/late" not in server.targets()
    assert not server.peers[0].buffer
    exchange(conn, "/anew")
    assert server.connections == 2


@pytest.mark.parametrize("way", WAYS)
def test_each_way_works_anew(way: str, served: Serve, clock: Clock) -> None:
    server, conn = served(keeping("timeout=5"))
    exchange(conn, "/1")
    clock(60)
    with pytest.raises(ConnectionClosed):
        WAYS[way](conn)
    conn.connect()
    clock(60)  # of a connection that was not used yet nothing is known
    conn.expect_timeout = 0
    WAYS[way](conn)
    if way == "following":
        conn.write(b"abc")
    assert conn.read_response().path == "/late"
    assert conn.readall() == b"/late"
    assert server.targets() == ["/1", "/late"]


def test_a_peer_that_says_nothing(served: Serve, clock: Clock) -> None:
    server, conn = served(keeping("max=1000"))
    for number in range(3):
        exchange(conn, f"/{number}")
        clock(100_000)
    assert server.connections == 1


def test_the_answers_that_are_here_stay(served: Serve, clock: Clock) -> None:
    """Both came at once: of the second nobody has heard when the connection is found to be over."""
    together = "".join(
        f"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\n\r\n/{number}" for number in (1, 2)
    )

    def script(peer: Peer) -> None:
        assert peer.request() is not None
        assert peer.request() is not None
        peer.send(together.encode())
        peer.drain()
        assert not peer.buffer

    _, conn = served(script)
    conn.send_request("GET", "/1")
    conn.send_request("GET", "/2")
    assert conn.read_response().path == "/1"
    assert conn.readall() == b"/1"
    clock(60)
    if not conn.outstanding:  # else it came in two parts, and is awaited
        assert_refused(conn)
    assert conn.read_response().path == "/2"
    assert conn.readall() == b"/2"
    clock(60)
    assert_refused(conn)


def test_an_exchange_under_way_is_not_idle(served: Serve, clock: Clock) -> None:
    gate = threading.Semaphore(0)

    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            assert gate.acquire(timeout=20)
            peer.answer(seen.target.encode() * 100, fields="Keep-Alive: timeout=5\r\n")

    server, conn = served(script)
    gate.release()
    conn.send_request("GET", "/1")
    conn.read_response()
    assert conn.read(1) == b"/"
    clock(60)
    conn.send_request("GET", "/2")  # the body of the first has not been read
    conn.discard()
    clock(60)
    conn.send_request("GET", "/3")  # the second is awaited
    for _ in range(2):
        gate.release()
        conn.read_response()
        clock(60)
        conn.discard()
    clock(3)
    gate.release()
    conn.send_request("GET", "/4")
    conn.read_response()
    assert server.connections == 1
    conn.discard()
    clock(60)
    assert_refused(conn)


def test_max(served: Serve) -> None:
    """At most that many more go out, whatever else is outstanding."""
    server, conn = served(keeping("max=3"))
    exchange(conn, "/1")
    for path in ("/2", "/3", "/4"):
        conn.send_request("GET", path)
    assert_refused(conn, "/2", "/3", "/4")
    for path in ("/2", "/3", "/4"):
        assert conn.read_response().path == path
        assert conn.readall() == path.encode()
    assert_refused(conn)
    conn.close()
    server.settle(1)
    assert server.targets() == ["/1", "/2", "/3", "/4"]
    assert not server.peers[0].buffer
    exchange(conn, "/anew")
    assert server.connections == 2


def test_max_of_each_answer(served: Serve) -> None:
    server, conn = served(keeping("max=2", "max=1", "timeout=5, max=0"))
    for path in ("/1", "/2", "/3"):
        exchange(conn, path)
    assert_refused(conn)
    assert server.targets() == ["/1", "/2", "/3"]


def test_max_that_is_less_than_what_is_out(served: Serve) -> None:
    server, conn = served(keeping("max=1"))
    for number in range(4):
        conn.send_request("GET", f"/{number}")
    for number in range(4):
        assert conn.read_response().path == f"/{number}"
        conn.discard()
        assert_refused(conn, *[f"/{later}" for later in range(number + 1, 4)])
    assert server.connections == 1


def test_max_inside_a_body(served: Serve) -> None:
    """A body that is being sent is sent to its end."""
    server, conn = served(keeping("max=1"))
    exchange(conn, "/1")
    conn.send_request("PUT", "/2", body=BodyFollowing())
    conn.write(b"abc")
    conn.end_body()
    assert_refused(conn, "/2")
    assert conn.read_response().path == "/2"
    assert server.targets() == ["/1", "/2"]


# -- many requests --


def paths(count: int) -> list[str]:
    return [f"/{number}" for number in range(count)]


def taking(most: int, closes: bool) -> tuple[Script, list[int]]:
    """Takes one request and *most* more, as it says, on each connection, and then closes or listens no more; and how
    many came."""
    counts: list[int] = []

    def script(peer: Peer) -> None:
        counts.append(0)
        while (seen := peer.request()) is not None:
            counts[peer.number] += 1
            left = most + 1 - counts[peer.number]
            if left >= 0:
                peer.answer(seen.target.encode(), fields=f"Keep-Alive: timeout=100, max={left}\r\n")
            if left == 0 and closes:
                peer.finish()

    return script, counts


@pytest.mark.parametrize(("depth", "closes"), [(None, False), (None, True), (1, False), (1, True), (4, True)])
@pytest.mark.parametrize("most", [0, 1, 3, 9, 99])
def test_a_pipeline_keeps_to_max(most: int, depth: int | None, closes: bool) -> None:
    """Nothing is lost, and nothing is asked for twice: on no connection is there more than the peer takes, but for what
    went out before it had said a word."""
    script, counts = taking(most, closes)
    with Scripted(script) as server, HTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
        bodies = [response.body for response in conn.pipeline(paths(200), depth)]
        assert bodies == [path.encode() for path in paths(200)]
        assert counts[0] <= max(most + 1, depth or 1)
        assert max(counts[1:]) <= most + 1
        assert max(Counter(server.targets()).values()) <= (1 if counts[0] <= most + 1 else 2)
        assert server.connections <= -(-200 // (most + 1)) + 1


@pytest.mark.parametrize("kind", ["GET", "POST"])
def test_a_pipeline_after_idle_time(kind: str, served: Serve, clock: Clock) -> None:
    server, conn = served(keeping(*["timeout=5"] * 9))
    for run in range(3):
        requests = [Request(kind, f"/{run}{number}", body=b"x") for number in range(3)]
        assert [response.request for response in conn.pipeline(requests)] == requests
        clock(60)
    assert server.connections == 3
    assert len(server.seen) == 9
    assert_refused(conn)


@pytest.mark.parametrize("kind", ["GET", "POST"])
@pytest.mark.parametrize("depth", [None, 1, 4])
def test_a_pipeline_whose_requests_come_late(depth: int | None, kind: str, served: Serve, clock: Clock) -> None:
    server, conn = served(keeping(*["timeout=5"] * 9))

    def source() -> Iterator[Request]:
        for path in paths(5):
            yield Request(kind, path, body=b"x")
            clock(60)

    assert [response.path for response in conn.pipeline(source(), depth)] == paths(5)
    assert server.targets() == paths(5)
    if depth == 1 or kind == "POST":
        assert server.connections == 5


def test_idle_time_is_no_loss(clock: Clock) -> None:
    """The next connection is used as deep as the last one was."""

    def script(peer: Peer) -> None:
        seen = [peer.request() for _ in range(16 if peer.number else 0)]  # no answer before all of them have come
        for one in itertools.chain(seen, iter(peer.request, None)):
            assert one is not None
            peer.answer(one.target.encode(), fields="Keep-Alive: timeout=5\r\n")

    def source() -> Iterator[str]:
        yield from paths(1 + 2 + 4 + 8)
        clock(60)
        yield from paths(16)

    with Scripted(script) as server, HTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
        assert [response.path for response in conn.pipeline(source())] == paths(15) + paths(16)
        assert server.connections == 2


@pytest.mark.parametrize("depth", [None, 1, 4])
def test_a_pipeline_where_nothing_is_kept(depth: int | None, served: Serve) -> None:
    """Each answer says that an idle connection is not kept at all."""
    server, conn = served(keeping(*["timeout=0"] * 20))
    assert [response.path for response in conn.pipeline(paths(20), depth)] == paths(20)
    assert server.targets() == paths(20)
    if depth == 1:
        assert server.connections == 20


@pytest.mark.parametrize("say", ["max=0", "timeout=0", "max=3", "timeout=100, max=7"])
def test_fetch(say: str) -> None:
    with Scripted(keeping(*[say] * 50)) as server:
        results = {result.request: result.content for result in fetch(server.url + path for path in paths(50))}
        assert results == {server.url + path: path.encode() for path in paths(50)}
        if say == "max=0":
            assert server.connections > 5
