"""Content codings on every face: the rows of group content-coding, and each coding."""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import corpus
import httpio
from codings import ENCODERS, TEXT, coded, coded_chunks, gzipped
from httpio import AsyncHTTPConnection, HTTPConnection, InvalidResponse, Limits, UnsupportedResponse
from httpio.bulk.engine import Job, transfer
from httpio.bulk.sinks import FolderSink
from httpio.cli import main
from httpio.urls import split_url
from httpio.waiting import run
from pumped import Pump, Well, working


class Got(NamedTuple):
    """What came of a body, in the words of the cases; *body* is what was given before an error."""

    verdict: str
    body: bytes
    why: str = ""
    status: int | None = 200


def failed(error: Exception | None, body: bytes, status: int | None = 200) -> Got:
    """An error that may come of a body; another is raised."""
    if isinstance(error, InvalidResponse):
        return Got("invalid", body, str(error), status)
    if isinstance(error, UnsupportedResponse):
        return Got("unsupported", body, str(error), status)
    assert error is not None
    raise error


# -- the faces --


def few(into: io.BytesIO) -> int:
    """How many bytes to read next: at first few."""
    return 1 if into.tell() < 30 else 7 if into.tell() < 300 else 10_000


def by_read(conn: HTTPConnection, into: io.BytesIO) -> None:
    while piece := conn.read(size := few(into)):
        assert len(piece) <= size
        into.write(piece)


def by_readall(conn: HTTPConnection, into: io.BytesIO) -> None:
    into.write(conn.readall())


def by_read_without_size(conn: HTTPConnection, into: io.BytesIO) -> None:
    into.write(conn.read())


def by_readinto(conn: HTTPConnection, into: io.BytesIO) -> None:
    buffer = bytearray(70_000)
    while size := conn.readinto(buffer):
        into.write(buffer[:size])


def by_write_to(conn: HTTPConnection, into: io.BytesIO) -> None:
    assert conn.write_to(into) == into.tell()


def by_text(conn: HTTPConnection, into: io.BytesIO) -> None:
    with conn.text("latin-1", newline="") as file:
        while text := file.read(1000):
            into.write(text.encode("latin-1"))


def by_co_read(conn: HTTPConnection, into: io.BytesIO) -> None:
    while piece := run(conn.co_read(few(into))):
        into.write(piece)


def by_co_readinto(conn: HTTPConnection, into: io.BytesIO) -> None:
    while size := run(conn.co_readinto(buffer := bytearray(few(into)))):
        into.write(buffer[:size])


def by_co_readall(conn: HTTPConnection, into: io.BytesIO) -> None:
    into.write(run(conn.co_readall()))


def by_co_write_to(conn: HTTPConnection, into: io.BytesIO) -> None:
    run(conn.co_write_to(into))


READERS = [
    by_read, by_readall, by_read_without_size, by_readinto, by_write_to, by_text, by_co_read, by_co_readinto,
    by_co_readall, by_co_write_to,
]  # fmt: skip

Face = Callable[[Well, Pump, Limits, Path], Got]


def reading(reader: Callable[[HTTPConnection, io.BytesIO], None], decode: bool = True) -> Face:
    """The face of a connection whose bodies are read so."""

    def face(well: Well, pump: Pump, limits: Limits, folder: Path) -> Got:
        into, status = io.BytesIO(), None
        with HTTPConnection("127.0.0.1", well.port, limits=limits) as conn:
            conn.send_request("GET", "/object")
            pump.next()
            try:
                if reader.__name__.startswith("by_co"):
                    status = run(conn.co_read_response(decode=decode)).status
                else:
                    status = conn.read_response(decode=decode).status
                reader(conn, into)
            except (InvalidResponse, UnsupportedResponse) as error:
                return failed(error, into.getvalue(), status)
        return Got("ok", into.getvalue(), "", status)

    face.__name__ = reader.__name__
    return face


def by_file(well: Well, pump: Pump, limits: Limits, folder: Path) -> Got:
    """Into a file that bytes could be spliced to."""
    path = folder / "written"
    with path.open("wb") as file:
        got = reading(lambda conn, into: conn.write_to(file) and None)(well, pump, limits, folder)
    return got._replace(body=path.read_bytes())


def by_pipeline(well: Well, pump: Pump, limits: Limits, folder: Path) -> Got:
    with HTTPConnection("127.0.0.1", well.port, limits=limits) as conn:
        try:
            (got,) = [(response.status, conn.readall() if response.body is None else response.body)
                      for response in conn.pipeline(["/object"], decode=True)]  # fmt: skip
        except (InvalidResponse, UnsupportedResponse) as error:
            return failed(error, b"")
    return Got("ok", got[1], "", got[0])


