"""The compiled parser: its two forms, where bodies go, limits, errors, and what becomes of memory."""

from __future__ import annotations

import gc
import sys
import tracemalloc
import weakref
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from httpio._parser import ResponseHead, ResponseParser
from httpio.exceptions import InvalidResponse, UnsupportedResponse
from httpio.messages import HTTPResponse, Lenient, Limits

PLAIN, IS_HEAD, IS_CONNECT, ASKS_UPGRADE = 0, 1, 2, 4
IDLE, AWAITING, OPEN, TUNNEL, ENDED, BROKEN = range(6)  # the parser's stages
OK = b"HTTP/1.1 200 OK\r\n"
EMPTY = OK + b"Content-Length: 0\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
TO_CLOSE = OK + b"Connection: close\r\n\r\n"
KEPT = 1 << 20


def sized(body, extra=b""):
    return OK + extra + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def chunks(*pieces, trailers=b""):
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + trailers + b"\r\n"


def make(*facts, limit=-1, limits=None, lenient=0, response_class=HTTPResponse):
    """A parser that expects one response for each of *facts*; the requests are 0, 1, 2, ..."""
    parser = ResponseParser(response_class, InvalidResponse, UnsupportedResponse, limits, lenient, limit)
    for number, fact in enumerate(facts or (PLAIN,)):
        parser.expect(number, fact)
    return parser


def put(parser, data):
    """One receive, which must have room for all of *data*."""
    with memoryview(parser) as free:
        free[: len(data)] = data
    return parser.buffer_updated(len(data))


def read_all(parser, size=100):
    content = bytearray()
    scratch = bytearray(size)
    while count := parser.read_into(scratch):
        content += scratch[:count]
    return bytes(content)


class Exchange:
    """Brings pieces to a parser in one form, and reads every body at once. `found`: (response, content)."""

    def __init__(self, form, parser):
        self.parser = parser
        self.receive = self.own_buffer if form == "own buffer" else self.feed
        self.found = []
        self.rest = b""

    def note(self, responses):
        self.found += [(response, bytearray(response.body or b"")) for response in responses]
        if self.found:
            self.found[-1][1].extend(read_all(self.parser, 7))

    def own_buffer(self, data):
        parser = self.parser
        while data and parser.room:
            count = min(len(data), parser.room)
            self.note(put(parser, data[:count]))
            while parser.open is None and (more := parser.parse()):
                self.note(more)
            data = data[count:]

    def feed(self, data):
        data = self.rest + data
        while data:
            try:
                taken = self.parser.feed(array("B", data))  # a buffer that ends where the data end
            finally:
                self.note(self.parser.take())
            if not taken:
                break
            data = data[taken:]
        self.rest = data

    def run(self, pieces, eof=False):
        for piece in pieces:
            self.receive(piece)
        if eof:
            self.note(self.parser.eof())
        return [(response, bytes(content)) for response, content in self.found]


FORMS = ("own buffer", "feed")
in_both_forms = pytest.mark.parametrize("form", FORMS)


def ways(wire):
    """All at once, byte by byte, and cut in two at each offset."""
    yield [wire]
    yield [wire[at : at + 1] for at in range(len(wire))]
    for at in range(1, len(wire)):
        yield [wire[:at], wire[at:]]


class TestOwnBuffer:
    def test_several_responses_in_one_receive(self):
        parser = make(0, 0, 0, limit=KEPT)
        responses = put(parser, sized(b"one") + CHUNKED + chunks(b"t", b"wo") + sized(b"three"))
        assert [r.body for r in responses] == [b"one", b"two", b"three"]
        assert [r._item for r in responses] == [0, 1, 2]
        assert parser.outstanding == ()
        assert parser.reusable

    def test_minus_one_gives_one_response_at_a_time(self):
        parser = make(0, 0, 0)
        [first] = put(parser, EMPTY + sized(b"two") + EMPTY)
        assert (first._item, first.body, first.complete_by) == (0, b"", "length")
        [second] = parser.parse()
        assert (second.body, second.complete_by) == (None, None)
        assert parser.open is second
        assert parser.parse() == []
        assert read_all(parser) == b"two"
        assert (parser.open, second.complete_by) == (None, "length")
        [third] = parser.parse()
        assert third._item == 2
        assert parser.parse() == []

    def test_a_large_collected_body_is_received_in_place(self):
        body = bytes(range(256)) * 2000
        parser = make(0, 0, limit=KEPT)
        assert put(parser, sized(body)[:100]) == []
        at = 100 - len(sized(body)) + len(body)
        assert parser.room <= 65536
        assert len(parser) == parser.room
        received = []
        while at < len(body):
            count = min(parser.room, 40000, len(body) - at)
            received += put(parser, body[at : at + count])
            at += count
            assert parser.received == (at if at < len(body) else 0)
        assert received[0].body == body
        [second] = put(parser, sized(b"next"))
        assert second.body == b"next"

    def test_get_buffer_is_the_parser_itself(self):
        parser = make()
        assert parser.get_buffer() is parser
        assert parser.get_buffer(100) is parser

    def test_buffered_counts_what_waits(self):
        parser = make(0)
        put(parser, sized(b"abc"))
        assert parser.buffered == 3
        assert parser.read(2) == b"ab"
        assert parser.buffered == 1
        assert parser.read(2) == b"c"
        assert parser.buffered == 0


