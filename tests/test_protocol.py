"""A whole connection without I/O: where the two halves meet, and what is known of each request after a failure."""

import io
from array import array

import pytest

from httpio.exceptions import ExcessBodyData, InvalidURL, StateError
from httpio.framing import BodyKind, FilePart, encode_get
from httpio.headers import encode_fields
from httpio.messages import BodyFollowing, Lenient, Limits, Request
from httpio.protocol import JOINED, Protocol
from httpio.states import Receiving, Sending

OK = b"HTTP/1.1 200 OK\r\n"
EMPTY = OK + b"Content-Length: 0\r\n\r\n"
CLOSING = OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n"
REFUSED = b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
UPGRADE = {"Connection": "upgrade", "Upgrade": "x"}
CLOSE = {"Connection": "close"}
EXPECT = {"Expect": "100-continue"}


@pytest.fixture
def protocol():
    return Protocol(encode_fields({"Host": "h"}), Limits(), Lenient(0))


def send(protocol, method="GET", path="/", headers=None, body=None, expect=None, **kwargs):
    return protocol.send_request(Request(method, path, headers, body, **kwargs), expect)


def flush(protocol, count=None):
    """The transport takes *count* bytes, or all; returns them."""
    taken = b""
    while protocol.outbox and (count is None or len(taken) < count):
        entry = protocol.outbox[0]
        size = len(entry.rest) if count is None else min(len(entry.rest), count - len(taken))
        taken += bytes(entry.rest[:size])
        if size == len(entry.rest):
            protocol.outbox.popleft()
        else:
            entry.take(size)
    return taken


def receive(protocol, data):
    half = protocol.receiving
    if protocol.outbox and protocol.unsent == half.parser.waiting_count:
        flush(protocol)  # what is answered has been sent
    with memoryview(half.parser) as free:
        free[: len(data)] = data
    responses = protocol.answered(half.received(len(data)))
    while half.open is None and half.parser.buffered and (more := half.parse()):
        responses += protocol.answered(more)
    return responses


def states(protocol):
    return [(fact.state, fact.safe) for fact in protocol.unanswered()]


class TestRequests:
    def test_heads_and_bodies(self, protocol):
        assert send(protocol) is BodyKind.NONE
        assert send(protocol, "PUT", "/a", {"X": "y"}, b"abc") is BodyKind.BYTES
        assert send(protocol, "PUT", "/b", {"Transfer-Encoding": "chunked"}, b"abc") is BodyKind.BYTES
        assert flush(protocol) == (
            b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
            b"PUT /a HTTP/1.1\r\nHost: h\r\nX: y\r\nContent-Length: 3\r\n\r\nabc"
            b"PUT /b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        )
        assert protocol.sending is Sending.IDLE
        assert [request.path for request in protocol.receiving.outstanding] == ["/", "/a", "/b"]

    @pytest.mark.parametrize("chunked", [False, True])
    def test_a_large_body_is_not_copied(self, protocol, chunked):
        body = array("H", range(JOINED))
        send(protocol, "PUT", "/", {"Transfer-Encoding": "chunked"} if chunked else None, memoryview(body))
        assert len(protocol.outbox) == 3 if chunked else 2
        assert protocol.unsent == 1
        sent = flush(protocol)
        assert sent.endswith(
            b"20000\r\n" + body.tobytes() + b"\r\n0\r\n\r\n" if chunked else b"\r\n\r\n" + body.tobytes()
        )

    def test_many_targets_are_as_many_requests(self, protocol):
        targets = [f"/{number}" for number in range(50)]
        assert protocol.send_targets(targets)
        assert flush(protocol) == b"".join(encode_get(target, protocol.rest_of_get) or b"" for target in targets)
        assert protocol.receiving.outstanding == tuple(targets)
        assert [r.answers(t) for r, t in zip(receive(protocol, EMPTY * 50), targets, strict=True)] == [True] * 50

    def test_targets_that_are_not_plain_change_nothing(self, protocol):
        assert not protocol.send_targets(["/a", "/b c"])
        assert not protocol.send_targets([])
        assert_untouched(protocol)

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            (("GET", "/a b"), InvalidURL),
            (("G T", "/"), ValueError),
            (("PUT", "/", {"X": "\n"}), ValueError),
            (("PUT", "/", None, "text"), TypeError),
            (("PUT", "/", {"Content-Length": 5}, b"a"), ValueError),
            (("PUT", "/", UPGRADE, BodyFollowing()), StateError),
            (("PUT", "/", None, memoryview(b"abcdef")[::2]), ValueError),
        ],
    )
    def test_bad_requests_change_nothing(self, protocol, arguments, error):
        with pytest.raises(error):
            send(protocol, *arguments)
        assert_untouched(protocol)
        assert protocol.reusable

    def test_nothing_is_sent_before_its_time(self, protocol):
        send(protocol, "PUT", "/", None, BodyFollowing(3))
        assert_refuses(protocol)
        protocol.write(b"abc")
        send(protocol, "GET", "/", UPGRADE)
        assert_refuses(protocol)
        receive(protocol, EMPTY * 2)
        send(protocol, "GET", "/", CLOSE)
        assert protocol.sending is Sending.DONE
        assert_refuses(protocol)

    @pytest.mark.parametrize(("method", "path", "headers"), [("CONNECT", "h:1", {}), ("GET", "/", UPGRADE)])
    def test_close_is_kept_in_mind_behind_a_handover(self, protocol, method, path, headers):
        options = ", ".join(filter(None, (headers.get("Connection"), "close")))
        send(protocol, method, path, {**headers, "Connection": options})
        flush(protocol)
        receive(protocol, REFUSED)
        assert not protocol.reusable
        assert_refuses(protocol)

    def test_the_method_and_the_upgrade_reach_the_parser(self, protocol):
        send(protocol, "HEAD")
        assert receive(protocol, OK + b"Content-Length: 5\r\n\r\n")[0].framing == "none"
        send(protocol, "CONNECT", "h:1")
        assert receive(protocol, OK + b"\r\n")[0].framing == "tunnel"
        assert protocol.sending is Sending.STOPPED
        assert protocol.receiving.state is Receiving.TUNNEL

    def test_after_a_refused_handover_http_goes_on(self, protocol):
        send(protocol, "CONNECT", "h:1")
        assert protocol.sending is Sending.HELD
        flush(protocol)
        receive(protocol, b"HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\n")
        assert protocol.sending is Sending.IDLE


