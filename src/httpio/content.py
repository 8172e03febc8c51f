"""Content codings (RFC 9110 section 8.4.1), undone piece by piece: gzip, deflate, br and zstd.

Every coding must reach its own end mark, and nothing may follow it. Memory is bounded by the size of a read and a
piece of input, whatever the content would grow to.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import import_module
from typing import Any

from httpio.exceptions import HTTPError, InvalidResponse, StateError, UnsupportedResponse, quote
from httpio.messages import Limits

__all__ = ["Decoder", "accept_encoding", "codings_of"]

FLOOR = 1024 * 1024
"""Bytes to which any input may grow."""

HELD = 1024 * 1024
"""Bytes that wait, at most, where those before them grow by more than they may."""

PIECE = 64 * 1024
"""Bytes that pass from one coding to the next at most, and to a library in one call."""

BLOCK = 512 * 1024
"""Bytes that zlib is asked for at least: each call costs it a copy of its window."""

_SHARE = 64
"""Bytes handed to a library at least, where more are there."""

MEMBER = 1024
"""What a further member or frame counts for, beside its content, where growth is measured. An empty one costs as much
time as some KiB of content, so a coding that gives millions of them to the next must be seen to grow."""

_WINDOW_LOG = 23
"""8 MiB, the largest window that a sender may use (RFC 9659 section 3)."""


@cache
def _library(coding: str) -> Any:
    """The module that reads *coding*; None where it is not installed, or too old to bound its output."""
    if coding == "br":
        try:
            brotli = import_module("brotli")
        except ImportError:
            return None
        return brotli if hasattr(getattr(brotli, "Decompressor", None), "can_accept_more_data") else None
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return import_module(name)
        except ImportError:
            continue
    return None


def accept_encoding() -> str:
    """The value of an Accept-Encoding field (RFC 9110 section 12.5.3) that names the codings which can be read here:
    ``gzip, deflate``, and ``br`` and ``zstd`` where their libraries are installed."""
    return ", ".join(["gzip", "deflate", *(coding for coding in ("br", "zstd") if _library(coding) is not None)])


def codings_of(values: Iterable[str]) -> tuple[str, ...]:
    """The codings that the *values* of a response's Content-Encoding fields name, in the order in which they were
    applied: in lower case, without ``identity``, and ``gzip`` for its other name ``x-gzip`` (RFC 9110 section
    8.4.1.3)."""
    names = [name.strip(" \t").lower() for value in values for name in value.split(",")]
    return tuple("gzip" if name == "x-gzip" else name for name in names if name not in ("", "identity"))


class _Coding:
    """One coding being undone. It is given a piece of input when `idle`, and read until it is idle again."""

    _least = PIECE
    """Bytes that the library is asked for at least; what was not wanted yet is kept."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.at_end = False
        """The end mark was reached, and nothing came behind it."""
        self.held = False
        """What it has given so far is more than it may."""
        self._given = 0
        self._data = b""
        self._at = 0
        self._share = PIECE
        self._output = memoryview(b"")
        self._dry = True

    @property
    def idle(self) -> bool:
        """Nothing more comes before the next piece."""
        return self._dry and not self._output

    def feed(self, data: bytes) -> None:
        """The next piece, not empty; only when `idle`."""
        self._data = self._data[self._at :] + data
        self._at = 0
        self._dry = False

    def read(self, size: int, most: int) -> bytes:
        """At most *size* bytes; b"" says nothing: look at `idle`, and at `held`, where there are more than *most* in
        all."""
        output = self._output
        if not output and self._given <= most:
            data = self._decode(min(max(size, self._least), most - self._given + 1))
            self._given += len(data)
            if self._given <= most and len(data) <= size:
                return data
            output = self._output = memoryview(data)
        self.held = self._given > most
        if self.held:
            return b""
        self._output = output[size:]
        return bytes(output[:size])

    def _decode(self, size: int) -> bytes:
        """One call of the library, for about *size* bytes. It says whether the coding is `_dry`, and `at_end`."""
        raise NotImplementedError

    def _take(self) -> memoryview:
        """The next bytes for the library. What it leaves of them is told to `_leave`."""
        view = memoryview(self._data)[self._at : self._at + self._share]
        self._at += len(view)
        return view

    def _leave(self, view: memoryview, rest: int) -> None:
        """The library has left the last *rest* bytes of *view*, and copied them to say so. Where this was most of
        them, it gets fewer next time: many small members would take quadratic time."""
        self._at -= rest
        if rest > len(view) - rest:
            self._share = max(_SHARE, self._share // 2)
        elif not rest:
            self._share = min(PIECE, self._share * 2)

    @property
    def _used(self) -> bool:
        return self._at == len(self._data)

    def _behind(self) -> InvalidResponse:
        return _invalid(f"bytes follow the end of the {self.name} data")

    def _bad(self, reason: Exception) -> Exception:
        text = str(reason)
        if text.startswith("Error -4 ") or "not enough memory" in text:  # zlib's words, and zstd's; brotli says nothing
            return MemoryError(text)
        return _invalid(f"the {self.name} data is not valid: {text}")


class _Zlib(_Coding):
    """What gzip and deflate share."""

    _least = BLOCK
    _inflater: Any = None

    def _inflate(self, size: int) -> bytes:
        inflater = self._inflater
        view = self._take()
        try:
            data: bytes = inflater.decompress(view, size)
        except zlib.error as exc:
            raise self._bad(exc) from exc
        self.at_end = inflater.eof
        self._leave(view, len(inflater.unused_data if self.at_end else inflater.unconsumed_tail))
        # With all input gone, a full read may have left output inside zlib.
        self._dry = self._used and (self.at_end or len(data) < size)
        return data


class _Gzip(_Zlib):
    """gzip (RFC 1952): one member or several. Zeros behind the last, which tapes have, are no member (section 2.2)."""

    def _decode(self, size: int) -> bytes:
        if self._inflater is None:
            if self.at_end:
                if self._data[self._at] != 0x1F:
                    raise self._behind()
                self._given += MEMBER
            self._inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
        data = self._inflate(size)
        if self.at_end:
            self._inflater = None
        return data


class _Deflate(_Zlib):
    """deflate: zlib's format (RFC 1950), as it should be, or the raw stream (RFC 1951), as some send it."""

    def _decode(self, size: int) -> bytes:
        if self._inflater is None:
            start = self._data[:2]
            if len(start) < 2:
                self._dry = True
                return b""
            # No encoder begins a raw stream so: with a stored block, and bits set in its padding.
            wrapped = start[0] & 0x0F == 8 and start[0] >> 4 <= 7 and int.from_bytes(start, "big") % 31 == 0
            self._inflater = zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)
        data = self._inflate(size)
        if self.at_end and not self._used:
            raise self._behind()
        return data


