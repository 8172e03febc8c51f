"""The two halves of a connection as tables: what may happen in each state, and what state follows.

A move that is not in its table is not allowed, and is a `StateError` for the caller who asked for it. The parser
knows by itself where the receiving half is, so that there is one truth; its table says what may follow. The
halves meet in a few rules, which `protocol.py` keeps: an answer may stop the body that is being sent, and
a response that ends the connection ends the sending too.
"""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import TypeVar

from httpio.exceptions import StateError

__all__ = ["RECEIVING", "SENDING", "Receive", "Receiving", "Send", "Sending", "move"]


class _Name(Enum):
    """Members are found by identity in the tables: the hash that Enum brings is a call into Python."""

    __hash__ = object.__hash__


class Sending(_Name):
    """Where the sending half is."""

    IDLE = "a request may be sent"
    BODY = "the body of a request is being sent"
    LAST_BODY = "the body of the last request is being sent"
    EXPECTING = "the body of a request waits for 100 (Continue)"
    LAST_EXPECTING = "the body of the last request waits for 100 (Continue)"
    HELD = "nothing may follow a CONNECT or an upgrade before its answer"
    DONE = "the last request has been sent"
    REFUSED = "the peer has answered a request whose body it was asked about, and that was not sent"
    STOPPED = "the peer wants nothing more on this connection"
    BROKEN = "sending has failed"


class Send(_Name):
    """What can happen to the sending half."""

    REQUEST = "a request is sent, with all of its body"
    REQUEST_AHEAD = "the head of a request is sent, and its body will follow"
    LAST_REQUEST = "a request with Connection: close is sent, with all of its body"
    LAST_REQUEST_AHEAD = "the head of a request with Connection: close is sent"
    REQUEST_EXPECTING = "the head of a request with Expect: 100-continue is sent"
    LAST_REQUEST_EXPECTING = "the same with Connection: close"
    CONTINUE = "100 (Continue) has come, or is taken as given"
    REFUSE = "a final answer has come in place of 100 (Continue)"
    HANDOVER = "a CONNECT or a request for an upgrade is sent"
    END = "the body has been sent"
    ANSWERED = "the answer to a CONNECT or an upgrade has come, and HTTP goes on"
    STOP = "an answer says that nothing more is wanted"
    FAIL = "the transport failed, or a body could not be sent as declared"


SENDING = MappingProxyType(
    {
        (Sending.IDLE, Send.REQUEST): Sending.IDLE,
        (Sending.IDLE, Send.REQUEST_AHEAD): Sending.BODY,
        (Sending.IDLE, Send.LAST_REQUEST): Sending.DONE,
        (Sending.IDLE, Send.LAST_REQUEST_AHEAD): Sending.LAST_BODY,
        (Sending.IDLE, Send.REQUEST_EXPECTING): Sending.EXPECTING,
        (Sending.IDLE, Send.LAST_REQUEST_EXPECTING): Sending.LAST_EXPECTING,
        (Sending.IDLE, Send.HANDOVER): Sending.HELD,
        (Sending.EXPECTING, Send.CONTINUE): Sending.BODY,
        (Sending.EXPECTING, Send.REFUSE): Sending.REFUSED,
        (Sending.LAST_EXPECTING, Send.CONTINUE): Sending.LAST_BODY,
        (Sending.LAST_EXPECTING, Send.REFUSE): Sending.STOPPED,
        (Sending.BODY, Send.END): Sending.IDLE,
        (Sending.LAST_BODY, Send.END): Sending.DONE,
        (Sending.HELD, Send.ANSWERED): Sending.IDLE,
        **{(state, Send.STOP): Sending.STOPPED for state in Sending if state is not Sending.BROKEN},
        **{(state, Send.FAIL): Sending.BROKEN for state in Sending},
    }
)


class Receiving(_Name):
    """Where the receiving half is."""

    IDLE = "no request is outstanding"
    HEAD = "the next response is awaited"
    BODY = "the body of a response is being read"
    TUNNEL = "the connection speaks another protocol"
    ENDED = "no further response will come on this connection"
    BROKEN = "what was received cannot be understood, or receiving failed"


class Receive(_Name):
    """What can happen to the receiving half."""

    EXPECT = "a request goes out"
    OPEN = "a response is handed out at its head"
    ANSWERED = "a response is complete, and others are awaited"
    ALL_ANSWERED = "the last outstanding response is complete"
    SWITCH = "101, or a CONNECT that was accepted"
    END = "the response that ends the connection is complete, or the peer closed"
    FAIL = "the parser refused what came, or the transport failed"


RECEIVING = MappingProxyType(
    {
        (Receiving.IDLE, Receive.EXPECT): Receiving.HEAD,
        (Receiving.HEAD, Receive.EXPECT): Receiving.HEAD,
        (Receiving.BODY, Receive.EXPECT): Receiving.BODY,
        (Receiving.HEAD, Receive.OPEN): Receiving.BODY,
        (Receiving.HEAD, Receive.ANSWERED): Receiving.HEAD,
        (Receiving.BODY, Receive.ANSWERED): Receiving.HEAD,
        (Receiving.HEAD, Receive.ALL_ANSWERED): Receiving.IDLE,
        (Receiving.BODY, Receive.ALL_ANSWERED): Receiving.IDLE,
        (Receiving.HEAD, Receive.SWITCH): Receiving.TUNNEL,
        (Receiving.IDLE, Receive.END): Receiving.ENDED,
        (Receiving.HEAD, Receive.END): Receiving.ENDED,
        (Receiving.BODY, Receive.END): Receiving.ENDED,
        (Receiving.ENDED, Receive.END): Receiving.ENDED,
        **{(state, Receive.FAIL): Receiving.BROKEN for state in Receiving},
    }
)

State = TypeVar("State", bound=Enum)
Event = TypeVar("Event", bound=Enum)


def move(table: MappingProxyType[tuple[State, Event], State], state: State, event: Event) -> State:
    """The state that follows; StateError, which says why, where the table has no such move."""
    try:
        return table[state, event]
    except KeyError:
        raise StateError(f"not possible now: {state.value}") from None
