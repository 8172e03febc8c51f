"""fetch and transfer: several origins, failures in their place, sinks, and one result for every item."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import random
import select
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

import httpio.bulk.engine
import httpio.reaching
from httpio import ConnectionClosed, InvalidResponse, InvalidURL, Request, Result, UnsupportedResponse, fetch
from httpio.bulk.engine import Job, transfer
from httpio.bulk.sinks import FolderSink
from httpio.testing import Server
from httpio.transport import Transport
from httpio.urls import split_url
from httpio.window import MAX_DEPTH
from servers.scripted import Peer, Scripted


def content(target: str) -> bytes:
    """What the object at *target* holds: 0 to 3000 bytes, and nothing like another's."""
    digest = hashlib.sha256(target.encode()).digest()
    return (digest * 94)[: int.from_bytes(digest[:2], "big") % 3000]


def large(target: str) -> bytes:
    return hashlib.sha256(target.encode()).digest() * 80_000  # 2.5 MB


def objects(peer: Peer) -> None:
    while (seen := peer.request()) is not None:
        peer.answer(large(seen.target) if seen.target.startswith("/large") else content(seen.target))


def run(items: Any, **options: Any) -> list[Result]:
    return list(fetch(items, **{"timeout": 20, **options}))


def jobs(server: Scripted, targets: list[str], method: str = "GET") -> list[Job]:
    origin, _ = split_url(server.url + "/")
    return [
        Job(origin, target if method == "GET" else Request(method, target, body=b"x"), target[1:]) for target in targets
    ]


