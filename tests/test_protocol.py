"""A whole connection without I/O: where the two halves meet, and what is known of each request after a failure."""

from array import array

import pytest

from httpio.exceptions import ExcessBodyData, InvalidURL, StateError
from httpio.framing import BodyKind, encode_get
from httpio.headers import encode_fields
from httpio.messages import BodyFollowing, Lenient, Limits, Request
from httpio.protocol import JOINED, Protocol
from httpio.states import Receiving, Sending

OK = b"HTTP/1.1 200 OK\r\n"
EMPTY = OK + b"Content-Length: 0\r\n\r\n"
CLOSING = OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n"
REFUSED = b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n"
UPGRADE = {"Connection": "upgrade", "Upgrade": "x"}
CLOSE = {"Connection": "close"}


@pytest.fixture
def protocol():
    return Protocol(encode_fields({"Host": "h"}), Limits(), Lenient(0))


def send(protocol, method="GET", path="/", headers=None, body=None, **kwargs):
    return protocol.send_request(Request(method, path, headers, body, **kwargs))


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
        assert (protocol.sends_body, protocol.body_length) == (True, 5)
        protocol.write(b"ab")
        protocol.write(b"")
        protocol.write(memoryview(array("H", [0])))
        with pytest.raises(ExcessBodyData, match="2 bytes are more than the 1"):
            protocol.write(b"cd")
        with pytest.raises(StateError, match="1 bytes left"):
            protocol.end_body()
        protocol.write(bytearray(b"e"))
        assert flush(protocol) == b"ab\0\0e"
        assert (protocol.sends_body, protocol.sending, protocol.body_length) == (False, Sending.IDLE, None)

    def test_chunked(self, protocol):
        send(protocol, "PUT", "/", CLOSE, BodyFollowing())
        flush(protocol)
        assert (protocol.sends_body, protocol.body_length, protocol.sending) == (True, None, Sending.LAST_BODY)
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
