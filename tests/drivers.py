"""Ways to bring a wire to the parser, and what came of it, in the words of the oracle."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

import oracle
from httpio._parser import ResponseParser
from httpio.exceptions import InvalidResponse, UnsupportedResponse
from httpio.messages import HTTPResponse, Lenient, Limits
from httpio.receiving import ReceivingHalf
from httpio.states import Receiving

FACTS = {"HEAD": 1, "CONNECT": 2}

# Where bodies go: all are read from the connection; those above 1000 bytes are; all are collected.
STREAMED, MIXED, COLLECTED = -1, 1000, 64 << 20
BODY_LIMITS = (STREAMED, MIXED, COLLECTED)


class Driver:
    """One wire, through a bare parser or the receiving half; `run` returns one outcome per method."""

    def __init__(
        self,
        methods: list[str],
        eof: bool = True,
        clean: bool = True,
        body_limit: int = STREAMED,
        half: bool = False,
    ) -> None:
        self.methods = methods
        self.eof = eof
        self.clean = clean
        self.half = ReceivingHalf(Limits(), Lenient(0), body_limit) if half else None
        self.parser: ResponseParser[HTTPResponse] = (
            self.half.parser
            if self.half
            else ResponseParser(HTTPResponse, InvalidResponse, UnsupportedResponse, None, 0, body_limit)
        )
        self.source = self.half or self.parser
        self.answers: list[tuple[HTTPResponse, bytearray]] = []
        self.scratch = memoryview(bytearray(16384))
        for number, method in enumerate(methods):
            self.source.expect(number, FACTS.get(method, 0))

    def run(self, pieces: Iterable[bytes | memoryview]) -> list[oracle.Outcome]:
        failure = None
        try:
            for piece in pieces:
                self.arrive(memoryview(piece))
            if self.eof:
                self.note(self.source.eof(self.clean))
                self.read_open_body()
        except (InvalidResponse, UnsupportedResponse) as error:
            failure = error
        return self.outcomes(failure)

    def arrive(self, data: memoryview) -> None:
        """Brings one piece to the parser, and takes from it what comes of that."""
        raise AssertionError("left to the two forms")

    def surplus(self) -> bytes:
        """The bytes that came behind the last response."""
        raise AssertionError("left to the two forms")

    def note(self, responses: list[HTTPResponse]) -> None:
        for response in responses:
            self.answers.append((response, bytearray(response.body or b"")))

    def read_open_body(self) -> None:
        while size := self.source.read_into(self.scratch):
            self.answers[-1][1].extend(self.scratch[:size])

    def outcomes(self, failure: Exception | None) -> list[oracle.Outcome]:
        unfinished = "closed" if self.eof else "waiting"
        found = []
        for response, body in self.answers:
            outcome = oracle.Outcome(unfinished, response.status, response.fields())
            outcome.interim = [head.status for head in response.informational]
            if response.complete_by is not None:
                outcome.verdict, outcome.body, outcome.trailers = "ok", bytes(body), response.trailer_fields()
                outcome.reuse = response.persistent
            if response.framing == "tunnel":
                outcome.tunnel = self.surplus()
            found.append(outcome)
        if failure is not None:
            with pytest.raises(type(failure)) as again:  # behind the content that came before it
                self.read_open_body()
            assert str(again.value) == str(failure)
            if self.parser.open is None:
                found.append(oracle.Outcome(unfinished))
            found[-1].verdict = "invalid" if isinstance(failure, InvalidResponse) else "unsupported"
            found[-1].why = str(failure)
        if self.half:
            assert (self.half.state is Receiving.BROKEN) == (failure is not None)
        found += [oracle.Outcome(unfinished) for _ in self.methods[len(found) :]]
        found[-1].reuse = found[-1].verdict == "ok" and self.is_reusable()
        return found

    def is_reusable(self) -> bool:
        return self.parser.reusable


class OwnBuffer(Driver):
    """The form for sockets: the bytes are received into the parser."""

    def arrive(self, data: memoryview) -> None:
        while data:
            room = min(self.parser.room, len(data))
            with memoryview(self.parser) as free:
                free[:room] = data[:room]
            self.note(self.half.received(room) if self.half else self.parser.buffer_updated(room))
            data = data[room:]
            self.read_open_body()
            while self.parser.open is None and (found := self.source.parse()):
                self.note(found)
                self.read_open_body()
            if self.parser.room == 0:
                break  # nobody asks for more

    def surplus(self) -> bytes:
        return self.parser.leftover()


class Feed(Driver):
    """The form for callers who own the bytes."""

    rest = b""

    def arrive(self, data: memoryview) -> None:
        if self.rest:
            data = memoryview(self.rest + data)
        while data:
            try:
                taken = self.source.feed(data)
            finally:
                self.note(self.source.take())
            self.read_open_body()
            data = data[taken:]
            if not taken:
                break
        self.rest = bytes(data)

    def surplus(self) -> bytes:
        return self.rest

    def is_reusable(self) -> bool:
        return self.parser.reusable and not self.rest.strip(b"\r\n")


FORMS: tuple[type[Driver], ...] = (OwnBuffer, Feed)
