"""What the server does on each of its connections: functions for `servers.scripted.Scripted`.

A script has the connection and the meeting with a client that pauses between its two requests.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from threading import Event

from servers.scripted import Peer

FORGED = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
SECOND = b"the second answer"
UNREAD = 100
"""Bytes of a body that are there before the client gives the response up."""

_DRIP_EVERY = 0.2
_DRIPS = 300
_GIVEN_UP_WITHIN = 0.5
_OPEN_FOR = 4.0
_LONG = 20.0


class Meeting:
    """The client pauses until the server has done what it does meanwhile."""

    def __init__(self) -> None:
        self.paused = Event()
        self.over = Event()

    def pause(self) -> None:
        """The client's side."""
        self.paused.set()
        self.over.wait(_LONG)


Script = Callable[[Peer, Meeting], None]
End = Callable[[Peer], None]


def fin(peer: Peer) -> None:
    """A FIN; under TLS no close_notify before it. What still comes is read, so that no RST follows."""
    peer.finish()
    peer.drain()


def rst(peer: Peer) -> None:
    """A RST."""
    peer.reset()


def stay(peer: Peer) -> None:
    """Nothing: the connection stays open until the client closes it."""
    peer.drain()


def sends(wire: bytes, end: End) -> Script:
    """Each request gets these bytes, and then the connection's end."""

    def script(peer: Peer, meeting: Meeting) -> None:
        if peer.request() is not None:
            peer.send(wire)
            end(peer)

    return script


def floods(start: bytes, piece: Callable[[int], bytes], count: int, end: bytes) -> Script:
    """Each request gets *count* pieces between a start and an end; each piece is made from its number."""

    def script(peer: Peer, meeting: Meeting) -> None:
        if peer.request() is not None:
            peer.send(start)
            for first in range(0, count, 1000):
                peer.send(b"".join(map(piece, range(first, min(first + 1000, count)))))
            peer.send(end)
            peer.drain()

    return script


def drips(start: bytes) -> Script:
    """Each request gets a start, and then a byte every 0.2 seconds."""

    def script(peer: Peer, meeting: Meeting) -> None:
        if peer.request() is not None:
            peer.send(start)
            for _ in range(_DRIPS):
                peer.send(b"x")
                time.sleep(_DRIP_EVERY)

    return script


def answer_rest(peer: Peer, body: bytes = SECOND) -> None:
    """Every further request is answered well."""
    while peer.request() is not None:
        peer.answer(body)


def then(first: Script, body: bytes = SECOND) -> Script:
    """The first connection runs *first*; in every other all requests are answered well."""

    def script(peer: Peer, meeting: Meeting) -> None:
        if peer.number == 0:
            first(peer, meeting)
        else:
            answer_rest(peer, body)

    return script


def behind(wire: bytes) -> Script:
    """The first request gets these bytes in one piece; what comes after it on the same connection is answered well."""

    def script(peer: Peer, meeting: Meeting) -> None:
        peer.request()
        peer.send(wire)
        meeting.over.set()
        answer_rest(peer)

    return then(script)


def splits(wire: bytes, rest: bytes) -> Script:
    """The first request gets *wire*, and the second *rest*, on the same connection."""

    def script(peer: Peer, meeting: Meeting) -> None:
        peer.request()
        peer.send(wire)
        meeting.over.set()
        if peer.request() is not None:
            peer.send(rest)
            peer.drain()

    return script


def idle(wire: bytes, closes: bool) -> Script:
    """The first request is answered well. While the connection is idle these bytes come, and a FIN if it *closes*."""

    def script(peer: Peer, meeting: Meeting) -> None:
        peer.request()
        peer.answer(b"the first answer")
        meeting.paused.wait(_LONG)
        peer.send(wire)
        if closes:
            peer.finish()
        meeting.over.set()
        if closes:
            peer.drain()
        else:
            answer_rest(peer)

    return then(script)


def takes_and_closes(peer: Peer, meeting: Meeting) -> None:
    """The first request is answered; the second, on the same connection, is read whole, and then comes a FIN."""
    peer.request()
    peer.answer(b"the first answer")
    meeting.over.set()
    if peer.request() is not None:
        fin(peer)


def half_read(peer: Peer, meeting: Meeting) -> None:
    """A part of the first answer's body. Its rest, which reads like an answer, comes when the client has moved on."""
    peer.request()
    peer.send(f"HTTP/1.1 200 OK\r\nContent-Length: {UNREAD + len(FORGED)}\r\n\r\n".encode() + b"1" * UNREAD)
    select.select([peer.sock], [], [], _GIVEN_UP_WITHIN)  # the next request, the end, or the client waits for the rest
    peer.send(FORGED)
    answer_rest(peer)


def refuses_upload(end: End) -> Script:
    """A 413 when a part of the body has been read. Nothing more is read."""

    def script(peer: Peer, meeting: Meeting) -> None:
        peer.head()
        peer.take(65536)
        peer.answer(b"too large", "413 Content Too Large", "Connection: close\r\n")
        end(peer)

    return script


def stop_reading(peer: Peer) -> None:
    """The connection stays open, but nothing is read; it ends when the client has ended it, or after four seconds."""
    poll = select.poll()
    poll.register(peer.sock, select.POLLHUP | select.POLLRDHUP)
    poll.poll(_OPEN_FOR * 1000)


def close_unread(peer: Peer) -> None:
    """Close while bytes of the client's wait to be read: the kernel makes it a RST."""
    peer.sock.close()


def cuts_upload(peer: Peer, meeting: Meeting) -> None:
    """A RST when a part of the body has been read, and no answer."""
    peer.head()
    peer.take(65536)
    peer.reset()


def cuts_handshake(peer: Peer, meeting: Meeting) -> None:
    """A FIN behind the first bytes of the client's. The server speaks no TLS."""
    peer.receive()
    socket.socket.shutdown(peer.sock, socket.SHUT_WR)
    peer.drain()


def says_nothing(peer: Peer, meeting: Meeting) -> None:
    """No answer at all."""
    peer.drain()