class TestExport:
    def test_not_twice_at_once(self):
        parser = make()
        with memoryview(parser), pytest.raises(BufferError):
            memoryview(parser)
        assert put(parser, EMPTY)[0].status == 200

    def test_nothing_is_parsed_while_it_is_exported(self):
        parser = make(limit=KEPT)
        with memoryview(parser) as free:
            free[: len(EMPTY)] = EMPTY
            with pytest.raises(BufferError):
                parser.buffer_updated(len(EMPTY))

    def test_not_fed_while_it_is_exported(self):
        parser = make(limit=KEPT)
        put(parser, OK + b"Content-Length: 100000\r\n\r\n")
        with memoryview(parser) as free:
            with pytest.raises(BufferError):
                parser.feed(b"x" * 100000)
            free[:1] = b"x"

    def test_none_when_full(self):
        parser = make(0)
        put(parser, OK + b"Content-Length: 1000000\r\n\r\n")
        while room := parser.room:
            put(parser, b"x" * room)
        with pytest.raises(BufferError):
            memoryview(parser)
        assert len(read_all(parser, 4096)) == parser.open.length - parser.direct
        assert parser.room > 0

    @pytest.mark.parametrize("count", [-1, 131073, sys.maxsize, -sys.maxsize - 1])
    def test_bad_counts(self, count):
        parser = make()
        memoryview(parser).release()
        with pytest.raises(ValueError, match="room"):
            parser.buffer_updated(count)
        assert put(parser, EMPTY)[0].status == 200

    def test_a_count_without_an_export(self):
        parser = make()
        with pytest.raises(ValueError, match="room"):
            parser.buffer_updated(5)  # nobody wrote these
        put(parser, b"HTTP")
        with pytest.raises(ValueError, match="room"):
            parser.buffer_updated(1)

    def test_more_than_the_body_had_room_for(self):
        parser = make(limit=KEPT)
        put(parser, OK + b"Content-Length: 100000\r\n\r\n")
        memoryview(parser).release()
        with pytest.raises(ValueError, match="room"):
            parser.buffer_updated(parser.room + 1)

    def test_reading_between_the_export_and_the_count(self):
        parser = make()
        put(parser, OK + b"Content-Length: 10\r\n\r\nabcde")
        with memoryview(parser) as free:
            free[:5] = b"fghij"
        assert parser.read(100) == b"abcde"
        assert parser.room > 0
        parser.buffer_updated(5)
        assert parser.read(100) == b"fghij"

    def test_an_export_that_brought_nothing(self):
        parser = make(limit=KEPT)
        memoryview(parser).release()
        assert parser.buffer_updated(0) == []
        memoryview(parser).release()
        assert put(parser, EMPTY)[0].status == 200


