"""What calls that decode ask for, what they leave as it came, and what they put into files."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import httpio
from codings import TEXT, coded, coded_chunks, gzipped
from conformance.scenario import reply, sends
from httpio import AsyncHTTPConnection, HTTPConnection, InvalidResponse, Request, UnsupportedResponse
from httpio.bulk.engine import Job, transfer
from httpio.bulk.sinks import FolderSink
from httpio.cli import main
from httpio.urls import split_url
from pumped import Well
from servers.scripted import Peer, Scripted, answers


@pytest.fixture
def well() -> Iterator[Well]:
    made = Well()
    with made.works():
        yield made
    made.close()


# -- what is asked for --

CAN = httpio.accept_encoding()


def asked(server: Scripted) -> list[str | None]:
    return [seen.field("Accept-Encoding") for seen in server.seen]


def test_what_can_be_read_is_said() -> None:
    assert CAN.startswith("gzip, deflate")
    assert set(CAN.split(", ")) <= {"gzip", "deflate", "br", "zstd"}


def test_a_connection_asks_for_what_its_caller_says() -> None:
    with Scripted(answers) as server, HTTPConnection("127.0.0.1", server.port) as conn:
        for fields in (None, {"Accept-Encoding": CAN}, {"accept-encoding": "br;q=0"}):
            conn.send_request("GET", "/", fields)
            assert conn.read_response(decode=True).status == 200
            assert conn.readall() == b"/"
    assert asked(server) == ["identity", CAN, "br;q=0"]


def test_a_pipeline_asks_for_what_it_decodes() -> None:
    """What comes behind it does not."""
    own = Request("GET", "/own", {"accept-ENCODING": "identity;q=1"})
    put = Request("PUT", "/put", {"X-A": "1"}, b"body")
    with Scripted(answers) as server, HTTPConnection("127.0.0.1", server.port) as conn:
        for decode in (False, True, False):
            assert len(list(conn.pipeline(["/a", "/b", own, put, "/c"], decode=decode))) == 5
            conn.send_request("GET", "/between")
            conn.read_response()
            conn.discard()
    plain, each = "identity", [CAN, CAN, "identity;q=1", CAN, CAN]
    without = [plain, plain, "identity;q=1", plain, plain]
    assert asked(server) == [*without, plain, *each, plain, *without, plain]


def test_a_pipeline_of_a_task_asks_for_the_same() -> None:
    async def work() -> None:
        async with AsyncHTTPConnection("127.0.0.1", server.port) as conn:
            for decode in (True, False):
                assert len([response async for response in conn.pipeline(["/a", "/b"], decode=decode)]) == 2

    with Scripted(answers) as server:
        asyncio.run(work())
    assert asked(server) == [CAN, CAN, "identity", "identity"]


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("own", [None, "gzip;q=0.5"])
def test_fetch_asks_for_what_it_decodes(own: str | None, decode: bool, tmp_path: Path) -> None:
    headers = {"X-A": "1"} if own is None else {"accept-encoding": own}
    with Scripted(answers) as server:
        base = f"http://127.0.0.1:{server.port}/"
        single = Request("GET", base + "b", {"Accept-Encoding": "single"})

        async def by_task() -> None:
            assert len([result async for result in httpio.afetch([base], headers=headers, decode=decode)]) == 1

        assert len(list(httpio.fetch([base + "a", single, base + "c"], headers=headers, decode=decode))) == 3
        asyncio.run(by_task())
        with FolderSink(tmp_path) as sink:
            jobs = [Job(*split_url(base), "stored")]
            assert len(list(transfer(jobs, sink=sink, headers=headers, decode=decode))) == 1
    usual = own or (CAN if decode else "identity")
    assert asked(server) == [usual, "single", usual, usual, usual]


@pytest.mark.parametrize(
    ("options", "field"),
    [([], "identity"), (["--compressed"], CAN), (["--compressed", "-H", "Accept-Encoding: deflate"], "deflate")],
)
def test_the_command_asks_for_what_it_decodes(options: list[str], field: str, tmp_path: Path) -> None:
    with Scripted(sends(coded(gzipped(TEXT)))) as server:
        assert main(["get", f"http://127.0.0.1:{server.port}/text", "-q", "-d", str(tmp_path), *options]) == 0
    assert asked(server) == [field]
    assert (tmp_path / "text").read_bytes() == (TEXT if options else gzipped(TEXT))


# -- what headers and lengths say --


def test_the_head_stays_as_it_came(well: Well) -> None:
    body = gzipped(TEXT)
    with well.pump([coded(body)]), HTTPConnection("127.0.0.1", well.port) as conn:
        (response,) = conn.pipeline(["/object"], decode=True)
        assert response.body == TEXT
        assert response.headers.items() == [("Content-Encoding", "gzip"), ("Content-Length", str(len(body)))]
        assert response.length == len(body)
    with well.pump([coded(body)]):
        (result,) = httpio.fetch([well.url], decode=True)
        assert (result.status, result.content) == (200, TEXT)
        assert result.headers is not None
        assert result.headers.items() == response.headers.items()


def test_an_error_of_fetch_has_status_and_headers(well: Well) -> None:
    for coding in ("x-own", "gzip"):
        with well.pump([coded(b"hello", coding, "404 No")]):
            (result,) = httpio.fetch([well.url], decode=True)
        assert isinstance(result.error, UnsupportedResponse if coding == "x-own" else InvalidResponse)
        assert (result.status, result.content) == (404, None)
        assert result.headers is not None
        assert result.headers["Content-Encoding"] == coding


def test_what_is_not_known_is_named(well: Well) -> None:
    """By the name that the server gave, which cannot do harm where it is shown."""
    with well.pump([coded(b"", 'x-"\t\xe9own')]) as pump, HTTPConnection("127.0.0.1", well.port) as conn:
        conn.send_request("GET", "/object")
        pump.next()
        assert conn.read_response(decode=True).status == 200
        assert conn.readall() == b""
    with well.pump([coded(b"x", "x-own")]) as pump, HTTPConnection("127.0.0.1", well.port) as conn:
        conn.send_request("GET", "/object")
        pump.next()
        conn.read_response(decode=True)
        with pytest.raises(UnsupportedResponse, match="x-own") as caught:
            conn.read(1)
        assert caught.value.where == "in body"
        assert [fact.request.path for fact in caught.value.outstanding] == ["/object"]


# -- into files --

LARGE = b"".join(b"%x\n" % number**9 for number in range(150_000))
"""4 MB, which take more than 1 MiB in gzip: such a body is stored as it comes."""


def test_large_bodies_are_decoded_into_files(tmp_path: Path) -> None:
    """What is wrong leaves no file, and is not asked for again; what follows it is stored."""
    body = gzipped(LARGE)
    assert len(body) > 1 << 20
    answers = {
        "/0": coded(body),
        "/wrong": coded(body[:-1] + b"x"),
        "/1": coded(gzipped(TEXT * 30)),
        "/unknown": coded(body, "x-own"),
        "/plain": reply(LARGE),
        "/2": coded_chunks(body, 50_000),
    }

    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            peer.send(answers[seen.target])

    with Scripted(script) as server, FolderSink(tmp_path) as sink:
        origin, _ = split_url(f"http://127.0.0.1:{server.port}/")
        results = list(transfer((Job(origin, path, path[1:]) for path in answers), sink=sink, decode=True))
    assert [(type(result.error), result.status, result.attempts) for result in results] == [
        (type(None), 200, 1),
        (InvalidResponse, 200, 1),
        (type(None), 200, 1),
        (UnsupportedResponse, 200, 1),
        (type(None), 200, 1),
        (type(None), 200, 1),
    ]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "0": LARGE, "1": TEXT * 30, "plain": LARGE, "2": LARGE,
    }  # fmt: skip
    assert [seen.target for seen in server.seen if seen.target in ("/wrong", "/unknown")] == ["/wrong", "/unknown"]


@pytest.mark.parametrize("ahead", [0, 10])
def test_a_large_body_written_to_a_file(ahead: int, tmp_path: Path) -> None:
    """Its bytes could go to the file without entering Python, and must not."""
    with (
        Scripted(sends(coded(gzipped(LARGE)))) as server,
        HTTPConnection("127.0.0.1", server.port, timeout=20) as conn,
        (tmp_path / "written").open("w+b") as file,
    ):
        conn.send_request("GET", "/")
        conn.read_response(decode=True)
        begin = conn.read(ahead)
        assert conn.write_to(file) == len(LARGE) - ahead
        file.seek(0)
        assert begin + file.read() == LARGE


def test_large_bodies_behind_which_the_connection_ends(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(coded(gzipped(TEXT * 50), fields="Connection: close\r\n"))

    names = ["a", "b", "c"]
    with Scripted(script) as server, FolderSink(tmp_path) as sink:
        origin, _ = split_url(f"http://127.0.0.1:{server.port}/")
        results = list(transfer((Job(origin, f"/{name}", name) for name in names), sink=sink, decode=True))
    assert [result.error for result in results] == [None] * 3
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(names, TEXT * 50)


def test_what_has_no_body_is_an_empty_file(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            head = b"204 No\r\n" if seen.target == "/204" else b"200 OK\r\nContent-Length: 0\r\n"
            peer.send(b"HTTP/1.1 " + head + b"Content-Encoding: x-own\r\n\r\n")

    with Scripted(script) as server, FolderSink(tmp_path) as sink:
        origin, _ = split_url(f"http://127.0.0.1:{server.port}/")
        results = list(transfer((Job(origin, f"/{name}", name) for name in ("204", "empty")), sink=sink, decode=True))
    assert [(result.status, result.error) for result in results] == [(204, None), (200, None)]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"204": b"", "empty": b""}


# -- in other ways than usual --


def test_a_pipeline_through_a_proxy_asks_for_what_it_decodes() -> None:
    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            peer.send(coded(gzipped(seen.target.encode())))

    with Scripted(script) as server:
        url = "http://www.example.invalid/a"
        with HTTPConnection("www.example.invalid", proxy=("127.0.0.1", server.port)) as conn:
            (response,) = conn.pipeline(["/a"], decode=True)
            assert response.body == url.encode()
        (result,) = httpio.fetch([url], proxy=("127.0.0.1", server.port), decode=True)
        assert result.content == url.encode()
    assert asked(server) == [CAN, CAN]


def test_a_100_before_what_is_decoded() -> None:
    """Neither the interim response nor what is sent is touched by it."""

    def script(peer: Peer) -> None:
        seen = peer.head()
        assert seen is not None
        peer.send(b"HTTP/1.1 100 Continue\r\nContent-Encoding: gzip\r\n\r\n")
        peer.send(coded(gzipped(peer.take(4))))
        answers(peer)

    with Scripted(script) as server, HTTPConnection("127.0.0.1", server.port, timeout=20, expect_timeout=None) as conn:
        conn.send_request("PUT", "/", body=httpio.BodyFollowing(4), expect100=True)
        assert conn.read_response(decode=True).status == 100
        conn.write(b"body")
        assert conn.read_response(decode=True).status == 200
        assert conn.readall() == b"body"
        conn.send_request("GET", "/then")
        conn.read_response(decode=True)
        assert conn.readall() == b"/then"


def test_what_is_behind_a_switch_is_not_decoded() -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 101 Switch\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Encoding: gzip\r\n\r\nhello")
        peer.drain()

    with Scripted(script) as server, HTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
        conn.send_request("GET", "/", {"Connection": "upgrade", "Upgrade": "x"})
        assert conn.read_response(decode=True).status == 101
        sock, data = conn.detach()
        with sock:
            sock.settimeout(20)
            while len(data) < 5:
                data += sock.recv(5)
        assert data == b"hello"


def test_a_body_that_nothing_ends_is_refused_as_without_decoding() -> None:
    with (
        Scripted(sends(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzipped(TEXT))) as server,
        HTTPConnection("127.0.0.1", server.port, timeout=20) as conn,
    ):
        conn.send_request("GET", "/")
        assert conn.read_response(decode=True).status == 200
        with pytest.raises(UnsupportedResponse):
            conn.readall()


def test_leaving_a_pipeline_early_ends_its_decoding() -> None:
    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            peer.send(coded(gzipped(TEXT if seen.target == "/large" else b"x")))

    with Scripted(script) as server, HTTPConnection("127.0.0.1", server.port, timeout=20) as conn:
        for read in (0, 10):
            with closing(conn.pipeline(["/large"], body_limit=1000, decode=True)) as responses:
                assert next(responses).body is None
                assert len(conn.read(read)) == read
            conn.send_request("GET", "/small")
            assert conn.read_response().headers["Content-Encoding"] == "gzip"
            assert conn.readall() == gzipped(b"x")
    assert asked(server) == [CAN, "identity", CAN, "identity"]