def assert_untouched(protocol):
    assert protocol.sending is Sending.IDLE
    assert not protocol.outbox
    assert protocol.receiving.outstanding == ()
    assert protocol.receiving.state is Receiving.IDLE


def assert_refuses(protocol):
    """No further request, and nothing changed by the attempt."""
    before = (protocol.sending, len(protocol.outbox), protocol.receiving.outstanding)
    for attempt in (lambda: send(protocol), lambda: protocol.send_targets(["/"])):
        with pytest.raises(StateError):
            attempt()
    assert before == (protocol.sending, len(protocol.outbox), protocol.receiving.outstanding)


class TestBody:
    def test_of_a_length(self, protocol):
        send(protocol, "PUT", "/", None, BodyFollowing(5))
        head = flush(protocol)
        assert head.endswith(b"Content-Length: 5\r\n\r\n")
        assert (protocol.sends_body, protocol.body_left) == (True, 5)
        protocol.write(b"ab")
        protocol.write(b"")
        protocol.write(memoryview(array("H", [0])))
        with pytest.raises(ExcessBodyData, match="2 bytes are more than the 1"):
            protocol.write(b"cd")
        with pytest.raises(StateError, match="1 bytes left"):
            protocol.end_body()
        protocol.write(bytearray(b"e"))
        assert flush(protocol) == b"ab\0\0e"
        assert (protocol.sends_body, protocol.sending, protocol.body_left) == (False, Sending.IDLE, 0)

    def test_chunked(self, protocol):
        send(protocol, "PUT", "/", CLOSE, BodyFollowing())
        flush(protocol)
        assert (protocol.sends_body, protocol.body_left, protocol.sending) == (True, None, Sending.LAST_BODY)
        protocol.write(b"abc")
        protocol.write(b"")
        protocol.write(b"d" * 16)
        protocol.end_body()
        assert flush(protocol) == b"3\r\nabc\r\n10\r\n" + b"d" * 16 + b"\r\n0\r\n\r\n"
        assert protocol.sending is Sending.DONE

    def test_errors_leave_the_state_alone(self, protocol):
        for call in (lambda: protocol.write(b"a"), protocol.end_body):
            with pytest.raises(StateError, match="no body"):
                call()
        send(protocol, "PUT", "/", None, BodyFollowing(5))
        flush(protocol)
        for bad, error in (("text", TypeError), (memoryview(b"abcd")[::2], TypeError), (b"123456", ExcessBodyData)):
            with pytest.raises(error):
                protocol.write(bad)
        assert not protocol.outbox
        protocol.write(b"12345")
        assert flush(protocol) == b"12345"
        for call in (lambda: protocol.write(b"a"), protocol.end_body):
            with pytest.raises(StateError, match="no body"):
                call()
        assert not protocol.outbox

    def test_of_no_length_ends_at_once(self, protocol):
        send(protocol, "PUT", "/", None, BodyFollowing(0))
        assert (protocol.sends_body, protocol.sending) == (False, Sending.IDLE)

    def test_what_was_written_is_counted_for_each_body(self, protocol):
        send(protocol, "PUT", "/", None, BodyFollowing(5))
        protocol.write(b"ab")
        assert protocol.written == 2
        protocol.wrote(2)  # past the outbox, as a partial write sends
        assert (protocol.written, protocol.body_left, protocol.unfinished) == (4, 1, True)
        protocol.write(b"e")
        assert (protocol.written, protocol.body_left, protocol.unfinished) == (5, 0, False)
        send(protocol)
        assert protocol.written == 5
        send(protocol, "PUT", "/", None, BodyFollowing())
        assert (protocol.written, protocol.body_left) == (0, None)
        protocol.write(b"abc")
        assert (protocol.written, protocol.body_left) == (3, None)

    def test_a_write_can_be_asked_about(self, protocol):
        with pytest.raises(StateError, match="no body"):
            protocol.check_write(0)
        send(protocol, "PUT", "/", None, BodyFollowing(2))
        protocol.check_write(2)
        with pytest.raises(ExcessBodyData, match="3 bytes are more than the 2"):
            protocol.check_write(3)
        assert (protocol.written, protocol.body_left) == (0, 2)
        receive(protocol, REFUSED)
        with pytest.raises(StateError):
            protocol.check_write(0)

    def test_unfinished_until_its_end_whatever_happens(self, protocol):
        assert not protocol.unfinished
        send(protocol, "PUT", "/", None, b"abc")
        send(protocol, "PUT", "/", None, BodyFollowing(0))
        assert not protocol.unfinished
        send(protocol, "PUT", "/", None, BodyFollowing())
        assert protocol.unfinished
        protocol.write(b"abc")
        protocol.stop_sending()
        assert protocol.unfinished


