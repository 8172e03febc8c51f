"""Every response of the cases through `httpio.client`, however it arrives and however it is read: one outcome."""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

import corpus
import oracle
from client_ways import SLOW, SOURCES, WAYS, Came, Dribbling, come, content_by, verdict_of
from conftest import Authority
from httpio import HTTPError
from httpio.client import HTTPConnection, HTTPException, HTTPSConnection
from servers.canned import Canned

LF = "a bare LF ends a line of a head, as http.client has it"
UNFRAMED = "without any framing a body is read to the close, as http.client has it"
# Rows whose outcome is another of those that the row allows, and why.
TAKEN_INSTEAD = {
    "SL-052": ("ok", LF),
    "FL-036": ("ok", LF),
    "FL-039": ("ok", LF),
    "TR-014": ("ok", LF),
    "CL-040": ("ok", UNFRAMED),
    "CL-041": ("ok", UNFRAMED),
    "CL-042": ("ok", UNFRAMED),
    "CH-046": ("ok", "llhttp takes an empty extension value; the data are the same"),
}
# By hand nothing is known of the request: `getresponse` refuses a 101 that was not asked for, HTTPResponse does not.
BY_HAND = {"IR-012", "IR-013"}

SECOND = b"HTTP/1.1 203 Second\r\nContent-Length: 6\r\n\r\nsecond"

ROWS = [row for row in (*corpus.responses(), *corpus.undecoded()) if "transport" not in row]
SINGLE = [row for row in ROWS if "requests" not in row]
SERIES = [row for row in ROWS if "requests" in row]


def ids(row: corpus.Row) -> str:
    return str(row["id"])


def expected(row: corpus.Row) -> tuple[str, int | None, bytes | None]:
    """Verdict, status and body of one result."""
    verdict = TAKEN_INSTEAD[row["id"]][0] if row.get("id") in TAKEN_INSTEAD else row["expect"]
    if verdict != "ok":
        return verdict, None, None
    status, body = ("status", "body") if row["expect"] == "ok" else ("status_if_ok", "body_if_ok")
    text = row.get("tunnel", row.get(body))
    return verdict, row.get(status, 200), None if text is None else text.encode("latin-1")


def check(row: corpus.Row, response: Any, came: Came) -> None:
    """What came is what the row says, and an error is of both families."""
    verdict, status, body = expected(row)
    assert came.verdict == verdict, repr(came.error)
    if came.error is not None:
        assert isinstance(came.error, HTTPError)
        assert isinstance(came.error, HTTPException | OSError)
        return
    assert response.status == status
    assert came.content == body if body is not None else corpus.is_body(row, came.content)
    for name, value in row.get("headers", []):
        assert value in response.headers.get_all(name)
    for name in row.get("headers_absent", []):
        assert name not in response.headers


def alone(row: corpus.Row) -> corpus.Row:
    return {**row, "expect": "ok", "status": 101, "body": ""} if row["id"] in BY_HAND else row


def ways(source: str, wire: bytes) -> list[str]:
    without_peek = {"peek", "mixed"} if source == "held" else set()  # http.client needs one for these, too
    return [name for name in WAYS if name not in without_peek and (len(wire) <= 4096 or name not in SLOW)]


def runs(wire: bytes, seed: str) -> Iterator[tuple[str, str, list[memoryview]]]:
    """Each source and way with the wire whole and in small pieces, and in turn with each other split of it."""
    turn = itertools.count()
    for number, pieces in enumerate(corpus.splits(wire, seed)):
        if number > (1 if len(wire) > 1 << 20 else 10) and len(wire) > 70_000:
            return  # what a cut may do was seen in the smaller ones
        for source in SOURCES if number < 2 else ("buffered", "socket"):
            known = ways(source, wire)
            for way in known if number < 2 and len(wire) < 70_000 else [known[next(turn) % len(known)]]:
                yield source, way, pieces


@pytest.mark.parametrize("row", SINGLE, ids=ids)
def test_row(row: corpus.Row) -> None:
    wire = corpus.wire(row)
    first: dict[str, Came] = {}
    for source, way, pieces in runs(wire, row["id"]):
        with SOURCES[source](pieces) as sock:
            response, came = come(sock, row["request"], WAYS[way])
            check(alone(row), response, came)
            same_error(first.setdefault("any", came), came)
            response.close()


