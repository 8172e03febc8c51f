"""Moving many objects: one pipelined connection per origin, all of them driven by one loop.

The loop runs between two results only: a caller that is slow to take them slows the transfer, and nothing
piles up. Here the loop waits in the operating system, in `asynchronous.py` in an event loop.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from httpio.bulk.report import Result
from httpio.bulk.sinks import FolderSink
from httpio.content import accept_encoding
from httpio.decoding import decode_collected
from httpio.endpoint import Times
from httpio.exceptions import (
    HTTPError,
    InvalidResponse,
    InvalidURL,
    ProxyError,
    UnsupportedResponse,
    is_temp_network_error,
)
from httpio.headers import FieldsLike, encode_fields
from httpio.link import BUFFER_SIZE, Link
from httpio.messages import HTTPResponse, Lenient, Limits, Request
from httpio.pipelining import Outcome, Pipeline
from httpio.proxies import Proxy, ProxyLike
from httpio.reaching import Target
from httpio.tls import check_context, default_context
from httpio.urls import Origin, split_url
from httpio.version import VERSION
from httpio.waiting import PollNeeded, Step, wait_any
from httpio.window import MOST_BODIES, Backlog, Failure, Window, body_size, refuse_one

__all__ = ["Encoded", "Engine", "Job", "Lane", "Task", "fetch", "task_of", "transfer"]

MAX_LANES = 64
"""Origins that are connected to at the same time."""

LOOK_AHEAD = 4096
"""Jobs that are drawn from the caller's iterable before they can be sent, at most: those of origins that
are busy."""

DRAWN_AT_ONCE = 64

STREAMED = 1024 * 1024
"""A body longer than this goes to a sink as it comes; a shorter one when it is complete."""

CONNECT_ATTEMPTS = 2


ProxyFor: TypeAlias = Callable[[str], ProxyLike]
"""What gives the proxy for the URL of an origin."""


class Job(NamedTuple):
    """One object to fetch."""

    origin: Origin
    request: str | Request
    """A request target, or a Request whose path is one."""
    name: str | None = None
    """What the sink is to call the object."""


class Settings(NamedTuple):
    """What `fetch` and its like are asked for; see there."""

    headers: FieldsLike
    ssl_context: ssl.SSLContext | None
    timeout: float | None
    connect_timeout: float | None
    body_limit: int
    proxy: ProxyLike | ProxyFor
    decode: bool
    limits: Limits | None


class Encoded(NamedTuple):
    """A result whose content is still to be decoded."""

    result: Result
    response: HTTPResponse


class Task(NamedTuple):
    """A job, and the caller's item that its result is to carry."""

    job: Job
    item: Any


def fetch(
    items: Iterable[str | Request],
    *,
    headers: FieldsLike = None,
    ssl_context: ssl.SSLContext | None = None,
    timeout: float | None = 60,
    connect_timeout: float | None = 30,
    body_limit: int = 64 * 1024 * 1024,
    proxy: ProxyLike | ProxyFor = None,
    decode: bool = False,
    limits: Limits | None = None,
) -> Iterator[Result]:
    """Fetch many objects into memory; yields a `Result` for each, in order for each origin.

    *items*: URLs (a str is a GET), or `Request` with a URL for its path, drawn lazily. *headers*: fields
    sent with every request. *ssl_context*: for https; None: verified against the system's certificate
    authorities. *timeout*: seconds without progress, *connect_timeout*: seconds for connecting; None: no
    limit. *body_limit*: bytes of the largest body that is accepted. *proxy*: as for `HTTPConnection`, or a
    function that is given the URL of each origin, such as `environment_proxy`. *decode*: ask for content
    codings, and undo them; *body_limit* is then for the content. *limits*: what responses are held to.

    What goes wrong with one object is the `error` of its result. A status outside 200 to 299 is a result
    like others. Raises ValueError or TypeError for bad *headers* or a bad *proxy*, and what *items* raises.
    """
    settings = Settings(headers, ssl_context, timeout, connect_timeout, body_limit, proxy, decode, limits)
    return _run(Engine(map(task_of, refuse_one(items)), None, settings))