class TestFiles:
    """Parts of files in the outbox, which the transport takes from the file."""

    @pytest.fixture
    def part(self):
        return FilePart(io.BytesIO(b"0123456789"), 4, 5)

    def test_of_a_length(self, protocol, part):
        send(protocol, "PUT", "/", None, BodyFollowing(8))
        flush(protocol)
        protocol.write(b"abc")
        protocol.write_file(part)
        assert [len(entry.rest) for entry in protocol.outbox] == [3, 5]
        assert protocol.outbox[1].rest is part
        assert (protocol.written, protocol.body_left, protocol.sending) == (8, 0, Sending.IDLE)
        assert protocol.unsent == 0

    def test_chunked_it_is_one_chunk(self, protocol, part):
        send(protocol, "PUT", "/", None, BodyFollowing())
        flush(protocol)
        protocol.write_file(part)
        assert [entry.rest for entry in protocol.outbox] == [b"5\r\n", part, b"\r\n"]
        assert (protocol.written, protocol.sends_body) == (5, True)

    def test_taken_in_parts(self, protocol, part):
        send(protocol, "PUT", "/", None, BodyFollowing(5))
        flush(protocol)
        protocol.write_file(part)
        [entry] = protocol.outbox
        entry.take(2)
        assert entry.rest == FilePart(part.file, 6, 3)
        entry.take(1)
        assert entry.rest == FilePart(part.file, 7, 2)
        assert (entry.begun, entry.unsent_requests()) == (True, 0)

    def test_errors_leave_the_outbox_alone(self, protocol, part):
        with pytest.raises(StateError, match="no body"):
            protocol.write_file(part)
        send(protocol, "PUT", "/", None, BodyFollowing(4))
        flush(protocol)
        with pytest.raises(ExcessBodyData, match="5 bytes are more than the 4"):
            protocol.write_file(part)
        protocol.write_file(FilePart(part.file, 4, 0))
        assert not protocol.outbox
        assert (protocol.body_left, protocol.sends_body) == (4, True)