def same_error(one: Came, other: Came) -> None:
    """Whoever reads, and however: the same class, and the same content before it."""
    assert type(one.error) is type(other.error)
    if one.error is not None:
        assert one.content == other.content


def goes_on(row: corpus.Row) -> bool:
    """Whether another response may follow this one."""
    first, second = oracle.responses(corpus.wire(row) + SECOND, [row["request"], "GET"], any_extension=True)
    return expected(row)[0] == "ok" and first.verdict == "ok" and first.reuse and second.status == 203


@pytest.mark.parametrize("row", [row for row in SINGLE if goes_on(row)], ids=ids)
def test_never_a_byte_past_the_message(row: corpus.Row) -> None:
    """A second response stays where it is, on a file; on a socket it is there for the next HTTPResponse."""
    wire, method = corpus.wire(row), row["request"]
    for source, way, pieces in runs(wire + SECOND, row["id"]):
        with SOURCES[source](pieces) as sock:
            response, came = come(sock, method, WAYS[way])
            check(row, response, came)
            if source == "socket":
                again, body = come(sock, "GET")
                assert (again.status, body.content) == (203, b"second")
            else:
                assert sock.left() == SECOND


@pytest.mark.parametrize("row", [row for row in SINGLE if expected(alone(row))[0] != "ok"], ids=ids)
def test_nobody_gets_the_rest_of_a_message_that_failed(row: corpus.Row) -> None:
    wire = corpus.wire(row)
    for pieces in itertools.islice(corpus.splits(wire + SECOND, row["id"]), 2):
        with Dribbling(pieces) as sock:
            response, came = come(sock, row["request"])
            response.close()
            if row["expect"] != "closed":
                assert came.verdict == row["expect"]
                _, second = come(sock, "GET")
                assert second.verdict == "closed"


@pytest.mark.parametrize("row", SERIES, ids=ids)
def test_a_series_on_one_socket(row: corpus.Row) -> None:
    """An HTTPResponse for each request; what follows a response that ends the connection is not asked for."""
    methods, results = corpus.methods(row), corpus.results(row)
    for pieces in itertools.islice(corpus.splits(corpus.wire(row), row["id"]), 2):
        with Dribbling(pieces) as sock:
            answered = 0
            for method, wanted in zip(methods, results, strict=True):
                answered += 1
                response, came = come(sock, method)
                if (row["id"], answered) == ("PL-031", 2):
                    assert response.status == 101  # by hand
                elif row.get("deliver") != "second_request_after_wire" or answered == 1:
                    check(wanted, response, came)
                if came.error is not None or response.will_close:
                    break
            assert all(result["expect"] == "closed" for result in results[answered:])


@pytest.mark.parametrize("row", [*SINGLE, *(row for row in corpus.responses() if "transport" in row)], ids=ids)
def test_row_through_a_connection(row: corpus.Row, authority: Authority) -> None:
    server_context = None
    if "transport" in row:
        server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server_context.load_cert_chain(authority.chain, authority.key)
    with Canned(corpus.wire(row), 1, row["eof"], server_context) as server:
        conn: HTTPConnection = (
            HTTPConnection("127.0.0.1", server.port, timeout=20)
            if server_context is None
            else HTTPSConnection(
                "127.0.0.1", server.port, timeout=20, context=ssl.create_default_context(cafile=authority.ca)
            )
        )
        response = None
        conn.request(row["request"], "/" if row["request"] != "CONNECT" else "example.org:80")
        try:
            response = conn.getresponse()
        except HTTPError as error:
            came = Came(verdict_of(error), b"", error)
        else:
            size = len(row.get("tunnel", ""))  # a tunnel has no end
            came = Came("ok", response.read(size)) if size else content_by(WAYS["read()"], response)
        conn.close()
        if response is not None:
            response.close()
    if row["id"] in BY_HAND:
        assert came.verdict in row["also"]
    else:
        check(row, response, came)


def test_the_tables_are_about_rows_that_are_there() -> None:
    rows = {row["id"]: row for row in corpus.responses()}
    for name, (verdict, reason) in TAKEN_INSTEAD.items():
        assert verdict in rows[name]["also"]
        assert verdict != rows[name]["expect"]
        assert reason
    assert set(rows) >= BY_HAND