class _Brotli(_Coding):
    """br (RFC 7932): one stream."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        # The library copies in each call what it has not read of its input.
        self._share = PIECE // 4
        self._library = _library(name)
        self._decompressor = self._library.Decompressor()

    def feed(self, data: bytes) -> None:
        if self.at_end:
            raise self._behind()
        super().feed(data)

    def _decode(self, size: int) -> bytes:
        decompressor = self._decompressor
        view = self._take() if decompressor.can_accept_more_data() else b""
        try:
            # Its blocks grow: 32 KiB, 64 KiB, 256 KiB. It begins none when it has given so much.
            data: bytes = decompressor.process(view, output_buffer_limit=min(size, PIECE))
        except self._library.error as exc:
            raise self._bad(exc) from exc  # also for bytes behind the end, in one piece with it
        self.at_end = decompressor.is_finished()
        if self.at_end and not self._used:
            raise self._behind()
        # It may accept more and still hold output: only an empty answer says that it has none.
        self._dry = self.at_end or (not data and self._used and decompressor.can_accept_more_data())
        return data


class _Zstandard(_Coding):
    """zstd (RFC 8878): one frame or several, skippable ones among them."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._library = _library(name)
        self._options = {self._library.DecompressionParameter.window_log_max: _WINDOW_LOG}
        self._frame: Any = None
        self._view = memoryview(b"")

    def _decode(self, size: int) -> bytes:
        frame = self._frame
        if frame is None:
            if self.at_end:
                start = self._data[self._at]
                if start != 0x28 and start & 0xF0 != 0x50:  # no frame begins so
                    raise self._behind()
                self._given += MEMBER
            frame = self._frame = self._library.ZstdDecompressor(options=self._options)
        more = frame.needs_input
        if more:
            self._view = self._take()
        try:
            data: bytes = frame.decompress(self._view if more else b"", size)
        except self._library.ZstdError as exc:
            raise self._bad(exc) from exc
        self.at_end = frame.eof
        if self.at_end:
            self._frame = None
            self._leave(self._view, len(frame.unused_data))
        elif frame.needs_input:
            self._leave(self._view, 0)
        self._dry = self._used and (self.at_end or frame.needs_input)
        return data


_CODINGS: dict[str, type[_Coding]] = {"gzip": _Gzip, "deflate": _Deflate, "br": _Brotli, "zstd": _Zstandard}
_NEEDED = {
    "br": "brotli 1.2 or newer, which is not installed: pip install 'httpio[br]'",
    "zstd": "Python 3.14 or backports.zstd, which is not installed: pip install 'httpio[zstd]'",
}


