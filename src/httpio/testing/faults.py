"""The menu of faults, and the counters that tell what the server saw."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass, field, fields

__all__ = ["Faults", "Stats"]


@dataclass(frozen=True)
class Faults:
    """What the server does wrong, the same on each connection; without arguments: nothing.

    `close_after`: close the connection after this many responses (0: never).
    `announce`: say so on the last of them (`Connection: close`); without it the connection just ends.
    `answer_first_of`: of each N pipelined requests received together answer the first only; the others are
    read and dropped, and the connection stays open (0: answer all). Requests that come one by one are all
    answered.

    A new fault is a new field: the command line takes its options from the fields. Raises ValueError when a
    number is negative.
    """

    close_after: int = field(default=0, metadata={"help": "close each connection after N responses"})
    announce: bool = field(default=False, metadata={"help": "say Connection: close on the last of these"})
    answer_first_of: int = field(default=0, metadata={"help": "answer one of N requests received together"})

    def __post_init__(self) -> None:
        for each in fields(self):
            if getattr(self, each.name) < 0:
                raise ValueError(f"{each.name} is negative: {getattr(self, each.name)}")

    @classmethod
    def add_options(cls, parser: ArgumentParser) -> None:
        """Add one option for each fault to `parser`."""
        for each in fields(cls):
            option = "--" + each.name.replace("_", "-")
            if each.default is False:
                parser.add_argument(option, action="store_true", help=each.metadata["help"])
            else:
                parser.add_argument(option, type=int, default=0, metavar="N", help=each.metadata["help"])

    @classmethod
    def from_options(cls, options: Namespace) -> Faults:
        """Return the faults that the parsed `options` ask for."""
        return cls(**{each.name: getattr(options, each.name) for each in fields(cls)})

    def as_options(self) -> list[str]:
        """Return the command line options that ask for these faults."""
        options = []
        for each in fields(self):
            value = getattr(self, each.name)
            if value != each.default:
                option = "--" + each.name.replace("_", "-")
                options += [option] if value is True else [option, str(value)]
        return options


@dataclass
class Stats:
    """What the server has seen so far. A request for `/stats` counts in none but `connections`.

    `connections`: accepted, TLS handshake done or not. `requests`: whole, well-formed heads received.
    `responses`: final responses begun. `dropped`: requests that a fault left without an answer. `refused`:
    malformed requests, ended with an error and a close. `content`: bytes of request content received.
    """

    connections: int = 0
    requests: int = 0
    responses: int = 0
    dropped: int = 0
    refused: int = 0
    content: int = 0