class TestFeed:
    def test_stops_at_the_end_of_a_head_and_of_a_message(self):
        wire = sized(b"one") + CHUNKED + chunks(b"two", trailers=b"T: v\r\n") + EMPTY
        heads = [sized(b"one")[:-3], CHUNKED, EMPTY]
        parser = make(0, 0, 0)
        taken = []
        while wire:
            taken.append(wire[: parser.feed(wire)])
            parser.take()
            read_all(parser)
            wire = wire[len(taken[-1]) :]
        assert taken == [heads[0], b"one", heads[1], chunks(b"two", trailers=b"T: v\r\n"), heads[2]]

    def test_take_gives_each_once(self):
        parser = make(limit=KEPT)
        parser.feed(sized(b"one"))
        [response] = parser.take() or (parser.feed(b"one"), parser.take())[1]
        assert response.status == 200
        assert parser.take() == []

    def test_takes_nothing_beyond_the_last_message(self):
        parser = make(limit=KEPT)
        assert parser.feed(EMPTY + b"HTTP/1.1 500 Oops\r\n\r\n") == len(EMPTY)
        assert parser.feed(b"HTTP/1.1 500 Oops\r\n\r\n") == 0
        assert len(parser.take()) == 1
        assert parser.feed(b"") == 0

    def test_line_ends_between_messages_are_taken(self):
        parser = make()
        assert parser.feed(EMPTY) == len(EMPTY)
        assert parser.feed(b"\r\n\r\n") == 4
        parser.expect("next")
        assert parser.feed(b"\r\n" + EMPTY) == len(EMPTY) + 2

    def test_strided_memory_is_refused(self):
        with pytest.raises(BufferError):
            make().feed(memoryview(EMPTY * 2)[::2])
        with pytest.raises(BufferError):
            make().feed(memoryview(EMPTY)[::-1])
        with pytest.raises(TypeError):
            make().feed("HTTP/1.1 200 OK")

    def test_parse_after_feed(self):
        parser = make()
        parser.feed(OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n")
        assert len(parser.take()) == 1
        assert parser.parse() == []

    @pytest.mark.parametrize("limit", [-1, 10])
    def test_unread_content_is_not_that_of_the_next_response(self, limit):
        parser = make(0, 0, limit=limit)
        for data in (sized(b"x" * 11)[:-11], b"x" * 11, sized(b"two")[:-3]):
            assert parser.feed(data) == len(data)
        parser.feed(b"two")
        assert parser.take()[1].body == (b"two" if limit > 0 else None)
        assert parser.read(100) == (b"" if limit > 0 else b"two")


ENDS_BY = {
    "length": lambda body: sized(body),
    "last chunk": lambda body: CHUNKED + chunks(*[body[i : i + 3] for i in range(0, len(body), 3)]),
    "close": lambda body: TO_CLOSE + body,
}


class TestBodyLimit:
    """Where a body goes: into the response, or to whoever reads."""

    @in_both_forms
    @pytest.mark.parametrize("kind", ENDS_BY)
    @pytest.mark.parametrize("limit", [-1, 0, 9, 10, 11])
    def test_outgrown_or_not(self, form, kind, limit):
        wire = ENDS_BY[kind](b"0123456789")
        for pieces in ways(wire):
            exchange = Exchange(form, make(limit=limit))
            [(response, content)] = exchange.run(pieces, eof=kind == "close")
            assert content == b"0123456789"
            assert response.body == (content if limit >= 10 else None)
            assert response.complete_by == kind

    @in_both_forms
    def test_changes_between_responses(self, form):
        exchange = Exchange(form, make(0, 0, 0))
        for limit in (-1, 3, 2):
            exchange.parser.body_limit = limit
            exchange.receive(sized(b"abc"))
        assert [response.body for response, _ in exchange.found] == [None, b"abc", None]
        assert {bytes(content) for _, content in exchange.found} == {b"abc"}

    @in_both_forms
    def test_a_collected_body_after_one_that_was_outgrown(self, form):
        exchange = Exchange(form, make(0, 0, 0, limit=5))
        found = exchange.run([CHUNKED + chunks(b"abcdef", b"gh"), CHUNKED + chunks(), CHUNKED + chunks(b"xyz")])
        assert [(r.body, content) for r, content in found] == [
            (None, b"abcdefgh"),
            (b"", b""),
            (b"xyz", b"xyz"),
        ]

    def test_a_length_beyond_belief_allocates_nothing(self):
        for limit in (-1, 1 << 50):
            parser = make(limit=limit)
            memoryview(parser).release()
            tracemalloc.start()
            try:
                put(parser, OK + b"Content-Length: 1099511627776\r\n\r\nab")
                put(parser, b"cd")
                assert parser.received == 4
                assert tracemalloc.get_traced_memory()[1] < 1.2 * 2**20
            finally:
                tracemalloc.stop()


class TestReading:
    @in_both_forms
    @pytest.mark.parametrize("size", [1, 2, 5, 100])
    def test_buffers_of_any_size(self, form, size):
        wire = sized(b"hello") + CHUNKED + chunks(b"h", b"el", b"lo", trailers=b"A: b\r\n") + TO_CLOSE + b"hello"
        parser = make(0, 0, 0)
        bodies = []
        data = wire
        responses = []
        while data or form == "own buffer":
            if form == "feed":
                data = data[parser.feed(data) :]
                responses += parser.take()
            elif data:
                responses += put(parser, data)
                data = b""
            else:
                responses += (more := parser.parse())
                if not more:
                    break
            if content := read_all(parser, size):
                bodies.append(content)
        responses += parser.eof()
        assert bodies == [b"hello"] * 3
        assert [r.complete_by for r in responses] == ["length", "last chunk", "close"]
        assert responses[1].trailers.items() == [("A", "b")]

    def test_a_buffer_that_is_just_filled_ends_the_body(self):
        for wire in (sized(b"hello"), CHUNKED + chunks(b"he", b"llo")):
            parser = make()
            [response] = put(parser, wire)
            assert parser.read_into(bytearray(5)) == 5
            assert response.complete_by is not None
            assert parser.open is None

    def test_no_room_and_nothing_here(self):
        parser = make()
        put(parser, CHUNKED + b"3\r\n")
        assert parser.read_into(bytearray(0)) == 0
        assert parser.read_into(bytearray(3)) == 0
        assert parser.read(-1) == b""
        put(parser, b"abc\r\n")
        assert parser.read_into(bytearray(0)) == 0
        assert parser.read(0) == b""
        assert parser.read(1 << 40) == b"abc"
        put(parser, b"0\r\n\r\n")
        assert parser.read_into(bytearray(0)) == 0
        assert parser.open is None

    def test_only_into_writable_memory(self):
        parser = make()
        put(parser, sized(b"abc"))
        for target in (b"   ", memoryview(bytearray(6))[::2], "abc"):
            with pytest.raises((BufferError, TypeError)):
                parser.read_into(target)
        words = array("I", [0, 0])
        assert parser.read_into(words) == 3
        assert words.tobytes()[:3] == b"abc"

    def test_an_error_in_the_middle(self):
        parser = make(0)
        [response] = put(parser, CHUNKED + b"3\r\nabc\r\n")
        put(parser, b"3\r\ndefX")
        target = bytearray(4)
        assert parser.read_into(target) == 4
        assert target == b"abcd"
        for _ in range(2):
            with pytest.raises(InvalidResponse, match="after chunk data"):
                read_all(parser)
        assert response.complete_by is None
        assert parser.progress == "in body"
        with pytest.raises(InvalidResponse):
            parser.read(10)
        assert not parser.reusable
        assert parser.stage == BROKEN

    def test_an_unframed_response_gives_its_head_and_no_body(self):
        parser = make()
        [response] = put(parser, OK + b"X: y\r\n\r\nbody")
        assert (response.framing, response.length, response.headers["x"]) == ("unframed", None, "y")
        for read in (lambda: parser.read(1), lambda: parser.read_into(bytearray(1))):
            with pytest.raises(UnsupportedResponse, match="neither Content-Length"):
                read()
        assert parser.eof() == []
        assert response.complete_by is None

    @pytest.mark.parametrize("limit", [-1, 100])
    def test_what_a_body_is_to_have(self, limit):
        parser = make(0, 0, limit=limit)
        assert parser.expected is None
        put(parser, OK + b"Content-Length: 10\r\n\r\n12345")
        assert (parser.received, parser.expected) == (5, 10)
        put(parser, b"67890")
        read_all(parser)
        assert parser.expected is None

    @pytest.mark.parametrize(
        "fields",
        [
            (b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"),
            (b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n"),
        ],
    )
    def test_both_framings_in_an_answer_to_connect(self, fields):
        """They mean nothing where a tunnel is opened, and are refused where it is not."""
        for status, good in ((b"200", True), (b"407", False)):
            parser = make(IS_CONNECT)
            answer = b"HTTP/1.1 " + status + b" X\r\n" + b"".join(fields) + b"\r\n"
            if good:
                (response,) = put(parser, answer + b"peer")
                assert (response.framing, parser.leftover()) == ("tunnel", b"peer")
            else:
                with pytest.raises(InvalidResponse, match="both Transfer-Encoding and Content-Length"):
                    put(parser, answer)

    def test_received_counts_this_body_only(self):
        parser = make(0, 0)
        assert parser.received == 0
        put(parser, OK + b"Content-Length: 10\r\n\r\n12345")
        assert parser.received == 5
        put(parser, b"67890" + EMPTY)
        assert parser.received == 10
        parser.read(4)
        assert parser.received == 10
        parser.read(6)
        assert parser.received == 0


class TestDirect:
    def test_a_length(self):
        parser = make(0, 0)
        [response] = put(parser, OK + b"Content-Length: 10\r\n\r\nabc")
        assert parser.direct == 0  # what is here comes first
        assert parser.read(100) == b"abc"
        assert parser.direct == 7
        for count in (8, -1):
            with pytest.raises(ValueError, match="body has left"):
                parser.direct_received(count)
        parser.direct_received(3)
        assert (parser.direct, parser.received) == (4, 6)
        parser.direct_received(4)
        assert (parser.direct, parser.open, response.complete_by) == (0, None, "length")
        assert put(parser, EMPTY)[0]._item == 1

    def test_until_the_close(self):
        parser = make()
        [response] = put(parser, TO_CLOSE)
        assert parser.direct > 1 << 60
        parser.direct_received(1 << 40)
        assert parser.received == 1 << 40
        parser.eof()
        assert parser.direct == 0
        assert response.complete_by == "close"

    @pytest.mark.parametrize("wire", [b"", CHUNKED, EMPTY, OK + b"\r\n"])
    def test_not_otherwise(self, wire):
        parser = make()
        put(parser, wire)
        assert parser.direct == 0
        with pytest.raises(ValueError, match="body has left"):
            parser.direct_received(1)

    def test_not_while_collecting(self):
        parser = make(limit=100)
        put(parser, OK + b"Content-Length: 10\r\n\r\nabc")
        assert parser.direct == 0


class TestInterim:
    @in_both_forms
    def test_comes_with_the_final_response(self, form):
        wire = b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\nHTTP/1.1 100 \r\n\r\n"
        wire += b"HTTP/1.0 150 X\r\nConnection: close\r\nContent-Length: 5\r\n\r\n" + sized(b"final") + EMPTY
        for pieces in ways(wire):
            [(response, content), (second, _)] = Exchange(form, make(0, 0)).run(pieces)
            assert [r.status for r in response.informational] == [103, 100, 150]
            assert response.informational[0].headers["link"] == "a"
            assert (content, response.persistent) == (b"final", True)
            assert second.informational == ()

    def test_is_seen_before_it(self):
        parser = make(7)
        assert put(parser, b"HTTP/1.1 100 Continue\r\n\r\n") == []
        [interim] = parser.interim_responses
        assert (interim.status, interim._item, interim.complete_by) == (100, 0, "no body")
        assert interim.informational == ()
        assert parser.progress == "in head"
        assert parser.waiting_count == 1
        put(parser, EMPTY)
        assert parser.interim_responses == ()


class TestNoBody:
    @in_both_forms
    @pytest.mark.parametrize(("status", "fact"), [(200, IS_HEAD), (404, IS_HEAD), (204, 0), (304, 0), (204, IS_HEAD)])
    @pytest.mark.parametrize("framing", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b""])
    def test_whatever_the_fields_say(self, form, status, fact, framing):
        wire = b"HTTP/1.1 %d X\r\n%b\r\n" % (status, framing)
        found = Exchange(form, make(fact, 0, limit=KEPT)).run([wire + sized(b"next")])
        assert [(r.status, r.body, r.complete_by, r.framing, r.length) for r, _ in found] == [
            (status, b"", "no body", "none", 0),
            (200, b"next", "length", "length", 4),
        ]


class TestTunnel:
    @pytest.mark.parametrize(
        ("fact", "head"),
        [(IS_CONNECT, OK), (ASKS_UPGRADE, b"HTTP/1.1 101 Go\r\nUpgrade: x\r\nConnection: upgrade\r\n")],
    )
    def test_what_follows_is_left_over(self, fact, head):
        parser = make(fact, 0)
        [response] = put(parser, head + b"Content-Length: 3\r\n\r\nHTTP/9 \x00raw")
        assert (response.framing, response.complete_by, response.persistent) == ("tunnel", "no body", False)
        assert parser.parse() == []
        assert not parser.reusable
        assert parser.stage == TUNNEL
        assert parser.leftover() == b"HTTP/9 \x00raw"
        assert parser.leftover() == b""
        fed = make(fact)
        assert fed.feed(head + b"\r\nraw") == len(head) + 2
        assert fed.leftover() == b""

    def test_a_connect_that_is_refused_is_http(self):
        parser = make(IS_CONNECT, 0, limit=KEPT)
        responses = put(parser, b"HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno" + EMPTY)
        assert [r.body for r in responses] == [b"no", b""]

    @pytest.mark.parametrize("fact", [PLAIN, IS_HEAD, IS_CONNECT])
    def test_101_that_was_not_asked_for(self, fact):
        with pytest.raises(UnsupportedResponse, match="101"):
            put(make(fact), b"HTTP/1.1 101 Go\r\n\r\n")


class TestSurplus:
    def test_is_never_parsed(self):
        parser = make(limit=KEPT)
        [response] = put(parser, sized(b"good") + b"\x00\xff garbage")  # llhttp would refuse it
        assert response.body == b"good"
        assert parser.surplus
        assert not parser.reusable
        assert parser.stage == ENDED
        assert parser.parse() == []

    def test_before_any_request(self):
        parser = ResponseParser(HTTPResponse, InvalidResponse, UnsupportedResponse)
        assert put(parser, EMPTY) == []
        assert parser.surplus

    def test_line_ends_are_none(self):
        parser = make()
        put(parser, EMPTY + b"\r\n")
        put(parser, b"\r\n")
        assert not parser.surplus
        assert parser.reusable
        parser.expect("next")
        assert put(parser, b"\r\n" + EMPTY)[0]._item == "next"


class TestStage:
    def test_each(self):
        parser = make(0, 0, 0, limit=3)
        stages = [ResponseParser(HTTPResponse, InvalidResponse, UnsupportedResponse).stage, parser.stage]
        put(parser, b"HTTP/1.1 103 E\r\n\r\n" + OK)
        stages.append(parser.stage)
        put(parser, b"Content-Length: 0\r\n\r\n" + sized(b"abcd")[:-4])
        stages.append(parser.stage)
        put(parser, b"abcd")
        assert parser.read(9) == b"abcd"
        stages.append(parser.stage)
        put(parser, OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n")
        stages.append(parser.stage)
        parser.give_up()
        assert [*stages, parser.stage] == [IDLE, AWAITING, AWAITING, OPEN, AWAITING, ENDED, BROKEN]

    def test_given_up(self):
        parser = make(0, 0)
        put(parser, sized(b"abc"))
        assert parser.reusable
        parser.give_up()
        assert (parser.stage, parser.reusable) == (BROKEN, False)
        assert parser.read(9) == b"abc"  # what is here stands

    def test_eof(self):
        parser = make()
        put(parser, TO_CLOSE + b"abc")
        assert not parser.at_eof
        parser.eof()
        assert (parser.stage, parser.at_eof) == (OPEN, True)
        parser.read(9)
        assert parser.stage == ENDED


class TestEof:
    @in_both_forms
    @pytest.mark.parametrize("limit", [-1, KEPT])
    def test_clean_or_not(self, form, limit):
        for clean in (True, False):
            exchange = Exchange(form, make(limit=limit))
            exchange.receive(TO_CLOSE + b"body")
            exchange.note(exchange.parser.eof(clean))
            found = [(r.complete_by, bytes(content)) for r, content in exchange.found]
            if clean:
                assert found == [("close", b"body")]
            else:
                assert found == ([(None, b"body")] if limit < 0 else [])
            assert exchange.parser.waiting_count == (not clean)
            assert not exchange.parser.reusable

    def test_before_the_body_was_read(self):
        parser = make()
        [response] = put(parser, TO_CLOSE + b"body")
        assert parser.eof() == []
        assert (response.complete_by, parser.read(2), response.complete_by) == (None, b"bo", None)
        assert (parser.read(5), response.complete_by) == (b"dy", "close")

    @pytest.mark.parametrize(
        "wire", [b"", b"HTTP/1.", EMPTY[:-2], sized(b"abc")[:-1], CHUNKED + b"0\r\n", OK + b"\r\n"]
    )
    def test_in_the_middle(self, wire):
        for limit in (-1, KEPT):
            parser = make(limit=limit)
            put(parser, wire)
            assert parser.eof() == []
            assert parser.outstanding == (0,)
            assert not parser.reusable


class TestErrors:
    @in_both_forms
    def test_text_offset_and_context(self, form):
        wire = b"HTTP/1.1 200 OK\r\nName: " + b"v" * 50 + b"\r\nBad\x1b[31m name: x\r\n\r\n"
        at = wire.index(b"\x1b")
        for pieces in ways(EMPTY + wire):
            exchange = Exchange(form, make(0, 0, limit=KEPT))
            with pytest.raises(InvalidResponse) as caught:
                exchange.run(pieces)
            text = str(caught.value)
            assert f"at byte {at} of the response" in text
            assert text.isprintable()
            assert len(text) < 400
            assert [r.status for r, _ in exchange.found] == [200]
            parser = exchange.parser
            for again in (parser.parse, lambda p=parser: p.feed(b"x"), lambda p=parser: p.read(1)):
                with pytest.raises(InvalidResponse) as repeated:
                    again()
                assert str(repeated.value) == text
        assert r"\x1b" in text

    def test_what_was_complete_stands(self):
        parser = make(0, 0, 0, limit=KEPT)
        assert [r.body for r in put(parser, sized(b"one") + sized(b"two") + b"garbage")] == [b"one", b"two"]
        with pytest.raises(InvalidResponse, match="at byte 0 of the response"):
            parser.parse()
        assert parser.outstanding == (2,)

    def test_the_offset_counts_from_the_response(self):
        parser = make(0, 0)
        put(parser, OK + b"Content-Length: 6\r\n\r\nabc")
        parser.read(3)
        parser.direct_received(3)
        wire = CHUNKED + b"5\r\nhello\r\n"
        put(parser, wire)
        assert parser.read(9) == b"hello"
        put(parser, b"zz")
        with pytest.raises(InvalidResponse, match=f"at byte {len(wire)} of the response"):
            parser.read(9)

    @in_both_forms
    def test_kinds(self, form):
        for wire, kind in [
            (b"HTTP/2.0 200 OK\r\n\r\n", UnsupportedResponse),
            (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", UnsupportedResponse),
            (OK + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", InvalidResponse),
            (b"RTSP/1.0 200 OK\r\n\r\n", InvalidResponse),
        ]:
            with pytest.raises(kind):
                Exchange(form, make()).run([wire])


class TestQueue:
    @in_both_forms
    def test_grows(self, form):
        facts = [IS_HEAD if number % 3 == 0 else PLAIN for number in range(1000)]
        parser = make(*facts[:11])
        exchange = Exchange(form, parser)

        def wire(number):
            whole = sized(b"%d" % number)
            return whole[: whole.index(b"\r\n\r\n") + 4] if facts[number] else whole

        for number in range(7):  # the ring is not at its start when it grows
            exchange.receive(wire(number))
        for number in range(11, 1000):
            parser.expect(number, facts[number])
        assert parser.outstanding == tuple(range(7, 1000))
        assert parser.waiting_count == 993
        found = exchange.run([b"".join(wire(number) for number in range(7, 1000))])
        assert [r._item for r, _ in found] == list(range(1000))
        assert all(content == (b"" if facts[n] else b"%d" % n) for n, (_, content) in enumerate(found))

    def test_expect_all(self):
        parser = make(IS_HEAD)
        parser.expect_all(list("abcdefghijklmnopqrstuvwxyz"))
        assert parser.outstanding == (0, *"abcdefghijklmnopqrstuvwxyz")
        with pytest.raises(TypeError):
            parser.expect_all(None)
        with pytest.raises(TypeError):
            parser.expect_all(("a", "b"))

    def test_two_parsers_side_by_side(self):
        left, right = make(0, limit=KEPT), make(0)
        wires = {left: CHUNKED + chunks(b"left", trailers=b"L: 1\r\n"), right: sized(b"right", b"R: 2\r\n")}
        found = {left: [], right: []}
        for at in range(200):
            for parser, wire in wires.items():
                found[parser] += put(parser, wire[at : at + 1])
        assert (found[left][0].body, found[left][0].trailers["L"]) == (b"left", "1")
        assert (found[right][0].headers["r"], read_all(right)) == ("2", b"right")


def status_line(size):
    return b"HTTP/1.1 200 " + b"r" * (size - 13) + b"\r\nContent-Length: 0\r\n\r\n"


def field_line(size):
    return OK + b"Name: " + b"v" * (size - 6) + b"\r\nContent-Length: 0\r\n\r\n"


def head_of(size):
    return OK + b"Content-Length: 0\r\n" + b"N:" + b"v" * (size - len(EMPTY) - 4) + b"\r\n\r\n"


def interim_bytes(size):
    one = b"HTTP/1.1 103 X\r\n\r\n"
    return one + one[:-4] + b" " * (size - 2 * len(one)) + b"\r\n\r\n" + EMPTY


def trailer_section(size):
    return CHUNKED + b"0\r\nN:" + b"v" * (size - 6) + b"\r\n\r\n"


# Limit, its value, the wire that has as much of it, and the words of the refusal.
LIMITS = {
    "first chunk line": (
        Limits(max_chunk_line=20),
        20,
        lambda n: CHUNKED + b"2;" + b"e" * (n - 2) + b"\r\nxy\r\n0\r\n\r\n",
        "max_chunk_line",
    ),
    "chunk line": (
        Limits(max_chunk_line=20),
        20,
        lambda n: CHUNKED + b"1\r\nx\r\n" + b"2;" + b"e" * (n - 2) + b"\r\nxy\r\n0\r\n\r\n",
        "max_chunk_line",
    ),
    "last chunk line": (
        Limits(max_chunk_line=20),
        20,
        lambda n: CHUNKED + b"1\r\nx\r\n" + b"0;" + b"e" * (n - 2) + b"\r\n\r\n",
        "max_chunk_line",
    ),
    "status line": (Limits(max_line_size=60), 60, status_line, "max_line_size"),
    "field line": (Limits(max_line_size=60), 60, field_line, "max_line_size"),
    "trailer line": (
        Limits(max_line_size=60),
        60,
        lambda n: CHUNKED + b"0\r\nName: " + b"v" * (n - 6) + b"\r\n\r\n",
        "max_line_size",
    ),
    "fields": (
        Limits(max_headers=4),
        4,
        lambda n: OK + b"N: v\r\n" * (n - 1) + b"Content-Length: 0\r\n\r\n",
        "max_headers",
    ),
    "header section": (Limits(max_field_size=150), 150, head_of, "max_field_size"),
    "interim responses": (
        Limits(max_interim=3),
        3,
        lambda n: b"HTTP/1.1 103 X\r\n\r\n" * n + EMPTY,
        "max_interim",
    ),
    "interim bytes": (Limits(max_field_size=150), 150, interim_bytes, "max_interim"),
    "extensions": (
        Limits(max_chunk_ext=20),
        20,
        lambda n: CHUNKED + b"1;ab=cdefgh\r\nx\r\n" + b"1;" + b"y" * (n - 8) + b"\r\nx\r\n0\r\n\r\n",
        "max_chunk_ext",
    ),
    "trailers": (
        Limits(max_trailers=3),
        3,
        lambda n: CHUNKED + chunks(trailers=b"N: v\r\n" * n),
        "max_trailers",
    ),
    "no trailers": (
        Limits(max_trailers=0),
        0,
        lambda n: CHUNKED + chunks(trailers=b"N: v\r\n" * n),
        "max_trailers",
    ),
    "trailer section": (Limits(max_field_size=150), 150, trailer_section, "max_field_size"),
    "leading": (
        Limits(max_leading=10),
        10,
        lambda n: b"\r\n" * (n // 2) + b"\n" * (n % 2) + EMPTY,
        "max_leading",
    ),
}


@in_both_forms
@pytest.mark.parametrize("name", LIMITS)
def test_limits(form, name):
    limits, largest, wire, words = LIMITS[name]
    for limit in (-1, KEPT):
        for pieces in ways(wire(largest)):
            [(response, _)] = Exchange(form, make(limits=limits, limit=limit)).run(pieces)
            assert response.complete_by is not None
        for pieces in ways(wire(largest + 1)):
            with pytest.raises(InvalidResponse, match=words):
                Exchange(form, make(limits=limits, limit=limit)).run(pieces)


def test_without_limits_those_of_the_default_hold():
    parser = make(limits=None)
    with pytest.raises(InvalidResponse, match="max_headers"):
        put(parser, OK + b"N: v\r\n" * (Limits().max_headers + 1))
    with pytest.raises(InvalidResponse, match="max_leading"):
        put(make(), b"\r\n" * (Limits().max_leading // 2 + 1))


@pytest.mark.parametrize("field", ["max_headers", "max_trailers"])
def test_a_negative_limit_is_refused(field):
    with pytest.raises((ValueError, InvalidResponse)):
        put(make(limits=Limits(**{field: -1})), CHUNKED + chunks(trailers=b"N: v\r\n"))


FORGIVEN = {
    "LF": b"HTTP/1.1 200 OK\nX: y\nContent-Length: 2\n\nab",
    "CTL": OK + b"X: a\x01b\x7fc\r\nContent-Length: 2\r\n\r\nab",
    "CHUNK_SPACE": CHUNKED + b"2 \t\r\nab\r\n0\r\n\r\n",
    "UNTIL_CLOSE": OK + b"\r\nab",
}


NEVER_FORGIVEN = {
    "NUL": OK + b"X: a\0b\r\n\r\n",
    "bare CR": OK + b"X: a\rb\r\n\r\n",
    "fold": OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "space behind the status line": OK + b" X: a\r\nContent-Length: 0\r\n\r\n",
    "line of one space": OK + b" \r\nContent-Length: 0\r\n\r\n",
    "fold of blanks": OK + b"X: a\r\n \r\nContent-Length: 0\r\n\r\n",
    "fold of an empty value": OK + b"X:\r\n b\r\nContent-Length: 0\r\n\r\n",
    "space in a name": OK + b"X Y: a\r\nContent-Length: 0\r\n\r\n",
    "space before the colon": OK + b"X : a\r\nContent-Length: 0\r\n\r\n",
    "control byte in a name": OK + b"X\x01: a\r\nContent-Length: 0\r\n\r\n",
    "no name": OK + b": a\r\nContent-Length: 0\r\n\r\n",
    "control byte in the reason": b"HTTP/1.1 200 O\x01K\r\nContent-Length: 0\r\n\r\n",
    "length and coding": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "two lengths": OK + b"Content-Length: 0\r\nContent-Length: 1\r\n\r\n",
    "space in a chunk's size": CHUNKED + b"1 1\r\nab\r\n0\r\n\r\n",
    "space before a chunk's size": CHUNKED + b" 2\r\nab\r\n0\r\n\r\n",
    "NUL in a trailer": CHUNKED + b"0\r\nX: a\0b\r\n\r\n",
    "fold of a trailer": CHUNKED + b"0\r\nX: a\r\n b\r\n\r\n",
    "chunk data without CR": CHUNKED + b"2\r\nab\n0\r\n\r\n",
    "chunk size without CR": CHUNKED + b"2\nab\r\n0\r\n\r\n",
}


class TestLenient:
    """Each flag lets its own fault through, and nothing else."""

    @in_both_forms
    @pytest.mark.parametrize("flag", list(Lenient))
    @pytest.mark.parametrize("fault", FORGIVEN)
    def test_each_alone(self, form, flag, fault):
        for pieces in ways(FORGIVEN[fault]):
            exchange = Exchange(form, make(lenient=flag))
            if flag is Lenient[fault]:
                [(response, content)] = exchange.run(pieces, eof=True)
                assert (response.complete_by is not None, content) == (True, b"ab")
                if fault == "CTL":
                    assert response.headers["x"] == "a\x01b\x7fc"
            else:
                with pytest.raises((InvalidResponse, UnsupportedResponse)):
                    exchange.run(pieces, eof=True)

    @in_both_forms
    @pytest.mark.parametrize("flag", [*Lenient, sum(Lenient)])
    @pytest.mark.parametrize("fault", NEVER_FORGIVEN)
    def test_never(self, form, flag, fault):
        for pieces in ways(NEVER_FORGIVEN[fault]):
            with pytest.raises(InvalidResponse):
                Exchange(form, make(lenient=flag)).run(pieces)

    def test_names_are_tokens_whatever_is_forgiven(self):
        allowed = set(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz:")
        for byte in set(range(256)) - allowed - set(b"\r\n"):
            for name in (b"%c", b"%cX", b"X%c", b"X%cX"):
                with pytest.raises(InvalidResponse):
                    put(make(lenient=sum(Lenient)), OK + name % byte + b": v\r\nContent-Length: 0\r\n\r\n")

    def test_what_is_valid_stays_the_same(self):
        wire = OK + b"A: \t b \t\r\nB:\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(b"abc", trailers=b"T: v \r\n")
        for pieces in ways(wire):
            [(response, content)] = Exchange("feed", make(lenient=sum(Lenient))).run(pieces)
            assert response.fields() == [("A", "b"), ("B", ""), ("Transfer-Encoding", "chunked")]
            assert (content, response.trailer_fields()) == (b"abc", [("T", "v")])


class Item:
    """A request, as far as the parser is concerned, that shows when it is gone."""


STOPS = {
    "fresh": b"",
    "in a head": OK + b"Na",
    "behind an interim response": b"HTTP/1.1 103 E\r\n\r\nHTTP",
    "in a length": OK + b"Content-Length: 100000\r\n\r\nabc",
    "in chunks": CHUNKED + b"5\r\nab",
    "in a chunk's size": CHUNKED + b"5;ab",
    "in trailers": CHUNKED + b"0\r\nA: b",
    "until the close": TO_CLOSE + b"ab",
    "unframed": OK + b"\r\nab",
    "ended": OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n",
    "surplus": EMPTY * 30,
    "broken": b"garbage",
    "broken in chunks": CHUNKED + b"3\r\nabcdefgh",
}


class TestMemory:
    def test_references_stay_steady_over_100_000_responses(self):
        def responses():
            return sum(type(thing) is HTTPResponse for thing in gc.get_objects())

        gc.collect()
        before = responses()  # those that another test has left, as one that has failed
        item = Item()
        parser = make(limit=KEPT)
        put(parser, EMPTY)
        blob = (
            sized(b"ab", b"X: y\r\n") + b"HTTP/1.1 103 E\r\n\r\n" + CHUNKED + chunks(b"c", trailers=b"T: u\r\n")
        ) * 100

        def go(rounds):
            for _ in range(rounds):
                parser.expect_all([item] * 200)
                for response in put(parser, blob):
                    assert response.body
                    response.headers["x"], response.trailers

        go(10)
        gc.collect()
        references, blocks = sys.getrefcount(item), sys.getallocatedblocks()
        go(490)
        gc.collect()
        assert sys.getrefcount(item) == references
        assert sys.getallocatedblocks() - blocks < 100
        assert responses() <= before

    @in_both_forms
    @pytest.mark.parametrize("limit", [-1, 1, KEPT])
    @pytest.mark.parametrize("state", STOPS)
    def test_dropped_in_every_state(self, form, limit, state):
        items = [Item() for _ in range(20)]
        gone = [weakref.ref(item) for item in items]
        parser = make(limit=limit)
        parser.read_into(bytearray(10))
        parser = ResponseParser(HTTPResponse, InvalidResponse, UnsupportedResponse, None, 0, limit)
        parser.expect_all(items)
        try:
            if form == "feed":
                data = STOPS[state]
                while data and (taken := parser.feed(data)):
                    data = data[taken:]
            else:
                put(parser, STOPS[state])
                parser.read_into(bytearray(1))
        except (InvalidResponse, UnsupportedResponse):
            pass
        free = memoryview(parser)
        del items, parser
        free[:1] = b"x"  # the memory is there while it is exported
        del free
        gc.collect()
        assert [ref() for ref in gone] == [None] * 20

    def test_slices_do_not_outlive_the_parser(self):
        parser = make()
        put(parser, CHUNKED + chunks(b"abcdef"))
        assert parser.read(3) == b"abc"
        del parser


class TestClasses:
    def test_the_base_and_subclasses(self):
        class Own(HTTPResponse):
            __slots__ = ()

        for response_class in (ResponseHead, HTTPResponse, Own):
            [response] = put(
                make(response_class=response_class),
                b"HTTP/1.0 299 It is\tfine\xe9 \r\nContent-Length: 0\r\n\r\n",
            )
            assert type(response) is response_class
            assert (response.status, response.version, response.reason.rstrip()) == (
                299,
                10,
                "It is\tfine\xe9",
            )
            assert not response.persistent

    @pytest.mark.parametrize("other", [object, int, Item, None, "x", ResponseHead.__call__])
    def test_others_are_refused(self, other):
        with pytest.raises(TypeError):
            ResponseParser(other, InvalidResponse, UnsupportedResponse)

    @in_both_forms
    def test_a_class_that_raises_breaks_the_parser(self, form):
        class Moody(HTTPResponse):
            __slots__ = ()

            def __new__(cls):
                raise KeyError("not today")

        exchange = Exchange(form, make(0, 0, response_class=Moody))
        exchange.receive(EMPTY[:20])
        with pytest.raises(KeyError, match="not today"):
            exchange.receive(EMPTY[20:])
        assert not exchange.parser.reusable
        for _ in range(3):
            with pytest.raises((KeyError, InvalidResponse)):
                exchange.receive(EMPTY)

    def test_a_head_that_no_parser_made_is_harmless(self):
        head = ResponseHead()
        assert (head.fields(), head.trailer_fields(), head.reason) == ([], [], "")


# -- any valid responses, however they arrive --

TOKEN = st.text("abcXYZ019-_!~", min_size=1, max_size=8).map(lambda name: "X" + name)
VALUE = st.text("ab \t\xe9;,=0", max_size=12).map(lambda value: value.strip(" \t"))
FIELDS = st.lists(st.tuples(TOKEN, VALUE), max_size=3)
PIECES = st.lists(st.binary(min_size=1, max_size=20), max_size=4)


def lines(fields):
    return b"".join(f"{name}: {value} \r\n".encode("latin-1") for name, value in fields)


@st.composite
def messages(draw):
    """(fact, wire, outcome); the outcome is (status, fields, content, complete_by, trailers, interim)."""
    kind = draw(st.sampled_from(("length", "last chunk", "head", "204", "304")))
    fields, trailers = draw(FIELDS), []
    interim = draw(st.lists(st.sampled_from((100, 102, 103, 199)), max_size=2))
    content = b"".join(pieces := draw(PIECES))
    status, by = draw(st.sampled_from((200, 206, 404, 500))), kind
    framing = [("Content-Length", str(len(content)))]
    body = content
    if kind == "last chunk":
        trailers = draw(FIELDS)
        framing = [("transfer-encoding", "Chunked")]
        body = chunks(*pieces, trailers=lines(trailers))
    elif kind != "length":
        status = status if kind == "head" else int(kind)
        body = content = b""
        by = "no body"
    wire = b"".join(b"HTTP/1.1 %d I\r\n%b\r\n" % (code, lines(draw(FIELDS))) for code in interim)
    wire += b"HTTP/1.1 %d R\r\n" % status + lines(fields + framing) + b"\r\n" + body
    outcome = (status, fields + framing, content, by, trailers, interim)
    return (IS_HEAD if kind == "head" else PLAIN), wire, outcome


@settings(max_examples=150, deadline=None)
@given(
    st.data(),
    st.lists(messages(), min_size=1, max_size=5),
    st.lists(st.sampled_from((-1, 0, 5, 30, KEPT)), min_size=1),
)
def test_any_sequence_of_responses_arrives_as_it_is(data, sequence, limits):
    wire = b"".join(part for _, part, _ in sequence)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=12)))
    pieces = [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    for form in FORMS:
        exchange = Exchange(form, make(*[fact for fact, _, _ in sequence]))
        for number, piece in enumerate(pieces):
            exchange.parser.body_limit = limits[number % len(limits)]
            exchange.receive(piece)
        found = [
            (
                r.status,
                r.fields(),
                content,
                r.complete_by,
                r.trailer_fields(),
                [i.status for i in r.informational],
            )
            for r, content in exchange.run([])
        ]
        assert found == [outcome for _, _, outcome in sequence]
        assert exchange.parser.reusable
        assert exchange.parser.outstanding == ()
