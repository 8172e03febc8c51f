"""The two tables: every pair of a state and an event is a move or a StateError."""

import re

import pytest

from httpio.exceptions import StateError
from httpio.states import RECEIVING, SENDING, Receive, Receiving, Send, Sending, move

# Written down a second time, by state; FAIL, which is possible everywhere, and STOP are below.
SENDS = {
    "IDLE": {
        "REQUEST": "IDLE",
        "REQUEST_AHEAD": "BODY",
        "LAST_REQUEST": "DONE",
        "LAST_REQUEST_AHEAD": "LAST_BODY",
        "REQUEST_EXPECTING": "EXPECTING",
        "LAST_REQUEST_EXPECTING": "LAST_EXPECTING",
        "HANDOVER": "HELD",
    },
    "BODY": {"END": "IDLE"},
    "LAST_BODY": {"END": "DONE"},
    "EXPECTING": {"CONTINUE": "BODY", "REFUSE": "REFUSED"},
    "LAST_EXPECTING": {"CONTINUE": "LAST_BODY", "REFUSE": "STOPPED"},
    "HELD": {"ANSWERED": "IDLE"},
    "DONE": {},
    "REFUSED": {},
    "STOPPED": {},
    "BROKEN": {},
}
RECEIVES = {
    "IDLE": {"EXPECT": "HEAD", "END": "ENDED"},
    "HEAD": {
        "EXPECT": "HEAD",
        "OPEN": "BODY",
        "ANSWERED": "HEAD",
        "ALL_ANSWERED": "IDLE",
        "SWITCH": "TUNNEL",
        "END": "ENDED",
    },
    "BODY": {"EXPECT": "BODY", "ANSWERED": "HEAD", "ALL_ANSWERED": "IDLE", "END": "ENDED"},
    "TUNNEL": {},
    "ENDED": {"END": "ENDED"},
    "BROKEN": {},
}


@pytest.mark.parametrize("state", Sending, ids=lambda state: state.name)
@pytest.mark.parametrize("event", Send, ids=lambda event: event.name)
def test_sending(state, event):
    wanted = SENDS[state.name].get(event.name)
    if event is Send.FAIL:
        wanted = "BROKEN"
    elif event is Send.STOP and state is not Sending.BROKEN:
        wanted = "STOPPED"
    assert_move(SENDING, state, event, wanted and Sending[wanted])


@pytest.mark.parametrize("state", Receiving, ids=lambda state: state.name)
@pytest.mark.parametrize("event", Receive, ids=lambda event: event.name)
def test_receiving(state, event):
    wanted = "BROKEN" if event is Receive.FAIL else RECEIVES[state.name].get(event.name)
    assert_move(RECEIVING, state, event, wanted and Receiving[wanted])


def assert_move(table, state, event, wanted):
    if wanted:
        assert move(table, state, event) is wanted
    else:
        assert (state, event) not in table
        with pytest.raises(StateError, match=re.escape(f"not possible now: {state.value}")) as caught:
            move(table, state, event)
        assert caught.value.__cause__ is None


def test_the_tables_cannot_be_changed():
    for table in (SENDING, RECEIVING):
        with pytest.raises(TypeError):
            table[next(iter(table))] = None


def test_every_state_can_be_reached_and_every_event_happens():
    for table, states, events, start in (
        (SENDING, Sending, Send, Sending.IDLE),
        (RECEIVING, Receiving, Receive, Receiving.IDLE),
    ):
        assert {start, *table.values()} == set(states)
        assert {event for _, event in table} == set(events)


def test_each_state_and_event_says_what_it_is():
    for kind in (Sending, Send, Receiving, Receive):
        texts = [member.value for member in kind]
        assert len(set(texts)) == len(texts)
        assert all(isinstance(text, str) and len(text) > 10 for text in texts)