class Decoder:
    """Undoes the content codings of one body, without I/O.

    *codings*: as `codings_of` gives them, so that the last is undone first. *limits*: `Limits.max_codings` holds for
    their number, and `Limits.max_ratio` for what each of them gives, against what was fed; for `Limits.max_decoded`
    the caller counts.

    Input is given to `feed` when `wants_input`, and output taken by `read` until it wants input again; `finish` says
    that there is no more input, and then `read` is called until `ended`. A body without a byte is no error: it is empty
    whatever its label.

    Raises UnsupportedResponse for too many codings, an unknown one, or one whose library is not installed.
    """

    def __init__(self, codings: Sequence[str], limits: Limits) -> None:
        if len(codings) > limits.max_codings:
            raise _unsupported(f"the body has {len(codings)} content codings, and max_codings is {limits.max_codings}")
        for coding in codings:
            if coding not in _CODINGS:
                raise _unsupported(f"the content coding {quote(coding)} is not known")
            if coding in _NEEDED and _library(coding) is None:
                raise _unsupported(f"the content coding {coding} needs {_NEEDED[coding]}")
        self._chain = [_CODINGS[coding](coding) for coding in reversed(codings)]
        self._max_ratio = limits.max_ratio
        self._pieces: deque[bytes] = deque()
        self._at = 0  # in the first of them
        self._fed = self._taken = 0
        self._held = False  # there is more, and more than may come of what was fed
        self._finished = False
        self._failure: tuple[type[HTTPError], str] | None = None

    @property
    def wants_input(self) -> bool:
        """Nothing more comes before `feed` or `finish`."""
        return not self._finished and (self._held or self._empty)

    @property
    def ended(self) -> bool:
        """`finish` was called, everything was read, and every coding reached its end mark."""
        if not self._finished or not self._empty:
            return False
        return not self._fed or all(coding.at_end for coding in self._chain)

    @property
    def _empty(self) -> bool:
        """Nothing is left to read, and nothing has failed."""
        if self._failure is not None or self._pieces:
            return False
        return all(coding.idle for coding in self._chain)

    def feed(self, data: bytes) -> None:
        """The next encoded bytes, as many as there are; only when `wants_input`."""
        if data:
            self._pieces.append(data)
            self._fed += len(data)
        self._held = False

    def finish(self) -> None:
        """No more bytes come."""
        self._finished = True

    def read(self, size: int) -> bytes:
        """At most *size* decoded bytes; b"" when `wants_input` or `ended`.

        Raises InvalidResponse, now and at every later call, when the data is not what the label says, is cut short,
        goes on behind its end, or grows by more than max_ratio. What interrupts it, MemoryError too, passes through,
        and every later call raises StateError.
        """
        failure = self._failure
        if failure is None:
            try:
                return self._pull(len(self._chain), size) if size > 0 else b""
            except InvalidResponse as exc:
                failure = self._fail(InvalidResponse, str(exc))
            except BaseException:
                self._fail(StateError, "reading was interrupted, and what had been decoded is lost")
                raise
        # Not the one that was caught: its traceback would hold what the libraries hold.
        kind, text = failure
        raise kind(text, where="in body")

    def _fail(self, kind: type[HTTPError], text: str) -> tuple[type[HTTPError], str]:
        self._failure = (kind, text)
        self._chain = []
        self._pieces.clear()
        return self._failure

    def _pull(self, depth: int, size: int) -> bytes:
        """At most *size* bytes with the first *depth* of the chain undone; b"": more input is needed, or this is the
        end."""
        if not depth:
            return self._take(size)
        coding = self._chain[depth - 1]
        while True:
            if coding.idle:
                data = self._pull(depth - 1, PIECE)
                if not data:
                    if self._finished and self._fed and not coding.at_end:
                        raise _invalid(f"the {coding.name} data is cut short")
                    return b""
                coding.feed(data)
            most = max(FLOOR, self._max_ratio * self._fed)
            data = coding.read(size, most)
            if data:
                return data
            if coding.held:
                # What is to come may make up for it: how the data arrives is not to decide.
                if self._finished or self._fed - self._taken > HELD:
                    grows = "grows by more than max_ratio allows"
                    raise _invalid(f"the {coding.name} data {grows}, to more than {most} bytes")
                self._held = True
                return b""

    def _take(self, size: int) -> bytes:
        if not self._pieces:
            return b""
        piece = self._pieces[0]
        data = piece[self._at : self._at + size]
        self._at += len(data)
        self._taken += len(data)
        if self._at == len(piece):
            self._pieces.popleft()
            self._at = 0
        return data


def _invalid(message: str) -> InvalidResponse:
    return InvalidResponse(message, where="in body")


def _unsupported(message: str) -> UnsupportedResponse:
    return UnsupportedResponse(message, where="in body")