def transfer(
    jobs: Iterable[Job],
    *,
    sink: FolderSink | None = None,
    headers: FieldsLike = None,
    ssl_context: ssl.SSLContext | None = None,
    timeout: float | None = 60,
    connect_timeout: float | None = 30,
    body_limit: int = 64 * 1024 * 1024,
    proxy: ProxyLike | ProxyFor = None,
    decode: bool = False,
    limits: Limits | None = None,
) -> Iterator[Result]:
    """The same for jobs that have been taken apart already, each a `Job`.

    With a *sink*, every object whose status is 200 to 299 is stored there under its job's name, however
    large, and `Result.path` says where; what the sink raises as OSError is the error of that object.
    """
    limit = body_limit if sink is None else min(body_limit, STREAMED)
    settings = Settings(headers, ssl_context, timeout, connect_timeout, limit, proxy, decode, limits)
    return _run(Engine((Task(job, job) for job in jobs), sink, settings))


def _run(engine: Engine) -> Iterator[Result]:
    with closing(engine):
        while engine.advance():
            for result in engine.take_results():
                yield engine.decode(result) if isinstance(result, Encoded) else result
            needs = engine.needs()
            if needs:
                wait_any(needs)
                engine.resume()
        engine.check()


def task_of(item: str | Request) -> Task | Result:
    """The task that a caller's item asks for, or what is wrong with the item."""
    try:
        if isinstance(item, str):
            origin, target = split_url(item)
            return Task(Job(origin, target), item)
        if not isinstance(item, Request):
            raise TypeError("an item must be a URL or a Request, not " + type(item).__name__)
        origin, target = split_url(item.path)
        return Task(Job(origin, item.with_path(target)), item)
    except (InvalidURL, TypeError) as exc:
        return Result(item, error=exc, attempts=0)


def _is_done(outcome: Outcome) -> bool:
    """Whether the window counts it as done: a response that is still to be read is not."""
    return isinstance(outcome, Failure) or outcome.complete_by is not None


class Lane:
    """The way to one origin: its connection, what waits for it, and what is out on it."""

    def __init__(self, origin: Origin, link: Link, backlog: _LaneBacklog, body_limit: int) -> None:
        self.origin = origin
        self.link = link
        self.window = Window()
        self.pipeline = Pipeline(link, backlog, self.window, body_limit)
        self.queue: deque[Task] = deque()
        self.out: deque[Task] = deque()
        self.step: Step[bool] | None = None
        self.need: PollNeeded | None = None
        self.ready = False
        """Whether what it needs has come."""
        self.asleep = True  # it has no place among those that are served, and waits for none
        self.refused = 0
        self.error: Exception | None = None
        """Why the origin cannot be connected to."""