def silent_port() -> tuple[socket.socket, int]:
    """A port where nothing listens, kept."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock, sock.getsockname()[1]


def test_several_origins() -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(Scripted(objects)) for _ in range(5)]
        urls = [f"{server.url}/{number}" for number in range(200) for server in servers]
        results = run(iter(urls))
        assert Counter(result.request for result in results) == Counter(urls)
        for server in servers:
            own = [result for result in results if result.request.startswith(server.url + "/")]
            assert [result.request for result in own] == [url for url in urls if url.startswith(server.url + "/")]
            for result in own:
                assert (result.status, result.error, result.attempts) == (200, None, 1)
                assert result.content == content(result.request.removeprefix(server.url))
                assert result.ok
            assert server.connections == 1
            server.settle()  # and it is closed
            assert "httpio/" in (server.seen[0].field("User-Agent") or "")


def test_nothing_to_fetch() -> None:
    assert run([]) == []
    assert list(transfer([])) == []


def test_headers_and_requests() -> None:
    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            peer.answer(f"{seen.method} {seen.field('X-A')} {seen.field('X-B')} {seen.field('User-Agent')}".encode())

    with Scripted(script) as server:
        request = Request("POST", f"{server.url}/2", {"x-a": "own"}, b"abc", tag=object())
        first, second = run([f"{server.url}/1", request], headers={"X-A": "1", "X-B": "2", "User-Agent": "me"})
        assert first.content == b"GET 1 2 me"
        assert second.content == b"POST own 2 me"
        assert second.request is request
    with pytest.raises(ValueError, match="X"):
        run(["http://h/"], headers={"X": "a\nb"})


def test_bad_items_in_their_place() -> None:
    with Scripted(objects) as server:
        bad: list[Any] = [
            "ftp://h/", "nothing", "http://a b/", "http://u:p@h/", f"{server.url}/a b", 5, None,
            Request("GET", "/no-origin"), Request("GET", 5),  # type: ignore[arg-type]
        ]  # fmt: skip
        refused: list[Any] = [
            Request("G T", f"{server.url}/x"), Request("GET", f"{server.url}/x", 5),  # type: ignore[arg-type]
            Request("GET", f"{server.url}/x", [5]), Request("PUT", f"{server.url}/x", body="text"),  # type: ignore
        ]  # fmt: skip
        items = []
        for number, item in enumerate((*bad, *refused)):
            items += [f"{server.url}/{number}", item]
        results = run(items)
        assert len(results) == len(items)
        assert Counter(id(result.request) for result in results) == Counter(id(item) for item in items)
        own = [result.request for result in results if result.request not in bad]
        assert own == [item for item in items if item not in bad]
        for result in results:
            if isinstance(result.request, str) and result.request not in bad:
                assert result.content == content(result.request.removeprefix(server.url))
            else:
                assert isinstance(result.error, (InvalidURL, TypeError, ValueError))
                assert (result.status, result.content) == (None, None)
        assert server.connections == 1
        assert "/x" not in server.targets()


def test_a_refused_origin_fails_its_own_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    dialled: Counter[int] = Counter()
    dial = httpio.reaching.co_dial

    def counting(host: str, port: int, **options: Any) -> Any:
        dialled[port] += 1
        return dial(host, port, **options)

    monkeypatch.setattr(httpio.reaching, "co_dial", counting)
    kept, port = silent_port()
    with kept, Scripted(objects) as server:
        items = [
            url for number in range(300) for url in (f"{server.url}/{number}", f"http://127.0.0.1:{port}/{number}")
        ]
        results = run(items)
        assert Counter(result.request for result in results) == Counter(items)
        for result in results:
            if result.request.startswith(server.url):
                assert result.content == content(result.request.removeprefix(server.url))
            else:
                assert isinstance(result.error, ConnectionRefusedError)
                assert result.attempts == 0
        assert dialled[port] <= 2


def test_an_origin_that_hangs_up_fails_its_own_objects() -> None:
    def rude(peer: Peer) -> None:
        peer.reset()

    with Scripted(objects) as server, Scripted(rude) as other:
        results = run([url for n in range(20) for url in (f"{server.url}/{n}", f"{other.url}/{n}")])
        assert len(results) == 40
        for result in results:
            assert result.ok == result.request.startswith(server.url)
            assert result.ok or isinstance(result.error, ConnectionClosed)
        # Each object may cost two connections that were lost, and one that came to nothing.
        assert other.connections <= 3 * 20 + 1


def test_statuses_are_results() -> None:
    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            peer.answer(b"body", f"{seen.target[1:]} X")

    with Scripted(script) as server:
        statuses = [200, 206, 301, 404, 500, 503]
        results = run([f"{server.url}/{status}" for status in statuses])
        assert [(result.status, result.content, result.error) for result in results] == [
            (status, b"body", None) for status in statuses
        ]
        assert [result.ok for result in results] == [True, True, False, False, False, False]


@pytest.mark.parametrize("size", [2000, 24 << 20])  # the latter is more than the sockets of two ends can hold
def test_a_body_over_the_limit(size: int) -> None:
    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            peer.answer(bytes(size) if seen.target == "/over" else b"ok")

    with Scripted(script) as server:
        items = [f"{server.url}/{name}" for name in ("1", "over", "2", "over", "3")]
        results = run(items, body_limit=1000)
        assert [result.request for result in results] == items
        for result in results:
            if result.request.endswith("over"):
                assert isinstance(result.error, UnsupportedResponse)
                assert "body_limit" in str(result.error)
                assert (result.content, result.error.expected) == (None, size)
            else:
                assert result.content == b"ok"
        assert server.connections == (1 if size < 10_000 else 3)
        assert server.targets().count("/over") == 2


def test_an_invalid_response_fails_its_object_only() -> None:
    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            if seen.target.startswith("/bad"):
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx")
            else:
                peer.answer(content(seen.target))

    with Scripted(script) as server:
        names = [f"/{number}" if number % 10 != 7 else f"/bad{number}" for number in range(60)]
        results = run([server.url + name for name in names])
        assert [result.request for result in results] == [server.url + name for name in names]
        for name, result in zip(names, results, strict=True):
            if name.startswith("/bad"):
                assert isinstance(result.error, InvalidResponse)
            else:
                assert result.content == content(name)
        assert server.connections <= 7
        bad = Counter(target for target in server.targets() if target.startswith("/bad"))
        assert max(bad.values()) == 1


def test_a_body_of_the_callers_that_raises() -> None:
    def body(error: Exception) -> Iterator[bytes]:
        yield b"abc"
        raise error

    with Scripted(objects) as server:
        errors: list[Exception] = [KeyError("mine"), OSError("mine"), ConnectionResetError("mine")]
        items: list[Any] = [f"{server.url}/0"]
        for number, error in enumerate(errors):
            items += [Request("PUT", f"{server.url}/put", body=body(error)), f"{server.url}/{number + 1}"]
        results = run(items)
        assert [result.request for result in results] == items
        assert [result.error for result in results[1::2]] == errors
        assert all(result.ok for result in results[::2])
        assert server.targets().count("/put") == 3


def test_items_that_raise() -> None:
    """What was drawn before is still fetched."""

    def source(server: Scripted) -> Iterator[str]:
        for number in range(100):
            yield f"{server.url}/{number}"
        raise KeyError("mine")

    with Scripted(objects) as server:
        results: list[bytes | None] = []
        with pytest.raises(KeyError, match="mine"):
            results.extend(result.content for result in fetch(source(server), timeout=15))
        assert results == [content(f"/{number}") for number in range(100)]


def test_the_look_ahead_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one origin stuck, the items are not all drawn for the sake of the others."""
    monkeypatch.setattr(httpio.bulk.engine, "LOOK_AHEAD", 300)
    over = threading.Event()

    def stuck(peer: Peer) -> None:
        peer.request()
        assert over.wait(20)
        peer.answer(b"late")
        objects(peer)

    drawn = 0
    with Scripted(objects) as server, Scripted(stuck) as other:

        def source() -> Iterator[str]:
            nonlocal drawn
            for number in range(5000):
                drawn += 1
                assert over.is_set() or drawn <= 2 * (300 + 64) + 256
                yield f"{(server if number % 2 else other).url}/{number}"

        results = fetch(source(), timeout=15)
        assert drawn == 0
        first = list(itertools.islice(results, 200))
        assert all(result.request.startswith(server.url) for result in first)
        timer = threading.Timer(0.5, over.set)  # until then it goes on with what may be drawn
        timer.start()
        rest = list(results)
        timer.join()
        assert len(first) + len(rest) == 5000
        assert all(result.ok for result in rest)


