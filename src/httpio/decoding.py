"""The content of one response with its content codings undone, as it is read."""

from __future__ import annotations

from typing import NoReturn

from httpio.content import Decoder, codings_of
from httpio.exceptions import ConnectionClosed, HTTPError, InvalidResponse, UnsupportedResponse
from httpio.messages import HTTPResponse, Limits

__all__ = ["Decoding", "decode_collected"]

READ_SIZE = 64 * 1024


class Decoding:
    """The content of *response*, which is fed as it comes. What cannot be decoded is said by `read`, so that it may be
    dropped instead."""

    def __init__(self, response: HTTPResponse, limits: Limits) -> None:
        self._response = response
        self._received = 0  # bytes of the encoded content
        self.whole = False
        """That is all of it."""
        self._decoder: Decoder | None = None
        self._failure: tuple[type[HTTPError], str] | None = None  # no error, whose traceback would hold the content
        codings = codings_of(response.headers.get_all("Content-Encoding") or ())
        self.needed = bool(codings)
        """Whether there is anything to undo."""
        try:
            if response.status == 206 and codings:
                raise UnsupportedResponse("a part of what is encoded cannot be decoded (206, with Content-Encoding)")
            self._decoder = Decoder(codings, limits)
        except UnsupportedResponse as exc:
            self._failure = type(exc), str(exc)

    @property
    def ended(self) -> bool:
        """All was read, and every coding had its end mark."""
        return self._decoder is not None and self._decoder.ended

    def feed(self, data: bytes) -> None:
        """More of the encoded content, where `read` gave nothing."""
        self._received += len(data)
        if self._decoder is not None:
            self._decoder.feed(data)

    def finish(self) -> None:
        """The encoded content has ended."""
        self.whole = True
        if self._decoder is not None:
            self._decoder.finish()

    def read(self, size: int) -> bytes:
        """Decoded content, at most *size* bytes; ``b""``: it has `ended`, or `feed` and `finish` are to give more.

        Raises UnsupportedResponse for codings that are not known here, InvalidResponse for content that is not what
        they say; each call does so again.
        """
        if self._failure is None:
            assert self._decoder is not None
            try:
                return self._decoder.read(size)
            except HTTPError as exc:
                self._failure = type(exc), str(exc)
            except BaseException:
                self.interrupt()
                raise
        raise self._error(*self._failure)

    def interrupt(self) -> None:
        """A read was left between any two instructions: what it took may be lost, and the rest is not to pass for the
        whole."""
        if self._failure is None:
            self._failure = ConnectionClosed, "the content was lost when a call that decodes it was interrupted"

    def _error(self, kind: type[HTTPError], message: str) -> HTTPError:
        return kind(message, where="in body", received=self._received, expected=self._response.length)

    @property
    def failed(self) -> bool:
        """Whether `read` raises, now and from now on."""
        return self._failure is not None

    def refuse(self, most: int) -> NoReturn:
        """The content is collected, and longer than *most* bytes."""
        self._failure = InvalidResponse, f"the decoded content is longer than max_decoded, {most} bytes"
        raise self._error(*self._failure)


def decode_collected(response: HTTPResponse, content: bytes, limits: Limits, most: int) -> bytes | None:
    """What *content*, the whole of what was received for *response*, becomes; None where that is more than *most*
    bytes. Raises as `Decoding.read`."""
    decoding = Decoding(response, limits)
    if not (decoding.needed and content):
        return content if len(content) <= most else None
    decoding.feed(content)
    decoding.finish()
    parts: list[bytes] = []
    left = most
    while part := decoding.read(min(READ_SIZE, left + 1)):
        left -= len(part)
        if left < 0:
            return None
        parts.append(part)
    return b"".join(parts)
