"""The receiving half alone: states, both forms, and the ends of a connection."""

from contextlib import suppress

import pytest

import corpus
from httpio.exceptions import InvalidResponse, StateError, UnsupportedResponse
from httpio.messages import HTTPResponse, Lenient, Limits, Request
from httpio.receiving import ASKS_UPGRADE, IS_CONNECT, IS_HEAD, PLAIN, ReceivingHalf, assumed_continue
from httpio.states import RECEIVING, Receiving

OK = b"HTTP/1.1 200 OK\r\n"
EMPTY = OK + b"Content-Length: 0\r\n\r\n"
CLOSING = OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n"
TO_CLOSE = OK + b"Connection: close\r\n\r\n"
THREE = OK + b"Content-Length: 3\r\n\r\nabc"
SWITCH = b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"


def expecting(*facts, limit=-1, limits=None, lenient=0):
    half = ReceivingHalf(limits or Limits(), Lenient(lenient), limit)
    for number, fact in enumerate(facts):
        half.expect(number, fact)
    return half


def receive(half, data):
    with memoryview(half.parser) as free:
        free[: len(data)] = data
    return half.received(len(data))


def read_all(half):
    target, content = bytearray(2), b""
    while count := half.read_into(target):
        content += target[:count]
    return content


def feed(half, data):
    """Feeds all of *data*; returns (responses, contents)."""
    found, contents = [], []
    while data and (taken := half.feed(data)):
        found += half.take()
        if content := read_all(half):
            contents.append(content)
        data = data[taken:]
    return found, contents


class TestStates:
    def test_one_after_another(self):
        half = expecting()
        assert half.state is Receiving.IDLE
        half.expect("a")
        assert half.state is Receiving.HEAD
        half.expect_all(["b", "c"])
        assert half.state is Receiving.HEAD
        [first] = receive(half, THREE[:-1])
        assert half.state is Receiving.BODY
        assert half.open is first
        half.expect("d")
        assert half.state is Receiving.BODY
        assert read_all(half) == b"ab"
        receive(half, b"c" + EMPTY)
        assert read_all(half) == b"c"
        assert (half.state, half.open, first.complete_by) == (Receiving.HEAD, None, "length")
        assert len(half.parse()) == 1
        assert half.outstanding == ("c", "d")
        receive(half, EMPTY)
        receive(half, EMPTY)
        assert half.state is Receiving.IDLE
        half.expect("e")
        assert half.state is Receiving.HEAD

    def test_a_batch(self):
        half = expecting(*[PLAIN] * 5, limit=3)
        assert [r.body for r in receive(half, THREE * 3)] == [b"abc"] * 3
        assert half.state is Receiving.HEAD
        half.parser.body_limit = 2
        responses = receive(half, EMPTY + THREE)
        assert [r.body for r in responses] == [b"", None]
        assert (half.state, half.open) == (Receiving.BODY, responses[-1])

    def test_facts(self):
        half = expecting(IS_HEAD, IS_CONNECT, limit=100)
        assert [r.framing for r in receive(half, THREE[:-3] + OK + b"\r\nraw")] == ["none", "tunnel"]
        assert half.state is Receiving.TUNNEL
        assert half.parser.leftover() == b"raw"

    def test_progress(self):
        half = expecting(PLAIN, PLAIN)
        steps = [half.progress]
        for piece in (b"HTTP/1.1 103 E\r\n\r\n", OK, THREE[len(OK) : -2], b"bc"):
            receive(half, piece)
            steps.append(half.progress)
            read_all(half)
        assert steps == [None, "in head", "in head", "in body", "in body"]
        assert half.progress is None

    @pytest.mark.parametrize(
        ("fact", "wire", "state"),
        [
            (PLAIN, CLOSING, Receiving.ENDED),
            (PLAIN, EMPTY + b"surplus", Receiving.ENDED),
            (ASKS_UPGRADE, SWITCH, Receiving.TUNNEL),
            (IS_CONNECT, OK + b"\r\n", Receiving.TUNNEL),
        ],
    )
    def test_nothing_is_expected_after_an_end(self, fact, wire, state):
        half = expecting(fact)
        receive(half, wire)
        assert half.state is state
        for expect in (lambda: half.expect("x"), lambda: half.expect_all(["x"])):
            with pytest.raises(StateError, match="not possible now"):
                expect()
        assert half.outstanding == ()

    def test_nothing_is_expected_when_broken(self):
        for half in (expecting(PLAIN), expecting(PLAIN, PLAIN, limit=100)):
            half.fail()
            assert half.state is Receiving.BROKEN
            with pytest.raises(StateError):
                half.expect("x")

    def test_surplus_while_idle(self):
        half = expecting()
        assert receive(half, EMPTY) == []
        assert half.state is Receiving.ENDED

    def test_a_failed_half_keeps_what_was_under_way(self):
        half = expecting(PLAIN, PLAIN)
        receive(half, THREE)
        half.fail()
        assert half.state is Receiving.BROKEN
        assert (half.progress, half.outstanding) == ("in body", (0, 1))
        assert read_all(half) == b"abc"
        assert half.outstanding == (1,)


