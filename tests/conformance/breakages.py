"""Faces that are wrong on purpose, to see that the scenarios notice it: who waits wrongly, and steps that are wrong."""

from __future__ import annotations

import select
from collections.abc import Callable
from time import monotonic
from typing import Any, NamedTuple

import pytest

from conformance.faces import AioFutures, Face, InLoop, Steps, Stuck
from conformance.scenario import PLAIN, TLS
from httpio import POLLIN, HTTPError, PollNeeded, Request
from httpio.decoding import Decoding
from httpio.endpoint import Endpoint
from httpio.link import Link
from httpio.pipelining import Pipeline
from httpio.protocol import Protocol
from httpio.sending import Sender
from httpio.transport import Bell, Transport
from httpio.watching import Waiter, Watch

__all__ = ["CALLS", "STEPS", "WAITS", "Breakage"]

Apply = Callable[[pytest.MonkeyPatch, type[Face]], None]


class Breakage(NamedTuple):
    """What is broken, and which scenario is to fail for it."""

    name: str
    apply: Apply
    scenario: str
    way: str = PLAIN


def nothing(*args: Any, **options: Any) -> None:
    """In place of a method that has something to do."""


PATIENCE = 0.25
"""Seconds that a blocking face which waits wrongly waits at most."""


# -- who waits wrongly --


def polls(*, room: bool = True, deadline: bool = True, bell: bool = True) -> Callable[..., bool]:
    """`PollNeeded.poll` without what is False."""

    def poll(self: PollNeeded, timeout: float | None = None) -> bool:
        poller = select.poll()
        poller.register(self.fd, self.mask if room else POLLIN)
        if bell and self.bell is not None:
            poller.register(self.bell, POLLIN)
        left = PATIENCE
        if deadline and self.deadline is not None:
            left = max(0.0, self.deadline - monotonic())
        ready = bool(poller.poll(left * 1000))
        if not ready and left == PATIENCE:
            raise Stuck("nothing to be seen in poll")
        return ready

    return poll


def no_bell(self: Waiter, need: PollNeeded, wake: Callable[[], object]) -> None:
    """`Waiter.__init__` without the bell."""
    _waiter(self, need, wake)
    self.bell = None


_waiter = Waiter.__init__


def waits(blocking: Callable[..., Any], steps: tuple[str, Any], loop: tuple[type, str, Any]) -> Apply:
    """Breaks a part of waiting in whatever way a face waits: in `PollNeeded.poll`, a method of `Steps`, or a Watch."""

    def apply(monkeypatch: pytest.MonkeyPatch, face: type[Face]) -> None:
        if issubclass(face, Steps):
            monkeypatch.setattr(Steps, *steps)
        elif issubclass(face, InLoop):
            assert not issubclass(face, AioFutures)
            monkeypatch.setattr(*loop)
        else:
            monkeypatch.setattr(PollNeeded, "poll", blocking)

    return apply


WAITS = [
    Breakage(
        "deaf to room",
        waits(polls(room=False), ("writes", lambda self, need: -1), (Watch, "_writable", nothing)),
        "an early 200 lets the body go on",
    ),
    Breakage(
        "without deadlines",
        waits(polls(deadline=False), ("deadline", lambda self, need: None), (Watch, "_tick", nothing)),
        "silence inside a body",
    ),
    Breakage(
        "deaf to the bell",
        waits(polls(bell=False), ("bell", lambda self, need: -1), (Waiter, "__init__", no_bell)),
        "the 100 that another reads lets a body go",
    ),
]


# -- who gives wrong results --


def calls(change: Callable[[Any, str, Callable[[], Any]], Any]) -> Apply:
    """Puts *change* around each call; it is given the connection, the call's name, and what makes the call."""

    def apply(monkeypatch: pytest.MonkeyPatch, face: type[Face]) -> None:
        real = face.call

        async def call(self: Face, conn: Any, name: str, *args: Any, **options: Any) -> Any:
            return await change(conn, name, lambda: real(self, conn, name, *args, **options))

        monkeypatch.setattr(face, "call", call)

    return apply


async def shortened(conn: Any, name: str, make: Callable[[], Any]) -> Any:
    result = await make()
    return result[:-1] if isinstance(result, bytes) else result


async def twice(conn: Any, name: str, make: Callable[[], Any]) -> Any:
    if name == "read":
        await make()
    return await make()