def test_a_slow_caller_slows_the_transfer() -> None:
    drawn = 0
    with Scripted(objects) as server:

        def source() -> Iterator[str]:
            nonlocal drawn
            for number in range(20_000):
                drawn += 1
                yield f"{server.url}/{number}"

        results = fetch(source(), timeout=15)
        for number, _ in enumerate(itertools.islice(results, 50)):
            assert drawn <= 1024 + 2 * number
        results.close()  # type: ignore[attr-defined]
        server.settle(1)


def test_lanes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more connections are open at a time than lanes, however many origins there are."""
    monkeypatch.setattr(httpio.bulk.engine, "MAX_LANES", 2)
    with ExitStack() as stack:
        servers = [stack.enter_context(Scripted(objects)) for _ in range(8)]
        before = descriptors()
        most = 0
        urls = [f"{server.url}/{number}" for server in servers for number in range(30)]
        results = []
        for result in fetch(urls, timeout=15):
            results.append(result)
            most = max(most, our_connections(servers))
        assert Counter(result.request for result in results) == Counter(urls)
        assert all(result.ok for result in results)
        assert most <= 3
        for server in servers:
            server.settle()
        assert descriptors() <= before


def our_connections(servers: list[Scripted]) -> int:
    """Open sockets of this process that lead to the servers."""
    ports = {server.port for server in servers}
    found = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink(f"/proc/self/fd/{number}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(number))) as sock:
                found += sock.family == socket.AF_INET and sock.getpeername()[1] in ports
        except OSError:
            continue
    return found


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# -- sinks --


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[FolderSink]:
    with FolderSink(tmp_path / "into") as made:
        yield made


def test_a_sink_gets_small_and_large_bodies(sink: FolderSink, tmp_path: Path) -> None:
    targets = [f"/large{number}" if number % 6 == 0 else f"/{number}" for number in range(40)]
    with Scripted(objects) as server:
        results = list(transfer(jobs(server, targets), sink=sink, timeout=15))
        assert server.connections == 1
    assert [result.request.name for result in results] == [target[1:] for target in targets]
    for result in results:
        assert result.path == tmp_path / "into" / result.request.name
        assert (result.content, result.error, result.attempts) == (None, None, 1)
    assert files(tmp_path / "into") == {
        target[1:]: large(target) if target.startswith("/large") else content(target) for target in targets
    }


def test_a_status_that_is_no_success_makes_no_file(sink: FolderSink, tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            peer.answer(large("/x") if seen.target == "/large" else b"x", "404 No")

    with Scripted(script) as server:
        results = list(transfer(jobs(server, ["/small", "/large", "/other"]), sink=sink, timeout=15))
    assert [(result.status, result.path, result.error) for result in results] == [(404, None, None)] * 3
    assert files(tmp_path / "into") == {}


@pytest.mark.parametrize("end", ["finish", "reset"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_cut_is_fetched_again(end: str, chunked: bool, sink: FolderSink, tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            if not seen.target.startswith("/large"):
                peer.answer(content(seen.target))
                continue
            body = large(seen.target)
            head = f"Content-Length: {len(body)}\r\n\r\n".encode()
            if chunked:
                head, body = (
                    b"Transfer-Encoding: chunked\r\n\r\n",
                    b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n",
                )
            cut = peer.server.targets().count(seen.target) == 1
            peer.send(b"HTTP/1.1 200 OK\r\n" + head + (body[:2_000_000] if cut else body))
            if cut:
                getattr(peer, end)()
                return

    targets = ["/1", "/large1", "/2", "/3", "/large2", "/4"]
    with Scripted(script) as server:
        results = list(transfer(jobs(server, targets), sink=sink, timeout=15))
        assert [result.error for result in results] == [None] * 6
        assert [result.attempts for result in results] == [1, 2, 1, 1, 2, 1]
        assert server.connections == 3
        assert server.targets().count("/large1") == 2
    assert files(tmp_path / "into") == {
        target[1:]: large(target) if target.startswith("/large") else content(target) for target in targets
    }


def test_a_body_that_is_always_cut_fails(sink: FolderSink, tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            if seen.target == "/large":
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + bytes(2_000_000))
                peer.finish()
                return peer.drain()  # so that no reset takes the body with it
            peer.answer(content(seen.target))

    with Scripted(script) as server:
        results = list(transfer(jobs(server, ["/1", "/large", "/2"]), sink=sink, timeout=15))
        assert server.targets().count("/large") <= 3
    assert [result.ok for result in results] == [True, False, True]
    error = results[1].error
    assert isinstance(error, ConnectionClosed)
    assert (error.received, error.expected, error.where) == (2_000_000, 3_000_000, "in body")
    assert files(tmp_path / "into") == {"1": content("/1"), "2": content("/2")}
    assert not list((tmp_path / "into").glob(".*"))


def test_a_post_is_not_repeated_for_its_body(sink: FolderSink) -> None:
    def script(peer: Peer) -> None:
        assert peer.request() is not None
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + bytes(2_000_000))

    with Scripted(script) as server:
        (result,) = transfer(jobs(server, ["/post"], "POST"), sink=sink, timeout=15)
        assert isinstance(result.error, ConnectionClosed)
        assert result.attempts == 1
        assert server.targets() == ["/post"]


def test_what_the_sink_raises_is_the_error_of_its_object(sink: FolderSink, tmp_path: Path) -> None:
    (tmp_path / "into" / "file").write_bytes(b"in the way")
    targets = ["/1", "/file/below", "/2", "/file/large", "/3", "/4"]

    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            peer.answer(large(seen.target) if seen.target.endswith("large") else content(seen.target))

    with Scripted(script) as server:
        results = list(transfer(jobs(server, targets), sink=sink, timeout=15))
    for target, result in zip(targets, results, strict=True):
        assert result.request.name == target[1:]
        assert result.ok == ("file" not in target)
        assert result.ok or isinstance(result.error, NotADirectoryError)
    assert files(tmp_path / "into") == {
        "file": b"in the way",
        **{name: content("/" + name) for name in "1234"},
    }


def test_a_full_disk_in_the_middle_of_a_body(sink: FolderSink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = httpio.bulk.sinks.Writer.write
    written: Counter[str] = Counter()

    def write(self: Any, data: Any) -> None:
        written[self._path] += len(data)
        if self._path.endswith("large1") and written[self._path] > 1_000_000:
            self.abort()
            raise OSError(errno.ENOSPC, "full")
        real(self, data)

    monkeypatch.setattr(httpio.bulk.sinks.Writer, "write", write)
    targets = ["/large0", "/large1", "/large2", "/1"]
    with Scripted(objects) as server:
        results = list(transfer(jobs(server, targets), sink=sink, timeout=15))
        assert server.targets().count("/large1") == 1
    assert [result.ok for result in results] == [True, False, True, True]
    assert isinstance(results[1].error, OSError)
    assert results[1].error.errno == errno.ENOSPC
    assert sorted(files(tmp_path / "into")) == ["1", "large0", "large2"]


@pytest.mark.parametrize("after", [0, 1, 3])
def test_closing_the_generator_leaves_nothing(after: int, sink: FolderSink, tmp_path: Path) -> None:
    before = descriptors()
    part_sent = threading.Event()

    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            if seen.target == "/half":
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + bytes(3_000_000))
                part_sent.set()
                return peer.drain()
            peer.answer(content(seen.target))

    with Scripted(script) as server, Scripted(objects) as other:
        listed = jobs(server, ["/1", "/2", "/3", "/half"]) + jobs(other, [f"/o{n}" for n in range(500)])
        results = transfer(iter(listed), sink=sink, timeout=15)
        for _ in range(after):
            next(results)
        if after == 3:
            while not part_sent.is_set() and next(results, None) is not None:
                pass
        results.close()  # type: ignore[attr-defined]
        assert our_connections([server, other]) == 0
        for one in (server, other):
            one.settle()
    assert not [path for path in (tmp_path / "into").rglob("*") if path.name.startswith(".httpio-")]
    assert "half" not in files(tmp_path / "into")
    assert descriptors() <= before


# -- everything at once --


class Faulty:
    """Answers one request in five with a fault, by a seeded choice."""

    def __init__(self, faults: list[str], number: int) -> None:
        self.faults = faults
        self.random = random.Random(number)
        self.lock = threading.Lock()

    def fault(self) -> str:
        with self.lock:
            return self.random.choice(self.faults) if self.faults and self.random.random() < 0.2 else "none"

    def __call__(self, peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            body = content(seen.target) if not seen.target.startswith("/big") else large(seen.target)
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
            kind = self.fault()
            if kind == "finish":
                return peer.finish()
            if kind == "reset":
                return peer.reset()
            if kind == "half head":
                peer.send(head[:20])
                return peer.finish()
            if kind == "half body" and body:
                peer.send(head + body[: len(body) // 2])
                return peer.finish()
            if kind == "close after":
                peer.send(head + body)
                return peer.finish()
            if kind == "announced":
                peer.answer(body, fields="Connection: close\r\n")
                peer.finish()
                return peer.drain()  # so that no reset takes the answer with it
            if kind == "invalid":
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n")
                return peer.drain()
            if kind == "interim":
                peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            if kind == "chunked":
                chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
                peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n")
            else:
                peer.send(head + body)


KINDS = [
    "finish",
    "reset",
    "half head",
    "half body",
    "close after",
    "announced",
    "invalid",
    "interim",
    "chunked",
]


@seed(11)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    faults=st.lists(st.sampled_from(KINDS), max_size=4, unique=True),
    number=st.integers(0, 1 << 30),
    origins=st.integers(1, 3),
    into_files=st.booleans(),
    posts=st.booleans(),
)
def test_one_result_for_every_item(
    faults: list[str], number: int, origins: int, into_files: bool, posts: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    chosen = random.Random(number)
    folder = tmp_path_factory.mktemp("into")
    before = descriptors()
    with ExitStack() as stack:
        servers = [stack.enter_context(Scripted(Faulty(faults, number + index))) for index in range(origins)]
        listed = []
        for index in range(60):
            server = chosen.choice(servers)
            target = f"/big{index}" if chosen.random() < 0.03 else f"/{index}"
            post = posts and chosen.random() < 0.2
            listed += jobs(server, [target], "POST" if post else "GET")
        make: Callable[[], Any] = lambda: FolderSink(folder)  # noqa: E731
        if into_files:
            with make() as sink:
                results = list(transfer(iter(listed), sink=sink, timeout=20))
        else:
            results = list(transfer(iter(listed), timeout=20))
        assert Counter(map(id, listed)) == Counter(id(result.request) for result in results)
        for origin in {job.origin for job in listed}:
            assert [job.name for job in listed if job.origin == origin] == [
                result.request.name for result in results if result.request.origin == origin
            ]
        for result in results:
            target = "/" + result.request.name
            wanted = large(target) if target.startswith("/big") else content(target)
            if result.ok and into_files:
                assert result.path is not None
                assert result.path.read_bytes() == wanted
            elif result.ok:
                assert result.content == wanted
            else:
                assert isinstance(result.error, (ConnectionClosed, InvalidResponse))
                assert not isinstance(result.error, InvalidResponse) or "invalid" in faults
        if into_files:
            assert sorted(files(folder)) == sorted(result.request.name for result in results if result.ok)
        harmless = {"announced", "interim", "chunked"}
        if set(faults) <= harmless:
            assert all(result.ok and result.attempts == 1 for result in results)
        for server in servers:
            times = Counter((seen.method, seen.target) for seen in server.seen)
            assert all(count == 1 for (method, _), count in times.items() if method == "POST")
            assert sum(times.values()) <= 60 * 4
            assert server.connections <= 60 * 2
            server.settle()
        assert our_connections(servers) == 0
    assert descriptors() <= before


def test_results_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a server that is always there in time, too: the engine stops at each batch."""
    receive = Transport.try_receive_into

    def receive_in_time(transport: Transport, *arguments: Any) -> int | None:
        select.select([transport.socket], [], [], 20)
        return receive(transport, *arguments)

    monkeypatch.setattr(Transport, "try_receive_into", receive_in_time)
    drawn = 0

    def urls() -> Iterator[str]:
        nonlocal drawn
        for number in range(5000):
            drawn = number
            yield f"{server.url}/objects/{number}?size=10"

    with Server() as server:
        for taken, _ in enumerate(fetch(urls(), timeout=20)):
            assert drawn - taken <= 4 * MAX_DEPTH
    assert taken == 4999


def test_bodies_are_drawn_as_they_can_be_sent() -> None:
    """Uploads that are made when they are drawn do not pile up."""
    drawn = 0

    def uploads(url: str) -> Iterator[Request]:
        nonlocal drawn
        for number in range(100):
            drawn += 1
            yield Request("PUT", f"{url}/{number}", body=bytes(500_000))

    with Scripted(lambda peer: [peer.answer() for _ in iter(peer.request, None)]) as server:
        for count, result in enumerate(fetch(uploads(server.url), timeout=15)):
            assert result.status == 200
            assert drawn - count <= 8
    assert drawn == 100