class _LaneBacklog(Backlog):
    """Draws a lane's tasks, and through the engine more of the caller's when there are none."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(())
        self.engine = engine
        self.lane: Lane

    def fresh(self, count: int) -> Iterator[str | Request]:
        lane = self.lane
        for _ in range(count):
            while not lane.queue:
                if not self.engine.draw():
                    return
            task = lane.queue.popleft()
            lane.out.append(task)
            self.engine.queued -= 1
            self.engine.queued_bodies -= body_size(task.job.request)
            yield task.job.request


class Engine:
    """The lanes, and what goes to them and comes from them. `advance`, hand out `take_results`, wait for `needs`, and
    again; `check` and `close` at the end."""

    def __init__(
        self,
        tasks: Iterator[Task | Result],
        sink: FolderSink | None,
        settings: Settings,
    ) -> None:
        self._tasks = tasks
        self._exhausted = False
        self._failure: Exception | None = None
        self._sink = sink
        self._settings = settings
        self._fields = encode_fields(settings.headers)
        self._ssl_context = check_context(settings.ssl_context)
        self._proxy = settings.proxy if callable(settings.proxy) else Proxy.of(settings.proxy)
        self._limits = Limits.of(settings.limits)
        self._lanes: dict[Origin, Lane] = {}
        self._refused = 0  # of them
        self._waiting: deque[Lane] = deque()  # lanes that have tasks and no place yet
        self.active: list[Lane] = []
        """The lanes that are served."""
        self._results: deque[Result | Encoded] = deque()
        self._hopeless = 0  # of them, those of tasks that went to no lane
        self.queued = 0
        self.queued_bodies = 0
        """Bytes of the bodies in them."""
        self.more_to_come = False
        """Whether an end of the caller's items need not be the last: a lane that has nothing to do stays connected."""

    def advance(self) -> bool:
        """Let every lane go on that can, until it has to wait or has something to hand out. False: there is nothing
        to do, and nothing to hand out."""
        while self._waiting and len(self.active) < MAX_LANES:
            self.active.append(self._waiting.popleft())
        if not self.active:
            return self.draw() or bool(self._results)
        for lane in list(self.active):
            if lane.need is not None and not lane.ready:
                continue
            lane.ready = False
            if lane.step is None:
                lane.step = self._co_batch(lane)
            try:
                lane.need = lane.step.send(None)
            except StopIteration as stop:
                lane.step = lane.need = None
                if not stop.value:
                    self._retire(lane)
        return True

    def needs(self) -> list[PollNeeded]:
        """What to wait for; empty: something can be done at once."""
        if self._waiting and len(self.active) < MAX_LANES:
            return []
        needs = [lane.need for lane in self.active if lane.need is not None and not lane.ready]
        return needs if len(needs) == len(self.active) else []

    def resume(self) -> None:
        """Let every lane look whether it can go on."""
        for lane in self.active:
            lane.ready = True

    def draw_again(self) -> None:
        """The caller's items had come to an end, and have more."""
        self._exhausted = False
        while self.queued_bodies < MOST_BODIES and self.draw():
            pass
        for lane in self.active:
            lane.ready = lane.ready or bool(lane.queue)

    def take_results(self) -> Iterator[Result | Encoded]:
        """What is there to hand out; `decode` makes a result of what is encoded."""
        self._hopeless = 0
        while self._results:
            yield self._results.popleft()

    def decode(self, encoded: Encoded) -> Result:
        """The result with its content decoded: late, so that what has grown does not pile up. In any thread."""
        result, response = encoded
        limits, most = self._limits, self._settings.body_limit
        content: bytes | None = None
        error: HTTPError | None = None
        try:
            content = decode_collected(response, result.content or b"", limits, min(most, limits.max_decoded))
            if content is None:
                text = "the decoded content is longer than"
                if limits.max_decoded < most:
                    error = InvalidResponse(f"{text} max_decoded, {limits.max_decoded} bytes", where="in body")
                else:
                    error = UnsupportedResponse(f"{text} body_limit, {most} bytes", where="in body")
        except HTTPError as exc:
            error = exc.with_traceback(None)  # which would hold what was decoded
        return result._replace(content=content, error=error)

    def check(self) -> None:
        """Raises what the caller's iterable raised."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Give up what is under way."""
        for lane in self._lanes.values():
            if lane.step is not None:
                lane.step.close()
            lane.link.close()

    def _retire(self, lane: Lane) -> None:
        """The lane has nothing left to do: its place is for others, and mostly its descriptor, too."""
        self.active.remove(lane)
        stays = self.more_to_come and lane.error is None and len(self._lanes) - self._refused <= MAX_LANES
        if not stays:
            lane.link.close()
        if lane.queue:
            self._waiting.append(lane)
        else:
            lane.asleep = True
            if not stays and lane.error is None:
                del self._lanes[lane.origin]

    # -- tasks --

    def draw(self) -> bool:
        """Draw more of the caller's items and give them to their lanes; False: there are none, or enough
        wait already."""
        if self._exhausted or self.queued >= LOOK_AHEAD or self._hopeless >= LOOK_AHEAD:
            return False
        drawn = False
        bodies = 0
        for _ in range(DRAWN_AT_ONCE):
            try:
                task = next(self._tasks, None)
            except Exception as exc:
                self._failure = exc
                task = None
            if task is None:
                self._exhausted = True
                break
            drawn = True
            if isinstance(task, Result):
                self._results.append(task)
                self._hopeless += 1
                continue
            lane = self._lanes.get(task.job.origin)
            if lane is None:
                lane = self._lanes[task.job.origin] = self._open_lane(task.job.origin)
            if lane.error is not None:
                self._results.append(Result(task.item, error=lane.error, attempts=0))
                self._hopeless += 1
                continue
            lane.queue.append(task)
            self.queued += 1
            size = body_size(task.job.request)
            self.queued_bodies += size
            bodies += size
            if lane.asleep:
                lane.asleep = False
                self._waiting.append(lane)
            if bodies >= MOST_BODIES:
                break
        return drawn

    def _open_lane(self, origin: Origin) -> Lane:
        context = None
        if origin.scheme == "https":
            if self._ssl_context is None:
                self._ssl_context = default_context()
            context = self._ssl_context
        given = {name for _, name, _ in self._fields}
        codings = accept_encoding() if self._settings.decode else "identity"
        own = encode_fields({"Host": origin.field, "Accept-Encoding": codings, "User-Agent": f"httpio/{VERSION}"})
        target = Target(
            host=origin.host,
            port=origin.port,
            defaults=(*(field for field in own if field[1] not in given), *self._fields),
            ssl_context=context,
            unix_socket=None,
            source_address=None,
            socket_options=(),
            limits=self._limits,
            lenient=Lenient(0),
        )
        error: Exception | None = None
        try:
            proxy = Proxy.of(self._proxy(str(origin))) if callable(self._proxy) else self._proxy
            target = replace(target, proxy=proxy)
        except Exception as exc:  # no way to this origin; there may be one to others
            error = exc
            self._refused += 1
        settings = self._settings
        link = Link(target, Times(settings.timeout or None, settings.connect_timeout or None))
        backlog = _LaneBacklog(self)
        lane = backlog.lane = Lane(origin, link, backlog, settings.body_limit)
        lane.error = error
        return lane

    # -- one lane --

    def _co_batch(self, lane: Lane) -> Step[bool]:
        """Fetch a batch of what the lane has; False when it has nothing left."""
        try:
            batch = yield from lane.pipeline.co_next()
        except (OSError, HTTPError) as exc:  # there is no connection to be had
            lane.refused += 1
            # Wrong passwords are counted where they are checked.
            final = isinstance(exc, ProxyError) and not is_temp_network_error(exc)
            if lane.refused < CONNECT_ATTEMPTS and not final:
                return True
            self._fail_lane(lane, exc)
            return False
        if not batch and lane.out:
            raise RuntimeError(f"{len(lane.out)} requests were lost on the way to {lane.origin}")
        lane.refused = 0
        number = lane.window.done - sum(_is_done(outcome) for outcome in batch)
        for outcome in batch:
            yield from self._co_take(lane, outcome, number)
            number += 1
        return bool(batch)

    def _co_take(self, lane: Lane, outcome: Outcome, number: int) -> Step[None]:
        task = lane.out[0]
        item = task.item
        if isinstance(outcome, Failure):
            lane.out.popleft()
            self._results.append(Result(item, error=outcome.error, attempts=outcome.attempts))
            return
        response, job = outcome, task.job
        if not response.answers(job.request):
            raise RuntimeError(f"the answer to {response.path} came in the place of another's")
        good = 200 <= response.status <= 299
        sink = self._sink if good else None
        attempts = lane.window.attempts_of(number)
        path: Path | None = None
        error: Exception | None = None
        content = response.body if self._sink is None else None
        encoded = self._settings.decode and response.body != b"" and response.headers["Content-Encoding"] is not None
        if sink is not None and response.body is not None and not encoded:
            try:
                path = sink.store(job.name or "", response.body)
            except OSError as exc:
                error = exc
        elif sink is not None:
            if response.body is None:
                lane.pipeline.read_next(response)
            if encoded:
                lane.link.begin_decoding(response, response.body)
            decoding = lane.link.decoding
            saved = yield from self._co_save(sink, job, lane.link)
            lane.link.stop_decoding()
            if isinstance(saved, Exception):
                error = saved
                cut = isinstance(error, HTTPError) and not isinstance(error, UnsupportedResponse)
                cut = cut and not (decoding is not None and decoding.failed)  # it would be the same again
                if cut and lane.pipeline.repeat():
                    return
                if cut:
                    attempts = lane.window.attempts_so_far
            else:
                path = saved
        elif response.body is None and self._sink is None:
            reason = f"the body is longer than body_limit, {self._settings.body_limit} bytes"
            if response.framing == "unframed":
                reason = "nothing says where the body ends"
            error = UnsupportedResponse(reason, expected=response.length)
        lane.out.popleft()
        result = Result(item, response.status, response.headers, content, path, error, attempts)
        self._results.append(Encoded(result, response) if encoded and content else result)

    @staticmethod
    def _co_save(sink: FolderSink, job: Job, link: Link) -> Step[Path | Exception]:
        """Bring the body that is being received into the sink; returns where it is, or why it is not."""
        view = memoryview(bytearray(BUFFER_SIZE))
        try:
            writer = sink.open(job.name or "")
        except OSError as exc:
            return exc
        try:
            while link.current is not None:
                count = yield from link.co_readinto(view)
                if count:
                    writer.write(view[:count])
            return writer.commit()
        except Exception as exc:
            writer.abort()
            if isinstance(exc, OSError | HTTPError):
                return exc
            raise
        except BaseException:
            writer.abort()
            raise

    def _fail_lane(self, lane: Lane, error: Exception) -> None:
        """The origin cannot be reached: all that was meant for it has failed."""
        lane.error = error
        self._refused += 1
        for task in (*lane.out, *lane.queue):
            self._results.append(Result(task.item, error=error, attempts=0))
        self.queued -= len(lane.queue)
        self.queued_bodies -= sum(body_size(task.job.request) for task in lane.queue)
        lane.out.clear()
        lane.queue.clear()
