"""What steps yield, and the runners that wait for it."""

import contextlib
import math
import select
import socket
import threading
from time import monotonic

import pytest

from httpio.exceptions import ConnectionTimedOut
from httpio.waiting import POLLIN, POLLOUT, PollNeeded, eval_coroutine, run, wait_any, waiter


@pytest.fixture(params=["poll", "select"])
def system(request, monkeypatch):
    """What the system has to wait with."""
    if request.param == "select":
        monkeypatch.delattr(select, "poll", raising=False)
    elif not hasattr(select, "poll"):
        pytest.skip("the system has no poll")


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    with left, right:
        yield left, right


class TestPollNeeded:
    def test_is_the_pair_of_the_ancestor(self):
        need = PollNeeded(5, POLLIN | POLLOUT)
        fd, mask = need
        assert (fd, mask) == (need.fd, need.mask) == (5, POLLIN | POLLOUT) == need
        assert need.deadline is None
        assert repr(PollNeeded(5, 1, 2.5)) == "PollNeeded(fd=5, mask=1, deadline=2.5)"

    def test_ready_or_not(self, pair):
        left, right = pair
        assert PollNeeded(left.fileno(), POLLOUT).poll()
        need = PollNeeded(left.fileno(), POLLIN)
        assert not need.poll(0)
        assert not need.poll(0.001)
        right.send(b"x")
        assert need.poll()
        assert need.poll(0)
        assert need.poll(1e6)

    def test_a_deadline_that_has_come(self, pair):
        left, right = pair
        need = PollNeeded(left.fileno(), POLLIN, monotonic() - 1)
        assert not need.poll()
        assert not need.poll(1000)
        right.send(b"x")
        assert need.poll()

    def test_the_earlier_of_timeout_and_deadline(self, pair):
        started = monotonic()
        assert not PollNeeded(pair[0].fileno(), POLLIN, started + 1000).poll(0.001)
        assert not PollNeeded(pair[0].fileno(), POLLIN, started + 0.001).poll(1000)
        assert monotonic() - started < 500

    def test_never_returns_before_the_deadline(self, pair):
        for _ in range(5):
            deadline = monotonic() + 0.0123
            PollNeeded(pair[0].fileno(), POLLIN, deadline).poll()
            assert monotonic() >= deadline

    @pytest.mark.parametrize("timeout", [3e6, 1e10, 1e300, math.inf])
    def test_times_beyond_what_poll_can_count(self, pair, timeout):
        need = PollNeeded(pair[0].fileno(), POLLOUT)
        assert need.poll(timeout)
        assert PollNeeded(pair[0].fileno(), POLLOUT, timeout).poll()
        wait_any([need, PollNeeded(pair[1].fileno(), POLLOUT, timeout)])

    def test_a_peer_that_has_gone_makes_it_ready(self, pair):
        left, right = pair
        right.close()
        assert PollNeeded(left.fileno(), POLLIN).poll()


@pytest.mark.usefixtures("system")
class TestBell:
    """A second descriptor, that wakes who waits for the first."""

    @pytest.fixture
    def bell(self):
        left, right = socket.socketpair()
        with left, right:
            yield left, right

    def need(self, pair, bell, mask=POLLIN, deadline=None):
        need = PollNeeded(pair[0].fileno(), mask, deadline)
        assert need.bell is None
        need.bell = bell[0].fileno()
        return need

    def test_either_ends_the_wait(self, pair, bell):
        need = self.need(pair, bell)
        assert not need.poll(0)
        assert not need.poll(0.001)
        bell[1].send(b"!")
        assert need.poll()
        assert need.poll()  # until it is silenced
        bell[0].recv(10)
        assert not need.poll(0)
        pair[1].send(b"x")
        assert need.poll()
        bell[1].send(b"!")
        assert need.poll()

    def test_beside_a_wait_for_room(self, pair, bell):
        pair[0].setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while pair[0].send(bytes(65536)):
                pass
        need = self.need(pair, bell, POLLOUT)
        assert not need.poll(0)
        pair[1].send(b"x")  # it is not waited for that
        assert not need.poll(0)
        bell[1].send(b"!")
        assert need.poll()

    def test_beside_nothing(self, pair, bell):
        need = self.need(pair, bell, 0)
        pair[1].send(b"x")
        assert not need.poll(0)
        bell[1].send(b"!")
        assert need.poll()

    def test_a_deadline_comes_all_the_same(self, pair, bell):
        need = self.need(pair, bell, deadline=monotonic() - 1)
        assert not need.poll()
        bell[1].send(b"!")
        assert need.poll()

    def test_rung_by_another_thread(self, pair, bell):
        def step():
            yield self.need(pair, bell, POLLIN, monotonic() + 20)
            return bell[0].recv(10)

        thread = threading.Thread(target=bell[1].send, args=(b"!",))
        thread.start()
        assert run(step()) == b"!"
        thread.join()

    def test_the_pair_does_not_hold_it(self, pair, bell):
        need = self.need(pair, bell)
        assert tuple(need) == (pair[0].fileno(), POLLIN)

    def test_waiter(self, pair, bell):
        without, beside = waiter(pair[0].fileno(), POLLIN), waiter(pair[0].fileno(), POLLIN, bell[0].fileno())
        bell[1].send(b"!")
        assert not without(0)
        assert beside(0)
        assert beside(None)