async def silenced(conn: Any, name: str, make: Callable[[], Any]) -> Any:
    try:
        return await make()
    except HTTPError:
        return b""


async def left_out(conn: Any, name: str, make: Callable[[], Any]) -> Any:
    return None if name == "discard" else await make()


def late() -> Callable[[Any, str, Callable[[], Any]], Any]:
    """Each answer is given in place of the next."""
    kept: list[Any] = []

    async def change(conn: Any, name: str, make: Callable[[], Any]) -> Any:
        result = await make()
        if name != "readall":
            return result
        kept.append(result)
        return kept.pop(0) if len(kept) > 1 else b""

    return change


CALLS = [
    Breakage("gives short bodies", calls(shortened), "a plain exchange"),
    Breakage("reads twice", calls(twice), "read gives no more than asked for"),
    Breakage("is silent about errors", calls(silenced), "FIN in a body"),
    Breakage("gives each body late", calls(late()), "fifty sent before the first is read"),
    Breakage("leaves a call out", calls(left_out), "discard"),
]


# -- steps that are wrong, whoever drives them --


def patched(owner: Any, name: str, make: Callable[[Any], Any]) -> Apply:
    """Puts what *make* gives in place of a method; it is given the real one."""

    def apply(monkeypatch: pytest.MonkeyPatch, face: type[Face]) -> None:
        monkeypatch.setattr(owner, name, make(getattr(owner, name)))

    return apply


def any_end_is_good(monkeypatch: pytest.MonkeyPatch, face: type[Face]) -> None:
    monkeypatch.setattr(Transport, "clean", property(lambda self: True, nothing), raising=False)


def any_end_is_an_end_mark(monkeypatch: pytest.MonkeyPatch, face: type[Face]) -> None:
    read = Decoding.read
    monkeypatch.setattr(Decoding, "ended", property(lambda self: self.whole))
    monkeypatch.setattr(Decoding, "read", lambda self, size: b"" if self.whole else read(self, size))


def without_deadline(real: Any) -> Any:
    def need(*args: Any, **options: Any) -> Any:
        found = real(*args, **options)
        found.deadline = None
        return found

    return need


STEPS = [
    Breakage(
        "a byte is lost", patched(Link, "read_now", lambda real: lambda *args: real(*args)[:-1]), "a plain exchange"
    ),
    Breakage(
        "answers are swapped",
        patched(Pipeline, "_hand_out", lambda real: lambda self: real(self)[::-1]),
        "three answers at once in a pipeline",
    ),
    Breakage("any end ends a body", any_end_is_good, "a FIN without close_notify ends no body", TLS),
    Breakage(
        "the bell is mute", patched(Bell, "ring", lambda real: nothing), "the 100 that another reads lets a body go"
    ),
    Breakage("nothing is decoded", patched(Link, "begin_decoding", lambda real: nothing), "decoded: gzip"),
    Breakage(
        "what is dropped is decoded", patched(Link, "stop_decoding", lambda real: nothing), "discard decodes nothing"
    ),
    Breakage("a coding ends where its body ends", any_end_is_an_end_mark, "gzip cut short, read in pieces"),
    Breakage("time does not count", patched(Endpoint, "need", without_deadline), "silence inside a body"),
    Breakage(
        "100 is waited for without end",
        patched(Sender, "_is_assumed", lambda real: lambda self: False),
        "100 never, inside the call",
    ),
    Breakage(
        "nobody listens while sending",
        patched(Sender, "look", lambda real: lambda self: True),
        "413 stops a body of bytes that is not read",
    ),
    Breakage(
        "what a close cuts has ended",
        patched(Endpoint, "check_not_closed_inside", lambda real: nothing),
        "close inside a body",
    ),
    Breakage("no facts", patched(Protocol, "unanswered", lambda real: lambda self: ()), "FIN in a body"),
    Breakage(
        "any method is idempotent",
        patched(Request, "idempotent", lambda real: property(lambda self: True)),
        "a POST is not repeated",
    ),
    Breakage(
        "more may be written",
        patched(Protocol, "check_write", lambda real: nothing),
        "more than was announced is refused and nothing of it sent",
    ),
    Breakage(
        "abort does nothing",
        patched(Transport, "abort", lambda real: nothing),
        "abort by another thread while it reads",
    ),
    Breakage(
        "a broken connection is tried again",
        patched(Protocol, "alive", lambda real: property(lambda self: True)),
        "Connection close behind a whole body",
    ),
]
