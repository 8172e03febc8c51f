"""Chunk data that the caller of `feed` takes past the parser, as `direct` allows."""

from __future__ import annotations

import pytest

from httpio import InvalidResponse
from httpio.messages import HTTPResponse, Lenient, Limits
from httpio.receiving import ReceivingHalf

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = (b"one", b"a chunk of some length", b"x", b"0\r\n\r\n", b"the last")
BODY = b"".join(CHUNKS)


def chunked(*chunks: bytes, end: bytes = b"0;last\r\nTrailer: yes\r\n\r\n") -> bytes:
    return HEAD + b"".join(b"%x;ext=1\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + end


def read(wire: bytes, first: int, most: int, limits: Limits | None = None) -> tuple[HTTPResponse, bytes, int]:
    """The response, its content, and how many bytes of that came directly, at most *most* at a time; *first* bytes
    come in a piece of their own, the others one by one."""
    parser = ReceivingHalf(limits or Limits(), Lenient(0)).parser
    parser.expect(None)
    content = b""
    direct = 0
    at = 0
    responses: list[HTTPResponse] = []
    while True:
        size = min(parser.direct, most, len(wire) - at)
        if size:
            content += wire[at : at + size]
            parser.direct_received(size)
            direct += size
            at += size
            assert parser.received == len(content)
        elif at < len(wire):
            at += parser.feed(wire[at : max(first, at + 1)])
            responses += parser.take()
            while piece := parser.read(100):
                content += piece
        else:
            return responses[0], content, direct


@pytest.mark.parametrize("most", [1, 2, 5, 100])
def test_the_content_is_the_same(most: int) -> None:
    wire = chunked(*CHUNKS)
    for first in range(len(wire) + 1):
        response, content, direct = read(wire, first, most)
        assert content == BODY
        assert response.complete_by == "last chunk"
        assert response.trailer_fields() == [("Trailer", "yes")]
        assert first or direct == len(BODY) - len(CHUNKS)  # the last byte of each shows the parser where it ends


def test_a_fault_is_found_where_it_is() -> None:
    """The count of bytes goes on over those that the parser did not see."""
    wire = chunked(*CHUNKS, end=b"zz\r\n")
    with pytest.raises(InvalidResponse) as plain:
        read(wire, len(wire), 0)
    for first in range(len(wire)):
        with pytest.raises(InvalidResponse) as caught:
            read(wire, first, 3)
        assert f"at byte {len(wire) - 4} " in str(plain.value)
        assert f"at byte {len(wire) - 4} " in str(caught.value)


def test_a_chunk_that_does_not_end_where_it_should() -> None:
    for end in (b"x0\r\n\r\n", b"0\r\n\r\n"):
        with pytest.raises(InvalidResponse):
            read(HEAD + b"5\r\nhello" + end, 0, 100)


def test_the_line_of_each_chunk_is_limited() -> None:
    """The data between the lines does not count, and what counts begins anew behind it."""
    limits = Limits(max_chunk_line=len("16;ext=1"))
    wire = chunked(*CHUNKS)
    for first in (0, len(HEAD) + 12):
        assert read(wire, first, 4, limits)[1] == BODY
    with pytest.raises(InvalidResponse, match="longer than"):
        read(wire, 0, 4, Limits(max_chunk_line=len("16;ext=1") - 1))


def test_no_more_than_the_chunk_has() -> None:
    parser = ReceivingHalf(Limits(), Lenient(0)).parser
    parser.expect(None)
    parser.feed(HEAD)
    assert parser.direct == 0
    parser.feed(b"5\r\n")
    assert parser.direct == 4
    for size in (-1, 5):
        with pytest.raises(ValueError, match="more bytes than"):
            parser.direct_received(size)
    parser.feed(b"h")
    assert parser.direct == 0  # while content waits to be read, it comes first
    assert parser.read(10) == b"h"
    assert parser.direct == 3