def by_streaming_pipeline(well: Well, pump: Pump, limits: Limits, folder: Path) -> Got:
    """No body is collected, each is read inside."""
    content = b""
    with HTTPConnection("127.0.0.1", well.port, limits=limits) as conn:
        try:
            for response in conn.pipeline(["/object"], body_limit=0, decode=True):
                assert not response.body
                content = b"".join(iter(lambda: conn.read(10_000), b""))
        except (InvalidResponse, UnsupportedResponse) as error:
            return failed(error, b"")
    return Got("ok", content, "", response.status)


def by_fetch(well: Well, pump: Pump, limits: Limits, folder: Path) -> Got:
    (result,) = httpio.fetch([well.url], decode=True, limits=limits)
    return got_of(result, result.content)


def by_transfer(well: Well, pump: Pump, limits: Limits, folder: Path) -> Got:
    with FolderSink(folder) as sink:
        (result,) = transfer([Job(*split_url(well.url), "stored")], sink=sink, decode=True, limits=limits)
        assert result.content is None
    got = got_of(result, None if result.path is None else result.path.read_bytes())
    assert [path.name for path in folder.iterdir()] == (["stored"] if got.verdict == "ok" else [])
    return got


def got_of(result: httpio.Result, body: bytes | None) -> Got:
    if body is None:
        return failed(result.error, b"", result.status)
    assert result.error is None
    return Got("ok", body, "", result.status)


def by_command(well: Well, pump: Pump, limits: Limits, folder: Path) -> Got:
    """Why something failed is on its standard error."""
    status = main(["get", well.url, "--compressed", "-q", "-d", str(folder)])
    stored = [path.read_bytes() for path in folder.iterdir()]
    assert len(stored) == (status == 0)
    return Got("ok" if stored else "failed", b"".join(stored))


AMain = Callable[[AsyncHTTPConnection, io.BytesIO], Any]


async def a_read(conn: AsyncHTTPConnection, into: io.BytesIO) -> None:
    while piece := await conn.read(few(into)):
        into.write(piece)


async def a_readinto(conn: AsyncHTTPConnection, into: io.BytesIO) -> None:
    while size := await conn.readinto(buffer := bytearray(few(into))):
        into.write(buffer[:size])


async def a_readall(conn: AsyncHTTPConnection, into: io.BytesIO) -> None:
    into.write(await conn.readall())


async def a_write_to(conn: AsyncHTTPConnection, into: io.BytesIO) -> None:
    await conn.write_to(into)


async def a_text(conn: AsyncHTTPConnection, into: io.BytesIO) -> None:
    into.write((await conn.text("latin-1")).encode("latin-1"))


async def a_pipeline(conn: AsyncHTTPConnection, into: io.BytesIO) -> None:
    async for response in conn.pipeline(["/object"], decode=True):
        into.write(await conn.readall() if response.body is None else response.body)


A_READERS = [a_read, a_readinto, a_readall, a_write_to, a_text, a_pipeline]


def awaiting(reader: AMain) -> Face:
    """The face of a connection whose bodies are read so in an event loop."""

    def face(well: Well, pump: Pump, limits: Limits, folder: Path) -> Got:
        into = io.BytesIO()

        async def work() -> Got:
            async with working(pump), AsyncHTTPConnection("127.0.0.1", well.port, limits=limits, timeout=20) as conn:
                try:
                    if reader is not a_pipeline:
                        await conn.send_request("GET", "/object")
                        await conn.read_response(decode=True)
                    await reader(conn, into)
                except (InvalidResponse, UnsupportedResponse) as error:
                    return failed(error, into.getvalue())
            return Got("ok", into.getvalue())

        return asyncio.run(work())

    face.__name__ = reader.__name__
    return face


def by_afetch(well: Well, pump: Pump, limits: Limits, folder: Path) -> Got:
    async def work() -> Got:
        async with working(pump):
            (result,) = [result async for result in httpio.afetch([well.url], decode=True, limits=limits)]
        return got_of(result, result.content)

    return asyncio.run(work())


FACES: list[Face] = [
    *map(reading, READERS), by_file, by_pipeline, by_streaming_pipeline, by_fetch, by_transfer, by_command,
    *map(awaiting, A_READERS), by_afetch,
]  # fmt: skip
COLLECTS = frozenset(
    [
        "by_readall",
        "by_read_without_size",
        "by_co_readall",
        "by_pipeline",
        "a_readall",
        "a_text",
        "a_pipeline",
        "by_fetch",
        "by_afetch",
    ]
)
"""Faces that hold the whole of a body in memory."""

every_face = pytest.mark.parametrize("face", FACES, ids=lambda face: face.__name__)
every_row = pytest.mark.parametrize("row", corpus.coded(), ids=lambda row: str(row["id"]))