class TestErrors:
    @pytest.mark.parametrize(
        ("wire", "error"),
        [
            (b"garbage", InvalidResponse),
            (b"HTTP/2.0 200 OK\r\n\r\n", UnsupportedResponse),
            (SWITCH, UnsupportedResponse),
        ],
    )
    def test_in_a_head(self, wire, error):
        for bring in (receive, feed):
            half = expecting(PLAIN)
            with pytest.raises(error):
                bring(half, wire)
            assert half.state is Receiving.BROKEN
            for again in (half.parse, lambda half=half: half.feed(b"x"), lambda half=half: read_all(half)):
                with pytest.raises(error):
                    again()

    def test_in_a_body(self):
        half = expecting(PLAIN)
        receive(half, OK + b"Transfer-Encoding: chunked\r\n\r\nzz")
        assert half.state is Receiving.BODY
        with pytest.raises(InvalidResponse):
            read_all(half)
        assert half.state is Receiving.BROKEN

    def test_unframed(self):
        half = expecting(PLAIN)
        [response] = receive(half, OK + b"\r\nabc")
        assert (response.framing, half.state) == ("unframed", Receiving.BODY)
        with pytest.raises(UnsupportedResponse):
            read_all(half)

    def test_what_was_complete_before_an_error_is_handed_out(self):
        half = expecting(PLAIN, PLAIN, limit=100)
        assert len(receive(half, THREE + b"garbage")) == 1
        with pytest.raises(InvalidResponse):
            half.parse()
        assert half.state is Receiving.BROKEN
        assert half.outstanding == (1,)

    def test_what_was_complete_before_an_error_can_still_be_taken(self):
        half = expecting(PLAIN, PLAIN, limit=100)
        half.feed(EMPTY)
        with pytest.raises(InvalidResponse):
            half.feed(b"garbage")
        [response] = half.take()
        assert (response.status, half.state) == (200, Receiving.BROKEN)

    def test_limits_and_leniency_reach_the_parser(self):
        with pytest.raises(InvalidResponse, match="max_headers"):
            receive(expecting(PLAIN, limits=Limits(max_headers=0)), EMPTY)
        half = expecting(PLAIN, lenient=Lenient.LF)
        assert receive(half, EMPTY.replace(b"\r", b""))[0].status == 200


class TestFeed:
    @pytest.mark.parametrize("limit", [-1, 2, 100])
    def test_states(self, limit):
        half = expecting(PLAIN, PLAIN, limit=limit)
        assert half.feed(THREE[:-3]) == len(THREE) - 3
        half.take()
        assert half.state is (Receiving.HEAD if limit == 100 else Receiving.BODY)
        assert feed(half, b"abc")[1] == ([] if limit == 100 else [b"abc"])
        assert half.state is Receiving.HEAD
        found, _ = feed(half, EMPTY)
        assert (len(found), half.state) == (1, Receiving.IDLE)

    def test_takes_nothing_when_idle(self):
        half = expecting()
        assert half.feed(EMPTY) == 0
        assert half.take() == []