class TestTrailers:
    def end(self, protocol, trailers=None):
        flush(protocol)
        protocol.end_body(trailers)
        return flush(protocol)

    def test_of_the_request(self, protocol):
        send(protocol, "PUT", "/", None, BodyFollowing(3), trailers={"X-A": "1", "X-B": "2"})
        assert flush(protocol).endswith(b"\r\nTransfer-Encoding: chunked\r\nTrailer: X-A, X-B\r\n\r\n")
        assert (protocol.body_left, protocol.chunked) == (3, True)
        protocol.write(b"abc")
        assert self.end(protocol) == b"0\r\nX-A: 1\r\nX-B: 2\r\n\r\n"

    def test_those_of_the_end_stand_in_their_place(self, protocol):
        for trailers, wanted in (({"X-B": "2"}, b"0\r\nX-B: 2\r\n\r\n"), ((), b"0\r\n\r\n")):
            send(protocol, "PUT", "/", None, BodyFollowing(), trailers={"X-A": "1"})
            assert self.end(protocol, trailers) == wanted

    def test_those_of_one_request_are_not_the_next_ones(self, protocol):
        send(protocol, "PUT", "/", None, BodyFollowing(), trailers={"X-A": "1"})
        self.end(protocol)
        send(protocol, "PUT", "/", None, BodyFollowing())
        assert self.end(protocol) == b"0\r\n\r\n"

    def test_a_function_is_called_at_the_end(self, protocol):
        calls = []
        trailers = {}
        send(protocol, "PUT", "/", None, BodyFollowing(), trailers=lambda: calls.append(1) or trailers)
        flush(protocol)
        protocol.write(b"abc")
        assert calls == []
        trailers["X-Sum"] = "5"
        assert self.end(protocol) == b"0\r\nX-Sum: 5\r\n\r\n"
        assert calls == [1]

    def test_with_bytes(self, protocol):
        for trailers in ([("X-A", "1")], lambda: {"X-A": "1"}):
            send(protocol, "PUT", "/", None, b"abc", trailers=trailers)
            assert flush(protocol).endswith(b"\r\n\r\n3\r\nabc\r\n0\r\nX-A: 1\r\n\r\n")
            assert protocol.sending is Sending.IDLE

    @pytest.mark.parametrize("trailers", [{"Content-Length": "1"}, {"X": "a\nb"}, lambda: {"Host": "h"}, lambda: 1 / 0])
    def test_that_cannot_be_change_nothing(self, protocol, trailers):
        with pytest.raises((ValueError, ZeroDivisionError)):
            send(protocol, "PUT", "/", None, b"abc", trailers=trailers)
        assert_untouched(protocol)
        send(protocol, "PUT", "/", None, BodyFollowing())
        flush(protocol)
        with pytest.raises((ValueError, ZeroDivisionError)):
            protocol.end_body(trailers)
        assert (protocol.sends_body, len(protocol.outbox)) == (True, 0)
        assert self.end(protocol) == b"0\r\n\r\n"


