"""Every response of the cases, however it arrives; and the parser against the oracle."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import corpus
import oracle
from conftest import Authority
from drivers import BODY_LIMITS, COLLECTED, FORMS, Driver, Feed, OwnBuffer
from httpio.connection import HTTPConnection
from httpio.exceptions import ConnectionClosed, InvalidResponse, UnsupportedResponse
from servers.canned import Canned

# Rows whose outcome is another of those that the row allows, and why.
TAKEN_INSTEAD = {
    "CH-046": ("ok", "llhttp takes an empty extension value; the data are the same"),
}

MESSAGES = [*corpus.responses(), *corpus.undecoded()]

SECOND = b"HTTP/1.1 203 Second\r\nContent-Length: 6\r\n\r\nsecond"


def runs(wire: bytes, seed: str) -> Iterator[tuple[Callable[..., Driver], list[memoryview]]]:
    """Each way to arrive, in both forms; with a bare parser or not, and bodies here or there, in turn."""
    kinds = [(limit, half) for limit in BODY_LIMITS for half in (False, True)]
    for number, pieces in enumerate(corpus.splits(wire, seed)):
        for limit, half in kinds if number < 2 else [kinds[number % len(kinds)]]:
            for form in FORMS:
                yield partial(form, body_limit=limit, half=half), pieces


@cache
def large_body(sha: str) -> bytes | None:
    """The body that a row names by its digest only."""
    for row in corpus.responses():
        if row.get("body_sha") == sha:
            return oracle.responses(corpus.wire(row), corpus.methods(row), row["eof"])[-1].body
    return None


def assert_result(wanted: corpus.Row, outcome: oracle.Outcome, verdict: str) -> None:
    assert outcome.verdict == verdict, outcome.why
    if verdict != "ok":
        return
    status, body = ("status", "body") if verdict == wanted["expect"] else ("status_if_ok", "body_if_ok")
    assert outcome.status == wanted.get(status, 200)
    if body in wanted:
        assert outcome.body == wanted[body].encode("latin-1")
    else:
        assert outcome.body == large_body(wanted["body_sha"])


def assert_row(row: corpus.Row, outcomes: list[oracle.Outcome]) -> None:
    """The outcome is the one that the row expects, or the one in the table above."""
    results = corpus.results(row)
    for wanted, outcome in zip(results[:-1], outcomes, strict=False):
        assert_result(wanted, outcome, wanted["expect"])
    last = outcomes[len(results) - 1]
    verdict = TAKEN_INSTEAD[row["id"]][0] if row["id"] in TAKEN_INSTEAD else row["expect"]
    assert_result(results[-1], last, verdict)
    if "limit" in row and verdict == "invalid":
        assert row["limit"] in last.why
    if "reuse" in row and verdict == "ok":
        assert last.reuse == row["reuse"]
    for name, value in row.get("headers", []):
        assert (name, value) in last.headers
    for name in row.get("headers_absent", []):
        assert not oracle.values(last.headers, name.lower())
    if "trailers" in row:
        assert last.trailers == [tuple(pair) for pair in row["trailers"]]
    if "tunnel" in row:
        assert last.tunnel == row["tunnel"].encode("latin-1")


@pytest.mark.parametrize("row", MESSAGES, ids=lambda row: str(row["id"]))
def test_row(row: corpus.Row) -> None:
    wire, methods = corpus.wire(row), corpus.methods(row)
    late = methods[1:] if row.get("deliver") == "second_request_after_wire" else []
    clean = row.get("transport") != "tls-no-close-notify"
    for form, pieces in runs(wire, row["id"]):
        driver = form(methods[: len(methods) - len(late)], row["eof"], clean)
        outcomes = driver.run(pieces)
        if late:
            assert not driver.is_reusable()  # so the late request is not sent here
            outcomes += [oracle.Outcome("closed") for _ in late]
        assert_row(row, outcomes)


@pytest.mark.parametrize(
    "row", [row for row in corpus.responses() if row["expect"] != "closed"], ids=lambda row: str(row["id"])
)
def test_row_with_a_second_response_behind_it(row: corpus.Row) -> None:
    """The second is answered where the first ended well, and never where it did not."""
    wire, methods = corpus.wire(row), corpus.methods(row)
    alone = oracle.responses(wire, methods, eof=False)[-1]
    lax = row["id"] in TAKEN_INSTEAD
    expected = oracle.responses(wire + SECOND, [*methods, "GET"], any_extension=lax)[-1]
    if "deliver" in row or (alone.verdict == "waiting" and row["expect"] == "ok") or alone.tunnel is not None:
        pytest.skip("a second response would be a part of the first")
    assert expected.status == 203 or not alone.reuse
    for form, pieces in runs(wire + SECOND, row["id"]):
        *first, second = form([*methods, "GET"]).run(pieces)
        assert_row({**row, "reuse": first[-1].reuse}, first)
        assert (second.verdict == "ok", second.body) == (expected.verdict == "ok", expected.body)


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("before", "unit", "largest", "after", "limit"),
    [
        (b"HTTP/1.1 200 ", b"a", 65536 - 13, b"\r\n", "max_line_size"),
        (OK + b"X: ", b"a", 65536 - 3, b"\r\n", "max_line_size"),
        (OK, b"X: 1\r\n", 99, b"", "max_headers"),
        (b"", b"\r\n", 32 * 1024, OK, "max_leading"),
        (b"", b"HTTP/1.1 103 Hints\r\n\r\n", 100, OK, "max_interim"),
        (CHUNKED + b"1;", b"a", 4096 - 2, b"\r\nx\r\n0\r\n\r\n", "max_chunk_line"),
        (CHUNKED, b"1;abcdefgh\r\nx\r\n", 2048, b"0\r\n\r\n", "max_chunk_ext"),
        (CHUNKED + b"0\r\n", b"X: 1\r\n", 100, b"\r\n", "max_trailers"),
    ],
)
def test_a_limit_is_the_same_however_the_wire_arrives(
    before: bytes, unit: bytes, largest: int, after: bytes, limit: str
) -> None:
    if b"chunked" not in before:
        after += b"Content-Length: 0\r\n\r\n"
    for count, verdict in ((largest, "ok"), (largest + 1, "invalid")):
        for form, pieces in runs(before + unit * count + after, limit):
            (outcome,) = form(["GET"]).run(pieces)
            assert outcome.verdict == verdict, (count, outcome.why)
            assert verdict == "ok" or limit in outcome.why


def converse(conn: HTTPConnection, methods: list[str]) -> list[oracle.Outcome]:
    """Sends all requests, then reads all responses."""
    for method in methods:
        conn.send_request(method, "/" if method != "CONNECT" else "example.org:80")
    outcomes = []
    for _ in methods:
        outcomes.append(outcome := oracle.Outcome("closed"))
        try:
            response = conn.read_response()
            outcome.status, outcome.headers = response.status, response.headers.items()
            if response.framing == "tunnel":
                sock, outcome.tunnel = conn.detach()
                sock.close()
                outcome.verdict, outcome.body = "ok", b""
                continue
            body = conn.readall()
            outcome.verdict, outcome.body, outcome.trailers = "ok", body, response.trailers.items()
        except InvalidResponse as error:
            outcome.verdict, outcome.why = "invalid", str(error)
        except UnsupportedResponse as error:
            outcome.verdict, outcome.why = "unsupported", str(error)
        except ConnectionClosed as error:
            outcome.why = str(error)
    return outcomes


@pytest.mark.parametrize("row", [row for row in MESSAGES if "deliver" not in row], ids=lambda row: str(row["id"]))
def test_row_through_a_connection(row: corpus.Row, authority: Authority) -> None:
    methods = corpus.methods(row)
    server_context = context = None
    if "transport" in row:
        server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server_context.load_cert_chain(authority.chain, authority.key)
        context = ssl.create_default_context(cafile=authority.ca)
    with (
        Canned(corpus.wire(row), len(methods), row["eof"], server_context) as server,
        HTTPConnection("127.0.0.1", server.port, context, timeout=20) as conn,
    ):
        outcomes = converse(conn, methods)
        assert_row({key: value for key, value in row.items() if key != "reuse"}, outcomes)
        if row.get("reuse"):
            conn.send_request("GET", "/")


def test_the_table_is_about_rows_that_are_there() -> None:
    rows = {row["id"]: row for row in corpus.responses()}
    for name, (verdict, reason) in TAKEN_INSTEAD.items():
        assert verdict in rows[name]["also"]
        assert verdict != rows[name]["expect"]
        assert reason


SMALL_WIRES = [wire for row in corpus.responses() if len(wire := corpus.wire(row)) <= 400]
TOKENS = [
    b"\r\n", b"\n", b"\r", b" ", b"\t", b"\0", b":", b";", b",", b"=", b'"', b"0", b"1", b"9", b"a", b"\xa0",
    b"\r\n\r\n", b"0\r\n\r\n", b"1\r\nx\r\n", b"Content-Length: 3\r\n", b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Connection: close\r\n",
    b"Connection: keep-alive\r\n", b"Upgrade: x\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 204 OK\r\n",
    b"HTTP/1.1 103 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\n",
]  # fmt: skip


@st.composite
def mutated_wires(draw: st.DrawFn) -> bytes:
    """A wire of the cases, changed in a few places."""
    wire = draw(st.sampled_from(SMALL_WIRES))
    for _ in range(draw(st.integers(1, 4))):
        low, high = sorted((draw(st.integers(0, len(wire))), draw(st.integers(0, len(wire)))))
        middle = draw(
            st.one_of(
                st.just(b""),
                st.just(wire[low:high] * 2),
                st.sampled_from(TOKENS),
                st.binary(min_size=1, max_size=2),
                st.sampled_from(SMALL_WIRES),
            )
        )
        if middle in TOKENS and draw(st.booleans()):
            high = low
        wire = wire[:low] + middle + wire[high:]
    return wire


@settings(max_examples=1500, deadline=None)
@given(
    wire=mutated_wires(),
    methods=st.lists(st.sampled_from(["GET", "GET", "HEAD", "CONNECT"]), min_size=1, max_size=3),
    clean=st.booleans(),
    cuts=st.lists(st.integers(0, 400), max_size=4),
    limit=st.sampled_from(BODY_LIMITS),
    half=st.booleans(),
)
def test_against_the_oracle(
    wire: bytes, methods: list[str], clean: bool, cuts: list[int], limit: int, half: bool
) -> None:
    """Never another body than the oracle's, and the same outcomes however the wire arrives."""
    expected = oracle.responses(wire, methods, True, clean, any_extension=True)
    whole = OwnBuffer(methods, True, clean, COLLECTED).run([wire])
    for outcome, wanted in zip(whole, expected, strict=True):
        if outcome.verdict == "ok":
            assert wanted.verdict == "ok", wanted.why
            assert (outcome.status, outcome.headers) == (wanted.status, wanted.headers)
            assert (outcome.body, outcome.trailers) == (wanted.body, wanted.trailers)
            assert outcome.interim == wanted.interim
    places = sorted({0, *cuts, len(wire)})
    pieces = [wire[low:high] for low, high in pairwise(places)]
    for form in (OwnBuffer, Feed):
        parts = form(methods, True, clean, limit, half).run(pieces)
        assert [(a.verdict, a.body) for a in parts] == [(a.verdict, a.body) for a in whole]