@pytest.fixture(scope="module")
def well() -> Iterator[Well]:
    made = Well()
    with made.works():
        yield made
    made.close()


def limits_of(row: corpus.Row) -> Limits:
    return Limits(max_decoded=row["decoded_limit"]) if "decoded_limit" in row else Limits()


def assert_row(row: corpus.Row, got: Got, name: str) -> None:
    """It has come to what the row says. Of two limits that are both exceeded either may be named."""
    if name == "by_command":
        assert (got.verdict == "ok") == (row["expect"] == "ok")
    else:
        assert got.verdict == row["expect"], got.why
        assert got.status == 200
    if row["expect"] == "ok":
        assert got.body == row["body"].encode("latin-1")
    elif row.get("limit") == "max_decoded":
        if name != "by_command":
            assert "max_decoded" in got.why or "max_ratio" in got.why
    elif "limit" in row and name != "by_command":
        assert row["limit"] in got.why
    if row["expect"] == "unsupported":
        assert got.body == b""


def put(well: Well, face: Face, row: corpus.Row, pieces: list[Any], folder: Path) -> None:
    with well.pump(pieces) as pump:
        assert_row(row, face(well, pump, limits_of(row), folder), face.__name__)


@every_face
@every_row
def test_row(row: corpus.Row, face: Face, well: Well, tmp_path: Path) -> None:
    """Whole, and in small pieces."""
    for number, (pieces, _) in enumerate(zip(corpus.splits(corpus.wire(row), ""), range(2), strict=False)):
        folder = tmp_path / str(number)
        folder.mkdir()
        put(well, face, row, pieces, folder)


@every_row
def test_row_split_at_each_offset(row: corpus.Row, well: Well, tmp_path: Path) -> None:
    """In the body at each, for each face in turn, so that all of them meet each neighbourhood."""
    wire = memoryview(corpus.wire(row))
    body = len(wire) - len(bytes(wire).partition(b"\r\n\r\n")[2])
    faces = [face for face in FACES if face is not by_command]
    places = [at for at in range(1, len(wire)) if len(wire) <= 4096 or at % 397 == 0]
    for number, at in enumerate(places):
        some = 3 if at >= body else 1
        for turn in range(some):
            folder = tmp_path / f"{at}-{turn}"
            folder.mkdir()
            face = faces[(number * some + turn) % len(faces)]
            put(well, face, row, [wire[:at], wire[at:]], folder)


@every_row
def test_without_decode_the_body_is_as_it_came(row: corpus.Row, well: Well, tmp_path: Path) -> None:
    wire = corpus.wire(row)
    raw = wire.partition(b"\r\n\r\n")[2]
    for reader in READERS:
        with well.pump([wire]) as pump:
            got = reading(reader, decode=False)(well, pump, Limits(), tmp_path)
        assert (got.verdict, got.body) == ("ok", raw)


@every_face
@pytest.mark.parametrize("coding", ENCODERS)
def test_each_coding_on_each_face(coding: str, face: Face, well: Well, tmp_path: Path) -> None:
    """In chunks that have nothing to do with it."""
    name, encode = ENCODERS[coding]
    wire = coded_chunks(encode(TEXT[:20_000]), 77, name)
    with well.pump([wire[:500], wire[500:]]) as pump:
        got = face(well, pump, Limits(), tmp_path)
    assert (got.verdict, got.body) == ("ok", TEXT[:20_000]), got.why


def test_a_collected_body_has_its_own_limit(well: Well, tmp_path: Path) -> None:
    """And one that is read in pieces has not."""
    wire, limits = coded(gzipped(TEXT)), Limits(max_decoded=len(TEXT) - 1)
    for face in FACES:
        if face is by_command:
            continue
        folder = tmp_path / face.__name__
        folder.mkdir()
        with well.pump([wire]) as pump:
            got = face(well, pump, limits, folder)
        if face.__name__ in COLLECTS:
            assert got.verdict == "invalid"
            assert "max_decoded" in got.why
        else:
            assert (got.verdict, got.body) == ("ok", TEXT)


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_growth_is_the_same_however_it_arrives(coding: str, well: Well, tmp_path: Path) -> None:
    """A body that grows very much at first, and little in all."""
    content = bytes(5 << 20) + random.Random(1).randbytes(100_000)
    name, encode = ENCODERS[coding]
    wire = coded(encode(content), name)
    body = wire.index(b"\r\n\r\n") + 4
    found = set()
    for first in (0, 100, 3000, 60_000):
        with well.pump([wire[: body + first], wire[body + first :]]) as pump:
            got = reading(by_readinto)(well, pump, Limits(), tmp_path)
        assert got.verdict != "ok" or got.body == content
        found.add(got.verdict)
    assert len(found) == 1