class TestContinue:
    """100-continue: the body waits for `go_on`, or is not wanted."""

    @pytest.mark.parametrize("headers", [None, EXPECT])
    @pytest.mark.parametrize("body", [b"abc", [b"a"], io.BytesIO(b"abc")], ids=["bytes", "iterable", "file"])
    def test_the_body_is_held(self, protocol, body, headers):
        send(protocol, "PUT", "/", headers, body, expect=None if headers else True)
        assert (protocol.expecting, protocol.sending) == (True, Sending.EXPECTING)
        assert protocol.held is body
        assert flush(protocol).count(b"Expect: 100-continue\r\n") == 1
        assert (protocol.sends_body, protocol.unfinished, protocol.body_left) == (
            (False, True, None if isinstance(body, list) else 3)
        )
        assert_refuses(protocol)
        assert protocol.go_on() is body
        assert (protocol.held, protocol.expecting, protocol.sending) == (None, False, Sending.BODY)
        assert (protocol.sends_body, protocol.unfinished) == (True, True)

    def test_a_body_that_follows_waits_where_it_is_asked_for(self, protocol):
        send(protocol, "PUT", "/", EXPECT, BodyFollowing(1))
        assert (protocol.expecting, protocol.sending) == (False, Sending.BODY)
        protocol.write(b"x")
        send(protocol, "PUT", "/", EXPECT, BodyFollowing(3), expect=True)
        assert (protocol.expecting, protocol.held, protocol.written) == (True, None, 0)
        flush(protocol)
        part = FilePart(io.BytesIO(b"x"), 0, 1)
        for call in (lambda: protocol.write(b"x"), lambda: protocol.write_file(part), protocol.end_body):
            with pytest.raises(StateError, match="100"):
                call()
        assert not protocol.outbox
        assert protocol.go_on() is None
        protocol.write(b"abc")
        assert (flush(protocol), protocol.sending) == (b"abc", Sending.IDLE)
        assert not protocol.unfinished

    def test_with_connection_close(self, protocol):
        send(protocol, "PUT", "/", CLOSE, BodyFollowing(1), expect=True)
        assert (protocol.expecting, protocol.sending) == (True, Sending.LAST_EXPECTING)
        protocol.go_on()
        assert protocol.sending is Sending.LAST_BODY
        protocol.write(b"x")
        assert protocol.sending is Sending.DONE

    def test_not_expected(self, protocol):
        """False: not even where the fields ask for it."""
        send(protocol, "PUT", "/", EXPECT, b"abc", expect=False)
        assert (protocol.expecting, protocol.held) == (False, None)
        assert b"Expect" not in flush(protocol)
        for body in (None, b"", BodyFollowing(0)):
            send(protocol, "PUT", "/", None, body, expect=True)
            assert (protocol.sending, protocol.held, protocol.unfinished) == (Sending.IDLE, None, False)

    @pytest.mark.parametrize("upgrade", [("GET", "/", UPGRADE), ("CONNECT", "h:1", None)])
    def test_not_together_with_a_handover(self, protocol, upgrade):
        with pytest.raises((StateError, ValueError)):
            send(protocol, *upgrade, b"abc", expect=True)
        assert_untouched(protocol)

    def test_going_on_is_for_a_body_that_waits(self, protocol):
        with pytest.raises(StateError):
            protocol.go_on()
        send(protocol, "PUT", "/", None, BodyFollowing(1), expect=True)
        protocol.go_on()
        with pytest.raises(StateError):
            protocol.go_on()
        assert protocol.sending is Sending.BODY

    def test_what_has_come(self, protocol):
        send(protocol, "PUT", "/", None, BodyFollowing(1), expect=True)
        flush(protocol)
        assert protocol.continued() is None
        receive(protocol, b"HTTP/1.1 103 Early\r\n\r\n")
        assert protocol.continued() is None
        receive(protocol, CONTINUE)
        interim = protocol.continued()
        assert (interim.status, interim.reason) == (100, "Continue")
        assert protocol.expecting  # until it goes on
        receive(protocol, CONTINUE)
        protocol.go_on()
        protocol.write(b"x")
        flush(protocol)
        [response] = receive(protocol, CONTINUE + EMPTY)
        assert [one.status for one in response.informational] == [103, 100, 100, 100]
        assert (response.status, response.request_complete, protocol.reusable) == (200, True, True)

    def test_the_100_of_another_request_does_not_count(self, protocol):
        send(protocol)
        send(protocol, "PUT", "/", None, b"abc", expect=True)
        flush(protocol)
        receive(protocol, CONTINUE)
        assert protocol.continued() is None
        receive(protocol, OK + b"Content-Length: 5\r\n\r\nab")
        assert protocol.continued() is None
        receive(protocol, b"cde")
        protocol.receiving.read_into(bytearray(10))
        assert (protocol.expecting, protocol.continued()) == (True, None)
        receive(protocol, CONTINUE)
        assert protocol.continued() is not None

    @pytest.mark.parametrize("head", [EMPTY, REFUSED, OK + b"Content-Length: 5\r\n\r\n"])
    @pytest.mark.parametrize("body", [b"abc", BodyFollowing(3)], ids=["bytes", "following"])
    def test_a_final_answer_in_its_place(self, protocol, body, head):
        send(protocol, "PUT", "/", None, body, expect=True)
        flush(protocol)
        assert not protocol.unwanted
        [response] = receive(protocol, head)
        assert response.request_complete is False
        assert (protocol.unwanted, protocol.unfinished, protocol.held) == (True, False, None)
        assert protocol.sending is Sending.REFUSED
        assert (protocol.reusable, protocol.alive, protocol.expecting) == (False, False, False)
        assert_refuses(protocol)
        for call in (lambda: protocol.write(b"x"), protocol.end_body, protocol.go_on):
            with pytest.raises(StateError):
                call()
        assert not protocol.outbox

    @pytest.mark.parametrize("headers", [None, CLOSE])
    def test_one_that_ends_the_connection(self, protocol, headers):
        send(protocol, "PUT", "/", headers, b"abc", expect=True)
        flush(protocol)
        [response] = receive(protocol, REFUSED if headers else CLOSING)
        assert (response.request_complete, protocol.unwanted, protocol.held) == (False, True, None)
        assert protocol.sending is Sending.STOPPED
        assert not protocol.alive

    def test_one_to_an_earlier_request(self, protocol):
        send(protocol)
        send(protocol, "PUT", "/", None, b"abc", expect=True)
        flush(protocol)
        [response] = receive(protocol, REFUSED)
        assert (response.request_complete, protocol.unwanted) == (True, False)
        assert (protocol.sending, protocol.held) == (Sending.EXPECTING, b"abc")

    def test_a_close_before_its_turn(self, protocol):
        send(protocol)
        send(protocol, "PUT", "/", None, b"abc", expect=True)
        flush(protocol)
        [response] = receive(protocol, CLOSING)
        assert (response.request_complete, protocol.unwanted, protocol.held) == (True, False, None)
        assert protocol.sending is Sending.STOPPED
        assert [fact.state for fact in protocol.unanswered()] == ["unsent"]

    def test_an_answer_behind_the_100_is_one_to_a_body_that_was_wanted(self, protocol):
        send(protocol, "PUT", "/", None, BodyFollowing(3), expect=True)
        flush(protocol)
        protocol.go_on()
        [response] = receive(protocol, REFUSED)
        assert (response.request_complete, protocol.unwanted) == (False, False)
        assert protocol.sending is Sending.STOPPED

    def test_unwanted_is_said_of_the_last_request(self, protocol):
        send(protocol, "PUT", "/", None, BodyFollowing(1), expect=True)
        receive(protocol, REFUSED)
        assert protocol.unwanted
        with pytest.raises(StateError):
            send(protocol)
        assert protocol.unwanted

    def test_a_failure_lets_it_go(self, protocol):
        send(protocol, "PUT", "/", None, b"abc", expect=True)
        flush(protocol)
        protocol.stop_sending()
        assert (protocol.sending, protocol.held, protocol.expecting) == (Sending.BROKEN, None, False)
        assert protocol.unfinished
        [response] = receive(protocol, EMPTY)
        assert response.request_complete is False

    def test_facts(self, protocol):
        send(protocol, "POST", "/", None, b"abc", expect=True)
        assert states(protocol) == [("unsent", True)]
        flush(protocol)
        assert states(protocol) == [("sent", False)]


