"""What a scenario is: a server's script, a client's program, and the one outcome that it must have."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from httpio import HTTPError
from servers.scripted import Peer, Script, answers

__all__ = [
    "ANEW",
    "CLOSED",
    "PLAIN",
    "SCENARIOS",
    "TLS",
    "USABLE",
    "Failed",
    "Program",
    "Scenario",
    "add",
    "answer",
    "cleanly",
    "collects",
    "drain",
    "failure",
    "fin",
    "reply",
    "reset",
    "scenario",
    "sends",
]

PLAIN, TLS = "plain", "TLS"

USABLE = "usable"
"""The next request is answered on the same connection."""
ANEW = "anew"
"""The next request is answered, on another connection."""
CLOSED = "ConnectionClosed"
"""The next request is refused with that."""

Program = Callable[[Any], Coroutine[Any, Any, Any]]
"""What the client does: a coroutine function that is given a `faces.Client`, and returns what came of it."""


@dataclass(frozen=True)
class Scenario:
    """A server's script and a client's program, and what they must come to on every face."""

    name: str
    script: Script
    """For each connection that the program makes; those after them are answered as ever."""
    program: Program
    outcome: Any
    """What the program returns."""
    seen: Sequence[str] | None
    """The heads that the server has read for it, in order: method and target. None: it may read any part of them."""
    then: str = USABLE
    """How the connection stands behind the program."""
    outstanding: Sequence[str] = ()
    """The targets of the requests that are outstanding behind the program."""
    notes: Sequence[Any] = ()
    """What the script has noted."""
    connections: int = 1
    """How many the program makes."""
    over: Sequence[str] = (PLAIN, TLS)
    needs: frozenset[str] = frozenset()
    """What a face must be able to do, in the words of `faces.Face.lacks`."""
    lookups: Sequence[str] = ()
    """What becomes of the first look-ups of the server's name: see `stage.Names`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments for the connection."""


SCENARIOS: dict[str, Scenario] = {}


def add(name: str, script: Script, program: Program, outcome: Any, *, needs: str = "", **rest: Any) -> None:
    """Add a scenario. *needs*: words with blanks between; *rest*: other fields of `Scenario`, and arguments for the
    connection."""
    own = Scenario.__dataclass_fields__
    fields = {key: value for key, value in rest.items() if key in own}
    options = {key: value for key, value in rest.items() if key not in own}
    assert name not in SCENARIOS, name
    SCENARIOS[name] = Scenario(
        name, script, program, outcome, needs=frozenset(needs.split()), options=options, **fields
    )


def scenario(script: Script, outcome: Any, **rest: Any) -> Callable[[Program], Program]:
    """Make a scenario of a program; its name is the program's."""

    def register(program: Program) -> Program:
        add(program.__name__.replace("_", " "), script, program, outcome, **rest)
        return program

    return register


# -- for programs --


class Failed(NamedTuple):
    """An exception, and the facts that it carries."""

    kind: str
    where: str | None = None
    received: int | None = None
    expected: int | None = None
    outstanding: tuple[tuple[str, str, bool], ...] = ()
    """Of each request the target, its state, and whether it may be repeated."""


def told(error: BaseException) -> Failed:
    """What an exception says."""
    name = type(error).__name__
    if not isinstance(error, HTTPError):
        return Failed(name)
    facts = tuple((fact.request.path, fact.state, fact.safe) for fact in error.outstanding)
    return Failed(name, error.where, error.received, error.expected, facts)


async def failure(call: Awaitable[Any]) -> Failed:
    """The exception that a call raises; AssertionError where it raises none."""
    try:
        result = await call
    except Exception as exc:
        return told(exc)
    raise AssertionError(f"it has not failed, but returned {result!r}")


async def answer(conn: Any) -> tuple[int, bytes]:
    """The status and the body of the next response."""
    response = await conn.read_response()
    return response.status, await conn.readall()


# -- for scripts --


def reply(body: bytes = b"", status: str = "200 OK", fields: str = "") -> bytes:
    """A response with a Content-Length. *fields*: whole lines, each with its CRLF."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{fields}\r\n".encode("latin-1") + body


def fin(peer: Peer) -> None:
    """A FIN, and under TLS no close_notify before it."""
    peer.finish()
    peer.drain()


def cleanly(peer: Peer) -> None:
    """A FIN, and under TLS close_notify before it."""
    if hasattr(peer.sock, "unwrap"):
        peer.notify()
    else:
        peer.finish()
    peer.drain()


def reset(peer: Peer) -> None:
    """A RST."""
    peer.reset()


def drain(peer: Peer) -> None:
    """Silence: it reads until the client closes."""
    peer.drain()


def sends(*wires: bytes, then: Script = answers) -> Script:
    """A script that answers each request by the next of *wires*, and goes on by *then*."""

    def script(peer: Peer) -> None:
        for wire in wires:
            if peer.request() is None:
                return
            peer.send(wire)
        then(peer)

    return script


def collects(peer: Peer) -> None:
    """A script that answers each request with its body in angle brackets, and the lines of its trailers."""
    while (seen := peer.request()) is not None:
        lines = b"".join(b"|" + line for line in peer.trailers)
        peer.trailers = []
        if seen.method == "HEAD":
            peer.answer()
        else:
            peer.answer(seen.target.encode() if seen.method == "GET" else b"<" + seen.body + b">" + lines)
