"""How deep to pipeline, what may ride, and what becomes of requests after a loss."""

import io
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpio.exceptions import (
    ConnectionClosed,
    ConnectionTimedOut,
    InvalidResponse,
    Unanswered,
    UnsupportedResponse,
)
from httpio.messages import Request
from httpio.window import FIRST_PATIENCE, MAX_ATTEMPTS, MAX_DEPTH, MOST_BODIES, PROBE_EVERY, Backlog, Failure, Window

BLOCK = bytes(4 << 20)
SIZE = 300_000
CROWD = -(-MOST_BODIES // SIZE)
"""So many bodies of that size are enough."""


@pytest.fixture(autouse=True)
def patience():
    """That of the library, whose limit is tested here."""


def targets(count=None):
    return Backlog(f"/{number}" for number in (itertools.count() if count is None else range(count)))


def connected(depth=None):
    window = Window(depth)
    window.connected()
    return window


def fill(window, backlog, in_flight=0):
    """Takes what goes out at once; returns the sizes of the batches."""
    batches = []
    while batch := window.take(backlog, in_flight):
        batches.append(len(batch))
        in_flight += len(batch)
    return batches


def grow(window, depth, backlog=None):
    """Answers windows until they are *depth* deep."""
    backlog = backlog or targets()
    for _ in range(20):
        if window.depth < depth:
            window.answered(sum(fill(window, backlog)))
    assert window.depth >= depth
    return backlog


def facts(*items, state="sent"):
    requests = [Request("GET", item) if isinstance(item, str) else item for item in items]
    return [Unanswered(request, state, state == "unsent" or request.repeatable) for request in requests]


class TestBacklog:
    def test_in_order_and_lazily(self):
        drawn = []
        backlog = Backlog(drawn.append(n) or f"/{n}" for n in range(10))
        assert backlog.draw(2) == ["/0", "/1"]
        assert drawn == [0, 1]
        backlog.put_back(["/0", "/1"])
        assert backlog.draw(3) == ["/0", "/1", "/2"]
        assert drawn == [0, 1, 2]
        backlog.put_back(["/2"])
        backlog.put_back(["/1"])
        assert backlog.draw(100) == [f"/{n}" for n in range(1, 10)]
        assert backlog.draw(1) == []
        assert backlog.error is None

    def test_what_the_iterable_gave_before_it_raised_is_kept(self):
        def source():
            yield "/a"
            raise KeyError("mine")

        backlog = Backlog(source())
        assert backlog.draw(5) == ["/a"]
        assert isinstance(backlog.error, KeyError)
        assert backlog.draw(5) == []
        backlog.put_back(["/a"])
        assert backlog.draw(5) == ["/a"]


class TestBodies:
    """Bytes of bodies that are in memory: what is out is kept until it is answered."""

    def uploads(self, count=None, size=SIZE, kind=bytes, method="PUT"):
        """A backlog of uploads; `drawn` holds their bodies, as they are drawn."""
        self.drawn = []
        numbers = itertools.count() if count is None else range(count)
        return Backlog(
            self.drawn.append(kind(size)) or Request(method, f"/{number}", None, self.drawn[-1]) for number in numbers
        )

    @pytest.mark.parametrize("kind", [bytes, bytearray, lambda size: memoryview(bytes(size)).cast("H")])
    def test_a_draw_ends_when_there_are_enough(self, kind):
        backlog = self.uploads(kind=kind)
        assert len(backlog.draw(100)) == CROWD
        assert len(backlog.draw(2)) == 2
        assert len(self.drawn) == CROWD + 2

    def test_what_has_no_body_in_memory_does_not_count(self):
        bodies = [None, b"", io.BytesIO(bytes(2 * MOST_BODIES)), [bytes(2 * MOST_BODIES)]]
        requests = [Request("PUT", "/", None, body) for body in bodies * 5]
        assert Backlog([*requests, "/a", 5]).draw(100) == [*requests, "/a", 5]

    def test_those_put_back_are_here_already(self):
        backlog = self.uploads(25)
        requests = [request for _ in range(5) for request in backlog.draw(4)]
        backlog.put_back(requests)
        assert backlog.draw(100) == requests  # and none besides
        assert len(backlog.draw(100)) == CROWD

    def test_those_put_back_do_not_all_go_out_again(self):
        window, backlog = connected(8), self.uploads(20)
        backlog.put_back([request for _ in range(5) for request in backlog.draw(4)])
        assert fill(window, backlog) == [4]

    def test_what_was_put_back_is_not_out(self):
        window, backlog = connected(8), self.uploads()
        sent = window.take(backlog, 0)
        backlog.put_back(sent)
        assert window.take(backlog, 0) == sent
        window.answered(1)
        assert len(window.take(backlog, len(sent) - 1)) == 1

    def test_nothing_more_is_sent_while_enough_is_out(self):
        window, backlog = connected(256), self.uploads()
        grow(window, 256)
        in_flight = sum(fill(window, backlog))
        assert in_flight * SIZE >= MOST_BODIES
        assert window.take(backlog, in_flight) == []
        while in_flight * SIZE >= MOST_BODIES:
            drawn = len(self.drawn)
            assert window.take(backlog, in_flight) == []
            assert len(self.drawn) == drawn
            window.answered(1)
            in_flight -= 1
        assert window.take(backlog, in_flight)

    @pytest.mark.parametrize("size", [1000, SIZE, 1_000_000, 3 * MOST_BODIES])
    @pytest.mark.parametrize("depth", [None, 256])
    @pytest.mark.parametrize("method", ["PUT", "POST"])
    def test_what_is_out_and_drawn_is_bounded(self, method, depth, size):
        """MOST_BODIES, and one more; those that go out alone, too."""
        window = connected(depth)
        backlog = self.uploads(size=size, kind=lambda size: memoryview(BLOCK)[:size], method=method)
        in_flight = most = 0
        for answered in range(600):
            while batch := window.take(backlog, in_flight):
                in_flight += len(batch)
                most = max(most, len(self.drawn) - answered)
            window.answered(1)
            in_flight -= 1
        assert (most - 1) * size < MOST_BODIES
        assert method == "POST" or most > 1 or size > MOST_BODIES

    def test_a_large_one_goes_out_alone(self):
        window, backlog = connected(8), self.uploads(5, 2 * MOST_BODIES)
        for _ in range(5):
            assert fill(window, backlog) == [1]
            window.answered(1)

    def test_a_new_connection_starts_anew(self):
        window, backlog = connected(8), self.uploads(20)
        sent = [request for _ in range(2) for request in window.take(backlog, 0)]
        assert window.lost(facts(*sent), ConnectionClosed()) is False
        backlog.put_back(sent)
        window.connected()
        for _ in range(20):
            batch = window.take(backlog, 0)
            assert batch
            window.answered(len(batch))
            if window.done == 20:
                break
        assert window.done == 20

    def test_between_requests_without_bodies(self):
        """It is the answers to those with bodies that make room."""
        bodies = [Request("PUT", "/", None, bytes(SIZE)) for _ in range(4)]
        window, backlog = connected(64), Backlog([*[f"/{number}" for number in range(20)], *bodies, *["/last"] * 99])
        grow(window, 64)
        in_flight = sum(fill(window, backlog))
        assert in_flight == 24
        window.answered(20)
        assert window.take(backlog, 4) == []
        window.answered(1)
        assert window.take(backlog, 3)


class TestDepth:
    def test_starts_at_1_and_doubles_with_each_window_answered_in_full(self):
        window, backlog, depths = connected(), targets(), []
        for _ in range(11):
            depths.append(sum(fill(window, backlog)))
            window.answered(depths[-1])
        assert depths == [1, 2, 4, 8, 16, 32, 64, 128, 256, 256, 256]
        assert window.depth == MAX_DEPTH

    def test_not_with_a_part_of_one(self):
        window = connected()
        backlog = grow(window, 8)
        fill(window, backlog)
        window.answered(7)
        assert window.depth == 8
        window.answered(1)
        assert window.depth == 16

    @pytest.mark.parametrize("depth", [1, 2, 3, 8, 1000])
    def test_of_the_caller(self, depth):
        window, backlog = connected(depth), targets()
        for _ in range(3):
            assert sum(fill(window, backlog)) == depth
            window.answered(depth)
        assert window.depth == window.proven == depth

    def test_of_the_caller_is_never_exceeded(self):
        window, backlog = connected(7), targets()
        for _ in range(3):
            in_flight = sum(fill(window, backlog))
            assert 6 <= in_flight <= 7
            window.answered(in_flight)

    @pytest.mark.parametrize("depth", [0, -1])
    def test_at_least_1(self, depth):
        with pytest.raises(ValueError, match="at least 1"):
            Window(depth)

    def test_two_batches_are_in_flight_when_deep(self):
        window = connected()
        backlog = grow(window, MAX_DEPTH)
        window.answered(sum(fill(window, backlog)))
        assert fill(window, backlog) == [MAX_DEPTH // 2, MAX_DEPTH // 2]
        window.answered(MAX_DEPTH // 2 - 1)
        assert window.take(backlog, MAX_DEPTH // 2 + 1) == []
        window.answered(1)
        assert len(window.take(backlog, MAX_DEPTH // 2)) == MAX_DEPTH // 2

    @pytest.mark.parametrize("most", [1, 3, 7, 1000])
    def test_no_more_than_the_peer_takes(self, most):
        for window in (connected(8), connected(256)):
            grow(window, window.depth, targets())
            backlog = targets()
            sent = in_flight = 0
            while batch := window.take(backlog, in_flight, most - sent):
                sent += len(batch)
                in_flight += len(batch)
            assert sent == min(most, window.depth)
            assert backlog.draw(1) == [f"/{sent}"]  # and no more were drawn

    def test_nothing_where_the_peer_takes_nothing(self):
        window, backlog = connected(8), targets()
        for in_flight in (0, 1):
            assert window.take(backlog, in_flight, 0) == []
        assert backlog.draw(1) == ["/0"]
        assert window.take(backlog, 0, None)

    def test_one_at_a_time_at_first(self):
        window = connected()
        assert fill(window, targets()) == [1]
        assert fill(window, targets(), in_flight=1) == []


class TestTrial:
    def test_nothing_more_is_sent_before_all_of_it_is_answered(self):
        for depth in (2, 4, 8, 64):
            window = connected()
            backlog = grow(window, depth)
            assert window.depth > window.proven
            assert sum(fill(window, backlog)) == depth
            for answered in range(1, depth):
                window.answered(1)
                assert window.take(backlog, depth - answered) == []
            window.answered(1)
            assert window.proven == depth
            assert window.take(backlog, 0)

    def test_with_a_depth_of_the_callers_too(self):
        window, backlog = connected(10), targets()
        assert sum(fill(window, backlog)) == 10
        window.answered(9)
        assert window.take(backlog, 1) == []
        window.answered(1)
        assert fill(window, backlog) == [5, 5]

    def test_patience_is_for_trials_only(self):
        window = connected()
        assert window.patience is None
        backlog = grow(window, 2)
        assert window.patience is None  # one request alone is not pipelined
        assert len(window.take(backlog, 0)) == 2
        assert window.patience == FIRST_PATIENCE
        window.answered(1, waited=0.5)
        assert window.patience == 4.0
        window.answered(1, waited=0.1)
        assert window.patience == 4.0
        fixed = connected(4)
        assert fixed.take(backlog, 0)
        assert fixed.patience == FIRST_PATIENCE
        fixed.answered(sum(fill(fixed, backlog)))
        assert fixed.patience is None

    def test_a_request_that_went_out_alone_is_no_trial(self):
        """It is no pipelined one that the peer might have lost: its answer may take as long as it likes."""
        for depth in (None, 8):
            window = connected(depth)
            if depth is None:
                grow(window, 8)
            assert window.depth > window.proven
            post = Request("POST", "/", None, b"x")
            for backlog in (Backlog([post, "/1", "/2"]), Backlog(["/last"])):
                assert len(window.take(backlog, 0)) == 1
                assert window.patience is None
                assert window.take(backlog, 1) == []
                window.answered(1)
                assert window.depth > window.proven
                assert window.patience is None
            assert len(window.take(targets(), 0)) > 1
            assert window.patience == FIRST_PATIENCE

    def test_one_behind_others_is(self):
        window = connected(8)
        assert len(window.take(targets(4), 0)) == 4
        assert window.take(Backlog(["/last"]), 4) == ["/last"]
        assert window.patience == FIRST_PATIENCE


class TestExpecting:
    def test_until_the_peer_has_refused_it(self):
        """The pipeline notes it; it outlives every connection."""
        window = connected(8)
        assert window.expects
        window.expects = False
        window.answered(1)
        window.connected()
        window.lost(facts("/1"), ConnectionClosed())
        window.connected()
        assert not window.expects


ALONE = [
    Request("POST", "/"),
    Request("PATCH", "/", None, b"x"),
    Request("GET", "/", idempotent=False),
    Request("PUT", "/", None, io.BytesIO(b"x")),
    Request("PUT", "/", None, [b"x"]),
    Request("CONNECT", "h:1", idempotent=True),
    Request("GET", "/", {"Connection": "upgrade", "UPGRADE": "x"}),
    Request("GET", "/", [(b"upgrade", b"x")]),
    Request("PUT", "/", {"EXPECT": "100-continue"}, b"x"),
    Request("PUT", "/", [(b"expect", b"other")], b"x"),
    Request("GET", "/", {"X": "\n"}),
    5,
    None,
]
RIDING = [
    "/",
    Request("GET", "/"),
    Request("HEAD", "/", {"X": "upgrade"}),
    Request("PUT", "/", {b"X": b"y"}, b"x"),
    Request("POST", "/", [("X", "y")], b"x", idempotent=True),
]


class TestRiders:
    @pytest.mark.parametrize("item", ALONE, ids=str)
    def test_alone(self, item):
        window = connected(8)
        backlog = Backlog(["/1", "/2", item, "/3", "/4"])
        assert window.take(backlog, 0) == ["/1", "/2"]
        assert window.take(backlog, 2) == []
        window.answered(2)
        assert window.take(backlog, 0) == [item]
        assert window.take(backlog, 1) == []
        window.answered(1)
        assert window.take(backlog, 0) == ["/3", "/4"]

    @pytest.mark.parametrize("item", RIDING, ids=str)
    def test_together(self, item):
        window = connected(8)
        assert window.take(Backlog(["/1", item, "/2"]), 0) == ["/1", item, "/2"]

    def test_hold(self):
        window, backlog = connected(8), targets()
        window.take(backlog, 0)
        window.hold()
        assert window.take(backlog, 1) == []
        assert window.take(backlog, 0)
        window.hold()
        window.connected()
        assert window.take(backlog, 1)


class TestAnnouncedClose:
    def test_no_more_is_sent_than_the_last_connection_answered(self):
        window = connected()
        backlog = grow(window, 64)
        window.answered(100 - window.answered_here)
        window.closed()
        window.connected()
        assert window.depth > 1  # it is no loss
        sent = in_flight = 0
        while batch := window.take(backlog, in_flight):
            sent += len(batch)
            in_flight += len(batch)
            if in_flight > 32:
                window.answered(in_flight)
                in_flight = 0
            if sent >= 100:
                break
        assert sent == 100
        assert window.take(backlog, in_flight or 1) == []
        window.answered(in_flight)
        assert window.take(backlog, 0)  # it was not closed after all

    def test_of_a_connection_that_answered_nothing(self):
        window = connected(8)
        window.closed()
        window.connected()
        assert len(window.take(targets(), 0)) == 4

    def test_costs_no_attempt(self):
        window = connected()
        window.answered(1)
        window.closed()
        assert window.attempts_so_far == 0
        assert window.attempts_of(0) == 1


def run_into_cut(window, backlog, answers):
    """One connection that ends without a word after so many answers, at the latest when more are asked for."""
    window.connected()
    for _ in range(100):
        sent = []
        while batch := window.take(backlog, len(sent)):
            sent += batch
        answered = min(len(sent), answers - window.answered_here)
        window.answered(answered)
        if window.spent:
            return
        if rest := sent[answered:]:
            assert window.lost(facts(*rest), ConnectionClosed()) is False
            backlog.put_back(rest)
            return
    raise AssertionError("the cut was never reached")


class TestCuts:
    def test_are_learned_after_two_and_planned_for(self):
        window, backlog = Window(), targets()
        for _ in range(2):
            run_into_cut(window, backlog, 3)
        window.connected()
        sent = 0
        while batch := window.take(backlog, 0):
            sent += len(batch)
            assert not window.spent
            window.answered(len(batch))
        assert sent == 3
        assert window.spent
        window.connected()
        assert not window.spent

    def test_one_is_not_enough(self):
        window, backlog = Window(), targets()
        run_into_cut(window, backlog, 3)
        window.connected()
        for _ in range(5):
            assert not window.spent
            window.answered(len(window.take(backlog, 0)))

    def test_two_different_ones_neither(self):
        window, backlog = Window(), targets()
        run_into_cut(window, backlog, 3)
        run_into_cut(window, backlog, 5)
        window.connected()
        window.answered(5)
        assert not window.spent

    def test_are_forgotten_when_more_is_answered(self):
        window, backlog = Window(), targets()
        for _ in range(2):
            run_into_cut(window, backlog, 3)
        window.connected()
        window.answered(4)
        assert not window.spent
        assert window.take(backlog, 0)

    def test_are_tried_again_now_and_then(self):
        window, backlog = Window(), targets()
        for _ in range(2):
            run_into_cut(window, backlog, 1)
        probes = []
        for number in range(3, 2 * PROBE_EVERY + 10):
            window.connected()
            window.take(backlog, 0)
            window.answered(1)
            if not window.spent:
                probes.append(number)
                window.lost(facts("/x"), ConnectionClosed())
        assert probes == [PROBE_EVERY, 2 * PROBE_EVERY]

    def test_what_was_taken_and_put_back_was_not_sent(self):
        window, backlog = Window(4), targets()
        for _ in range(2):
            run_into_cut(window, backlog, 2)
        window.connected()
        window.answered(0)
        batch = window.take(backlog, 0)
        backlog.put_back(batch)  # as after a request that turns out to be invalid
        window.hold()
        batch = window.take(backlog, 0)
        backlog.put_back(batch)
        window.hold()
        assert window.take(backlog, 0) or window.spent  # else nobody would ever send the rest


class TestLoss:
    def test_the_next_connection_does_not_pipeline_at_once(self):
        window = connected()
        backlog = grow(window, 16)
        sent = window.take(backlog, 0)
        assert window.lost(facts(*sent), ConnectionClosed()) is False
        window.connected()
        assert window.depth == 1
        assert fill(window, backlog) == [1]

    def test_two_strikes_at_a_depth_are_the_end_of_pipelining(self):
        window = connected()
        for _ in range(2):
            backlog = grow(window, 8)
            window.stalled()
            window.lost(facts(*window.take(backlog, 0)), ConnectionTimedOut())
            window.connected()
        for _ in range(20):
            assert fill(window, backlog) == [1]
            window.answered(1)
        assert window.ceiling == 1

    def test_a_strike_is_forgotten_once_the_depth_was_answered(self):
        window = connected()
        backlog = grow(window, 8)
        for _ in range(4):
            lost_at = window.depth
            window.lost(facts(*window.take(backlog, 0)), ConnectionClosed())
            window.connected()
            grow(window, 2 * lost_at, backlog)
        assert window.ceiling == MAX_DEPTH

    def test_a_peer_that_closes_after_the_same_number_is_still_pipelined(self):
        window, backlog = Window(), targets()
        for _ in range(4):
            run_into_cut(window, backlog, 100)
        assert window.ceiling > 1

    def test_one_at_a_time_is_no_strike(self):
        window = connected()
        for _ in range(5):
            window.answered(1)
            window.depth = 1
            window.lost([], ConnectionClosed())
            window.connected()
        assert window.ceiling == MAX_DEPTH

    def test_nothing_outstanding(self):
        window = connected(4)
        assert window.lost([], ConnectionClosed()) is False
        assert window.attempts == {}

    @pytest.mark.parametrize("error", [InvalidResponse(), UnsupportedResponse()])
    def test_a_response_that_cannot_be_read_is_not_asked_for_again(self, error):
        window = connected()
        window.answered(5)
        assert window.lost(facts("/a", "/b", state="answering"), error) is True
        failure = window.failed("/a", error)
        assert failure == Failure("/a", error, 1)
        assert window.done == 6

    @pytest.mark.parametrize("item", [Request("POST", "/"), Request("PUT", "/", None, [b"x"])])
    def test_what_must_not_be_repeated_fails_at_once_unless_unsent(self, item):
        for state, failed in (("sent", True), ("answering", True), ("unsent", False)):
            window = connected()
            assert window.lost(facts(item, state=state), ConnectionClosed()) is failed

    def test_attempts(self):
        window = connected()
        error = ConnectionClosed()
        for attempt in range(1, MAX_ATTEMPTS + 1):
            assert window.attempts_so_far == attempt - 1
            assert window.lost(facts("/a", "/b"), error) is (attempt == MAX_ATTEMPTS)
            window.connected()
        assert window.failed("/a", error).attempts == MAX_ATTEMPTS
        assert window.lost(facts("/b"), error) is False  # its own attempts are counted
        window.connected()
        window.answered(1)
        assert window.attempts_of(1) == 2
        assert window.attempts_of(2) == 1

    def test_only_the_oldest_is_blamed(self):
        window = connected(4)
        window.lost(facts("/a", "/b", "/c"), ConnectionClosed())
        assert window.attempts == {0: 1}

    def test_a_cut_after_answers_is_nobodys_fault_and_a_timeout_is(self):
        window = connected()
        for _ in range(10):
            window.answered(1)
            assert window.lost(facts("/x"), ConnectionClosed()) is False
            window.connected()
        assert window.blamed == {}
        window.answered(1)
        window.lost(facts("/x"), ConnectionTimedOut())
        assert window.attempts_so_far == 1

    def test_a_trial_that_stalls_is_nobodys_fault_once(self):
        window = connected(8)
        window.stalled()
        assert window.lost(facts("/a"), ConnectionTimedOut()) is False
        assert window.blamed == {}
        window.connected()
        assert window.lost(facts("/a"), ConnectionTimedOut()) is False
        assert window.lost(facts("/a"), ConnectionTimedOut()) is True


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(("answer", "cut", "time out", "announce", "stall", "hold", "put back")), st.integers(0, 300)
    ),
    max_size=40,
)


@given(st.sampled_from((None, 1, 2, 5, 16)), EVENTS)
def test_every_request_has_its_turn_in_order_whatever_happens(depth, events):
    window, backlog = Window(depth), targets(60)
    window.connected()
    out, over = [], []

    def end_connection():
        backlog.put_back(out)
        out.clear()
        window.connected()

    for event, number in itertools.chain(events, itertools.repeat(("answer", 300), 200)):
        assert len(out) <= (depth or MAX_DEPTH)
        if not out and window.spent:
            window.connected()
        while batch := window.take(backlog, len(out)):
            out += batch
        if not out:
            waiting = backlog.draw(1)
            backlog.put_back(waiting)
            assert not waiting or window.spent, "the rest would never be sent"
            if not waiting:
                break
        count = min(number, len(out))
        if event == "put back" and out:
            backlog.put_back([out.pop()])
            window.hold()
        elif event == "hold":
            window.hold()
        else:
            over += out[:count]
            del out[:count]
            window.answered(count)
            if event == "announce" and count:
                window.closed()
                end_connection()
            elif event in ("cut", "time out", "stall") and out:
                if event == "stall" and window.patience is not None:
                    window.stalled()
                error = ConnectionClosed() if event == "cut" else ConnectionTimedOut()
                if window.lost(facts(*out), error):
                    over.append(window.failed(out.pop(0), error).request)
                end_connection()
    assert over == [f"/{number}" for number in range(60)]
    assert window.done == 60