class TestEof:
    @pytest.mark.parametrize("limit", [-1, 100])
    def test_completes_a_close_delimited_body(self, limit):
        half = expecting(PLAIN, PLAIN, limit=limit)
        responses = receive(half, TO_CLOSE + b"abc")
        content = read_all(half)
        responses += half.eof(True)
        assert [(r.complete_by, r.body or content) for r in responses] == [("close", b"abc")]
        assert (half.state, half.at_eof, half.outstanding) == (Receiving.ENDED, True, (1,))

    def test_leaves_what_is_here_to_be_read(self):
        half = expecting(PLAIN)
        [response] = receive(half, TO_CLOSE + b"abc")
        assert half.eof(True) == []
        assert half.state is Receiving.BODY
        assert read_all(half) == b"abc"
        assert (half.state, response.complete_by) == (Receiving.ENDED, "close")

    @pytest.mark.parametrize("limit", [-1, 100])
    def test_without_a_clean_close_it_is_not_complete(self, limit):
        half = expecting(PLAIN, limit=limit)
        responses = receive(half, TO_CLOSE + b"abc")
        read_all(half)
        assert half.eof(False) == []
        assert [r.complete_by for r in responses] == ([None] if limit < 0 else [])
        assert half.outstanding == (0,)

    @pytest.mark.parametrize("wire", [b"", OK, THREE[:-1], EMPTY])
    def test_nothing_can_be_expected_after_it(self, wire):
        half = expecting(PLAIN, limit=100)
        receive(half, wire)
        assert half.eof(True) == []
        assert half.state is Receiving.ENDED
        assert len(half.outstanding) == (wire != EMPTY)
        with pytest.raises(StateError):
            half.expect("x")

    def test_of_a_tunnel(self):
        half = expecting(ASKS_UPGRADE)
        receive(half, SWITCH + b"raw")
        half.eof(True)
        assert half.state is Receiving.TUNNEL
        assert half.parser.leftover() == b"raw"

    def test_when_broken(self):
        half = expecting(PLAIN)
        half.fail()
        half.eof(True)
        assert half.state is Receiving.BROKEN


class TestAssumed:
    """A 100 (Continue) that nobody sent."""

    def test_it_is_a_response_like_others(self):
        request = Request("PUT", "/x")
        response = assumed_continue(request)
        assert type(response) is HTTPResponse
        assert (response.status, response.reason, response.version) == (100, "assumed", 11)
        assert (response.length, response.framing, response.complete_by) == (0, "none", "no body")
        assert (len(response.headers), len(response.trailers), response.informational) == (0, 0, ())
        assert response.request is request
        assert response.answers(request)
        assert (response.method, response.path) == ("PUT", "/x")
        assert response.request_complete

    def test_it_is_like_one_that_was_sent(self):
        half = expecting(PLAIN)
        receive(half, b"HTTP/1.1 100 Continue\r\n\r\n")
        [real] = half.parser.interim_responses
        assumed = assumed_continue(0)
        for name in ("status", "version", "length", "framing", "complete_by", "persistent", "body", "informational"):
            assert getattr(assumed, name) == getattr(real, name), name

    def test_each_is_its_own(self):
        assert assumed_continue("/a").path == "/a"
        assert assumed_continue("/b").path == "/b"


class TestTable:
    """The parser moves by itself: never otherwise than the RECEIVING table says."""

    @pytest.mark.parametrize("row", corpus.responses(), ids=lambda row: str(row["id"]))
    def test_each_change_is_a_move(self, row: corpus.Row) -> None:
        allowed = {(state, after) for (state, _), after in RECEIVING.items()}
        half = ReceivingHalf(Limits(), Lenient(0))
        state = half.state
        for method in corpus.methods(row):
            half.expect(method, {"HEAD": IS_HEAD, "CONNECT": IS_CONNECT}.get(method, PLAIN))
            assert (state, half.state) in allowed
            state = half.state
        scratch = bytearray(10)
        for byte in corpus.wire(row)[:3000]:
            memoryview(half.parser)[:1] = bytes([byte])
            for step in (lambda: half.received(1), lambda: half.read_into(scratch)):
                with suppress(InvalidResponse, UnsupportedResponse):
                    step()
                assert half.state is state or (state, half.state) in allowed
                state = half.state
            if state in (Receiving.BROKEN, Receiving.ENDED, Receiving.TUNNEL):
                break
        half.eof(clean=True)
        assert half.state is state or (state, half.state) in allowed