class TestRun:
    def test_returns_what_the_step_returns(self, pair):
        left, right = pair

        def step():
            yield PollNeeded(left.fileno(), POLLOUT)
            right.send(b"x")
            yield PollNeeded(left.fileno(), POLLIN)
            return left.recv(10)

        assert run(step()) == b"x"

    def test_resumes_at_the_deadline(self, pair):
        def step():
            deadline = monotonic() + 0.002
            yield PollNeeded(pair[0].fileno(), POLLIN, deadline)
            return monotonic() >= deadline

        assert run(step()) is True

    def test_a_step_that_never_waits(self):
        def step():
            return 5
            yield

        assert run(step()) == 5

    def test_errors_pass_through(self, pair):
        def step():
            yield PollNeeded(pair[0].fileno(), POLLOUT)
            raise KeyError("x")

        with pytest.raises(KeyError):
            run(step())


class TestEvalCoroutine:
    def test_returns_the_result(self, pair):
        def step():
            yield PollNeeded(pair[0].fileno(), POLLOUT)
            return "done"

        assert eval_coroutine(step()) == "done"
        assert eval_coroutine(step(), 0) == "done"
        assert eval_coroutine(step(), 5) == "done"

    def test_the_timeout_closes_the_step(self, pair):
        ended = []

        def step():
            try:
                yield PollNeeded(pair[0].fileno(), POLLIN)
            finally:
                ended.append(True)

        kept = step()  # so that nobody else closes it
        with pytest.raises(ConnectionTimedOut, match=r"0\.002 seconds"):
            eval_coroutine(kept, 0.002)
        assert ended

    def test_the_timeout_is_for_each_wait(self, pair):
        left, right = pair

        def step():
            for _ in range(50):
                right.send(b"x")
                yield PollNeeded(left.fileno(), POLLIN)
                left.recv(1)
            return "done"

        assert eval_coroutine(step(), 60) == "done"

    def test_the_deadline_of_the_step_is_its_own(self, pair):
        def step():
            need = PollNeeded(pair[0].fileno(), POLLIN, monotonic() + 0.002)
            yield need
            return "looked for itself"

        assert eval_coroutine(step(), 1000) == "looked for itself"

    def test_zero_is_no_limit(self, pair):
        def step():
            yield PollNeeded(pair[0].fileno(), POLLIN, monotonic() + 0.002)
            return "done"

        assert eval_coroutine(step(), 0) == "done"


class TestWaitAny:
    def test_returns_when_one_is_ready(self, pair):
        left, right = pair
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as quiet:
            needs = [PollNeeded(quiet.fileno(), POLLIN), PollNeeded(left.fileno(), POLLIN)]
            right.send(b"x")
            for some in (needs, needs[::-1], needs[1:]):
                wait_any(some)
                assert [need.poll(0) for need in needs] == [False, True]

    def test_returns_at_the_earliest_deadline(self, pair):
        soon = monotonic() + 0.002
        needs = [
            PollNeeded(pair[0].fileno(), POLLIN, soon + 1000),
            PollNeeded(pair[1].fileno(), POLLIN, soon),
        ]
        wait_any(needs)
        assert soon <= monotonic() < soon + 500
        wait_any(needs)
        wait_any(needs[1:])

    def test_two_needs_for_one_descriptor(self, pair):
        fd = pair[0].fileno()
        deadline = monotonic() + 5
        wait_any([PollNeeded(fd, POLLOUT, deadline), PollNeeded(fd, POLLIN, deadline)])
        assert monotonic() < deadline