class TestEarlyAnswers:
    @pytest.mark.parametrize("head", [REFUSED, CLOSING])
    @pytest.mark.parametrize("length", [None, 5])
    def test_that_stop_the_body(self, protocol, head, length):
        send(protocol, "PUT", "/", None, BodyFollowing(length))
        protocol.write(b"a")
        [response] = receive(protocol, head)
        assert response.request_complete is False
        assert protocol.sending is Sending.STOPPED
        assert not protocol.reusable
        assert not protocol.alive
        for call in (lambda: protocol.write(b"a"), protocol.end_body):
            with pytest.raises(StateError):
                call()

    def test_at_its_head(self, protocol):
        send(protocol, "PUT", "/", None, BodyFollowing())
        [response] = receive(protocol, b"HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\n")
        assert (response.request_complete, protocol.sending) == (False, Sending.STOPPED)

    def test_any_other_lets_it_go_on(self, protocol):
        send(protocol, "PUT", "/", None, BodyFollowing())
        [response] = receive(protocol, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 303 See\r\nContent-Length: 0\r\n\r\n")
        assert (response.request_complete, protocol.sending) == (True, Sending.BODY)
        protocol.write(b"abc")
        protocol.end_body()
        flush(protocol)
        assert protocol.reusable

    def test_of_bytes_that_are_still_going_out(self, protocol):
        send(protocol, "PUT", "/", None, b"x" * 2 * JOINED)
        flush(protocol, JOINED)
        [response] = receive(protocol, REFUSED)
        assert (response.request_complete, protocol.reusable) == (False, False)

    def test_to_an_earlier_request_does_not(self, protocol):
        protocol.send_targets(["/1", "/2"])
        send(protocol, "PUT", "/", None, BodyFollowing())
        flush(protocol)
        responses = receive(protocol, REFUSED * 2)
        assert [r.request_complete for r in responses] == [True, True]
        assert protocol.sending is Sending.BODY

    def test_a_close_before_its_turn_stops_it_and_is_no_answer_to_it(self, protocol):
        protocol.send_targets(["/1"])
        send(protocol, "PUT", "/", None, BodyFollowing())
        flush(protocol)
        [response] = receive(protocol, CLOSING)
        assert (response.request_complete, protocol.sending) == (True, Sending.STOPPED)
        assert [fact.state for fact in protocol.unanswered()] == ["unsent"]

    @pytest.mark.parametrize("length", [None, 5])
    def test_that_let_it_go_on_are_told_when_it_does_not(self, protocol, length):
        send(protocol, "PUT", "/", None, BodyFollowing(length))
        protocol.write(b"a")
        flush(protocol)
        [response] = receive(protocol, OK + b"Content-Length: 3\r\n\r\nab")
        assert (response.request_complete, protocol.sending) == (True, Sending.BODY)
        protocol.write(b"b")
        protocol.stop_sending()
        assert response.request_complete is False

    def test_to_bytes_likewise(self, protocol):
        send(protocol, "PUT", "/", None, b"x" * 2 * JOINED)
        flush(protocol, JOINED)
        [response] = receive(protocol, EMPTY)
        assert response.request_complete
        protocol.stop_sending()
        assert response.request_complete is False

    @pytest.mark.parametrize("body", [b"x" * 2 * JOINED, BodyFollowing(1)], ids=["bytes", "following"])
    def test_whose_request_has_been_sent_since(self, protocol, body):
        send(protocol, "PUT", "/", None, body)
        flush(protocol, 10)
        [response] = receive(protocol, EMPTY)
        if protocol.sends_body:
            protocol.write(b"x")
        flush(protocol)
        protocol.stop_sending()
        assert response.request_complete

    def test_are_left_alone_by_the_requests_behind(self, protocol):
        send(protocol, "PUT", "/", None, BodyFollowing(1))
        flush(protocol)
        [response] = receive(protocol, EMPTY)
        protocol.write(b"x")
        flush(protocol)
        send(protocol, "PUT", "/", None, BodyFollowing(1))
        [refusal] = receive(protocol, REFUSED)
        protocol.stop_sending()
        assert (response.request_complete, refusal.request_complete) == (True, False)

    def test_after_its_end_the_request_is_complete(self, protocol):
        send(protocol, "PUT", "/", None, BodyFollowing(1))
        protocol.write(b"a")
        flush(protocol)
        [response] = receive(protocol, REFUSED)
        assert response.request_complete
        assert protocol.reusable


class TestEnds:
    def test_a_response_that_ends_the_connection_ends_the_sending(self, protocol):
        send(protocol)
        assert protocol.alive
        receive(protocol, CLOSING)
        assert (protocol.sending, protocol.reusable, protocol.alive) == (Sending.STOPPED, False, False)
        assert_refuses(protocol)

    def test_no_responses_change_nothing(self, protocol):
        assert protocol.answered([]) == []
        assert_untouched(protocol)

    def test_stop_sending(self, protocol):
        send(protocol, "PUT", "/", None, BodyFollowing())
        protocol.stop_sending()
        assert (protocol.sending, protocol.sends_body) == (Sending.BROKEN, False)
        assert_refuses(protocol)
        [response] = receive(protocol, EMPTY)  # an answer that was on its way is still read
        assert response.status == 200
        assert protocol.sending is Sending.BROKEN
        protocol.stop_sending()

    def test_surplus(self, protocol):
        send(protocol)
        receive(protocol, EMPTY + EMPTY)
        assert not protocol.reusable
        with pytest.raises(StateError):
            send(protocol)


class TestFacts:
    """`unanswered`, and the rest of what an error says."""

    def test_an_unsent_batch(self, protocol):
        protocol.send_targets(["/1", "/2", "/3"])
        assert protocol.unsent == 3
        assert states(protocol) == [("unsent", True)] * 3
        assert [fact.request.path for fact in protocol.unanswered()] == ["/1", "/2", "/3"]
        assert protocol.where() == "sending"

    def test_every_part_of_a_batch(self, protocol):
        protocol.send_targets([f"/{number}" for number in range(5)])
        size = len(protocol.outbox[0].rest) // 5
        for taken in range(1, 5 * size):
            flush(protocol, 1)
            begun = -(-taken // size)
            assert states(protocol) == [("sent", True)] * begun + [("unsent", True)] * (5 - begun), taken
        flush(protocol)
        assert protocol.unsent == 0
        assert states(protocol) == [("sent", True)] * 5
        assert protocol.where() == "awaiting response"

    def test_several_batches(self, protocol):
        protocol.send_targets(["/1", "/2"])
        flush(protocol)
        protocol.send_targets(["/3", "/4"])
        flush(protocol, 3)
        send(protocol, "POST", "/5", None, b"abc")
        assert [state for state, _ in states(protocol)] == ["sent", "sent", "sent", "unsent", "unsent"]

    @pytest.mark.parametrize(
        ("method", "body", "unsent", "sent"),
        [
            ("GET", None, True, True),
            ("POST", None, True, False),
            ("PUT", b"a", True, True),
            ("PUT", BodyFollowing(3), False, False),
            ("PUT", [b"a"], False, False),
        ],
    )
    def test_what_is_safe_to_repeat(self, protocol, method, body, unsent, sent):
        send(protocol, method, "/", None, body)
        assert states(protocol) == [("unsent", unsent)]
        flush(protocol, 1)
        assert states(protocol) == [("sent", sent)]
        flush(protocol)
        assert states(protocol) == [("sent", sent)]
        receive(protocol, b"H")
        assert states(protocol) == [("answering", False)]

    def test_the_callers_word_counts(self, protocol):
        send(protocol, "POST", idempotent=True)
        send(protocol, "GET", idempotent=False)
        flush(protocol)
        assert states(protocol) == [("sent", True), ("sent", False)]

    def test_a_large_body(self, protocol):
        send(protocol, "PUT", "/", None, b"x" * 2 * JOINED)
        assert states(protocol) == [("unsent", True)]
        flush(protocol, JOINED)
        assert states(protocol) == [("sent", True)]
        assert protocol.where() == "sending"

    def test_answering(self, protocol):
        protocol.send_targets(["/1", "/2"])
        flush(protocol)
        facts = protocol.facts()
        assert [fact.request.path for fact in facts.pop("outstanding")] == ["/1", "/2"]
        assert facts == {"where": "awaiting response", "received": None, "expected": None}
        receive(protocol, b"HTTP/1.1 103 Early\r\n\r\n")
        assert (states(protocol)[0], protocol.where()) == (("answering", False), "in head")
        receive(protocol, OK + b"Content-Length: 10\r\n\r\nabc")
        assert states(protocol) == [("answering", False), ("sent", True)]
        facts = protocol.facts()
        assert (facts["where"], facts["received"], facts["expected"]) == ("in body", 3, 10)
        assert protocol.facts("sending")["where"] == "sending"
        protocol.receiving.read_into(bytearray(100))
        receive(protocol, b"defghij")
        protocol.receiving.read_into(bytearray(100))
        assert states(protocol) == [("sent", True)]

    def test_behind_a_close_nothing_was_sent(self, protocol):
        protocol.send_targets(["/1", "/2"])
        send(protocol, "POST", "/3")
        flush(protocol)
        receive(protocol, CLOSING)
        assert states(protocol) == [("unsent", True)] * 2
        protocol.receiving.eof(True)
        assert protocol.receiving.state is Receiving.ENDED

    def test_behind_a_close_without_a_word_it_was(self, protocol):
        protocol.send_targets(["/1", "/2"])
        send(protocol, "POST", "/3")
        flush(protocol)
        receive(protocol, EMPTY)
        protocol.receiving.eof(True)
        assert states(protocol) == [("sent", True), ("sent", False)]

    def test_nothing_outstanding(self, protocol):
        send(protocol)
        flush(protocol)
        receive(protocol, EMPTY)
        assert protocol.unanswered() == ()
        assert protocol.facts()["received"] is None

    def test_a_body_being_sent(self, protocol):
        send(protocol, "PUT", "/", None, BodyFollowing())
        flush(protocol)
        assert protocol.where() == "sending"
        protocol.write(b"abc")
        assert (protocol.unsent, states(protocol)) == (0, [("sent", False)])


class TestAwaitsUnsent:
    """Whether the answer that is awaited is one to a request that was not sent whole."""

    def test_nothing_is_awaited(self, protocol):
        assert not protocol.awaits_unsent

    def test_every_part_of_three_requests(self, protocol):
        for path in ("/1", "/2", "/3"):
            send(protocol, "GET", path)
        whole = sum(len(entry.rest) for entry in protocol.outbox)
        first = len(protocol.outbox[0].rest)
        for taken in range(whole):
            assert protocol.awaits_unsent is (taken < first), taken
            flush(protocol, 1)
        assert not protocol.awaits_unsent

    def test_behind_answers(self, protocol):
        protocol.send_targets(["/1"])
        flush(protocol)
        protocol.send_targets(["/2", "/3"])
        assert not protocol.awaits_unsent
        receive(protocol, EMPTY)
        assert protocol.awaits_unsent
        flush(protocol, 1)
        assert protocol.awaits_unsent

    @pytest.mark.parametrize("chunked", [False, True])
    def test_bytes_behind_their_head(self, protocol, chunked):
        send(protocol, "PUT", "/", {"Transfer-Encoding": "chunked"} if chunked else None, b"x" * 2 * JOINED)
        for _ in range(2):
            flush(protocol, JOINED)
            assert protocol.awaits_unsent
        flush(protocol)
        assert not protocol.awaits_unsent

    @pytest.mark.parametrize("expect", [False, True])
    def test_a_body_of_which_nothing_waits(self, protocol, expect):
        send(protocol)
        send(protocol, "PUT", "/", None, BodyFollowing(3), expect=expect)
        flush(protocol)
        assert not protocol.awaits_unsent  # it is the first request's answer
        receive(protocol, EMPTY)
        assert protocol.awaits_unsent
        if not expect:
            protocol.wrote(2)
            assert protocol.awaits_unsent
        protocol.stop_sending()
        assert protocol.awaits_unsent

    def test_the_end_of_a_body(self, protocol):
        send(protocol, "PUT", "/", None, BodyFollowing())
        protocol.write(b"abc")
        flush(protocol)
        assert protocol.awaits_unsent
        protocol.end_body()
        assert protocol.awaits_unsent
        flush(protocol)
        assert not protocol.awaits_unsent
