"""Every fault of `make faults`, played to httpio in this process; docs/faults.md says the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import page
import playing
from clients import CLIENTS, Answer, Failure
from conftest import Authority
from menu import SCENARIOS
from playing import LOST, RIGHT, TOOK, WRONG, Keys, Times, judge, play_here

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
FACES = ["httpio", "httpio asyncio"]

CLOSED, INVALID, TIMED_OUT = "ConnectionClosed", "InvalidResponse", "ConnectionTimedOut"
EXPECTED = {
    "length-fin": CLOSED,
    "length-rst": CLOSED,
    "length-tls": CLOSED,
    "chunk-fin": CLOSED,
    "no-last-chunk": CLOSED,
    "trailer-fin": CLOSED,
    "close-rst": CLOSED,
    "close-tls": CLOSED,
    "status-fin": CLOSED,
    "head-fin": CLOSED,
    "nothing-fin": CLOSED,
    "nothing-rst": CLOSED,
    "handshake-fin": CLOSED,
    "upload-rst": CLOSED,
    "gzip-cut": INVALID,
    "gzip-no-sum": INVALID,
    "gzip-members": "ok",
    "two-lengths": INVALID,
    "no-number": INVALID,
    "length-chunked": INVALID,
    "chunked-tab": "ok",
    "gzip-chunked": "UnsupportedResponse",
    "long-chunk": INVALID,
    "surplus": "ok",
    "bare-lf": INVALID,
    "not-http": INVALID,
    "idle-fin": CLOSED,
    "post-fin": CLOSED,
    "forged-behind": CLOSED,
    "forged-idle": CLOSED,
    "split-answer": CLOSED,
    "idle-408": CLOSED,
    "head-body": CLOSED,
    "204-body": CLOSED,
    "half-read": "ok",
    "early-413-open": "ok",
    "early-413-rst": "ok",
    "103": "ok",
    "interim-flood": INVALID,
    "header-flood": INVALID,
    "extension-flood": INVALID,
    "trailer-flood": INVALID,
    "silence": TIMED_OUT,
    "drip-head": TIMED_OUT,
    "drip-body": TIMED_OUT,
}

SHORT, RESET = "IncompleteRead", "ConnectionResetError"
AS_HTTP_CLIENT = EXPECTED | {
    **dict.fromkeys(("length-fin", "length-tls", "chunk-fin", "no-last-chunk", "trailer-fin", "close-tls"), SHORT),
    **dict.fromkeys(("status-fin", "head-fin", "long-chunk", "trailer-flood"), SHORT),
    **dict.fromkeys(("length-rst", "close-rst", "nothing-rst", "upload-rst"), RESET),
    **dict.fromkeys(("nothing-fin", "post-fin"), "RemoteDisconnected"),
    **dict.fromkeys(("gzip-cut", "gzip-no-sum", "gzip-members"), "(raw)"),
    **dict.fromkeys(("two-lengths", "no-number", "length-chunked", "interim-flood", "header-flood"), "HTTPException"),
    **dict.fromkeys(("bare-lf", "idle-fin", "idle-408", "head-body", "204-body"), "ok"),
    **dict.fromkeys(("forged-behind", "forged-idle", "split-answer"), "ok"),
    **dict.fromkeys(("drip-head", "drip-body"), "no end in 10 s"),
    "handshake-fin": "SSLEOFError",
    "gzip-chunked": "UnknownTransferEncoding",
    "not-http": "BadStatusLine",
    "extension-flood": "LineTooLong",
    "early-413-open": "refused, ConnectionTimedOut",
    "early-413-rst": "refused, ConnectionResetError",
}
"""Of httpio.client, whose exceptions have http.client's names, and which has no limit for a whole exchange."""


@pytest.fixture(scope="module")
def keys(authority: Authority) -> Keys:
    return Keys(authority.ca, authority.chain, authority.key)


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("name", BY_NAME)
def test_httpio_is_right(name: str, face: str, keys: Keys) -> None:
    """Nothing that is wrong is delivered, nothing that is good is refused, no flood is taken, all comes to an end."""
    scenario = BY_NAME[name]
    # Where the client's limits are what ends it they may be short; else they must not come into it.
    times = Times(0.5, 0.8) if scenario.slow else Times(20.0, 30.0)
    cell = play_here(face, scenario, keys, times)
    assert (cell.text, cell.verdict) == (EXPECTED[name], RIGHT), cell.detail
    if scenario.gone:
        assert cell.gone == CLOSED


@pytest.mark.parametrize("name", [name for name, text in AS_HTTP_CLIENT.items() if not text.startswith("no end")])
def test_the_drop_in_is_right(name: str, keys: Keys) -> None:
    """But for the answer that comes while a body goes out, which http.client's interface has no place for."""
    scenario = BY_NAME[name]
    times = Times(0.5, 0.8) if scenario.slow or name.startswith("early") else Times(20.0, 30.0)
    cell = play_here("httpio.client", scenario, keys, times)
    lost = {"early-413-open": {LOST}, "early-413-rst": {LOST, RIGHT}}  # which may come before the RST
    assert cell.verdict in lost.get(name, {RIGHT})
    assert cell.text == AS_HTTP_CLIENT[name] or name == "early-413-rst"


def test_the_page_says_what_was_found_of_the_drop_in() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    found = page.read(text, "httpio.client")
    assert found.pop("early-413-rst") in ("refused, ConnectionResetError", "refused, BrokenPipeError", "ok")
    assert found == {name: text for name, text in AS_HTTP_CLIENT.items() if name != "early-413-rst"}
    assert re.search(r"\n\| httpio.client \| 0 \| [12] \| 0 \| 2 \| 4: ", text)


@pytest.mark.parametrize("face", FACES)
def test_the_page_says_what_was_found(face: str) -> None:
    assert page.read(page.PAGE.read_text(encoding="utf-8"), face) == EXPECTED


def test_the_page_has_every_client() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    for name in CLIENTS:
        assert set(page.read(text, name)) in (set(BY_NAME), set())  # without a column it is among those not run
        assert f"\n| {name} | " in text


def test_the_page_says_how_many_exceptions_there_are() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    for face in FACES:
        assert f"| {face} | 0 | 0 | 0 | 0 | 1: ConnectionClosed |" in text


def test_names_and_titles_are_unique() -> None:
    assert len(SCENARIOS) == len(BY_NAME) == len({scenario.title for scenario in SCENARIOS})


# -- how an outcome is judged --


def judged(name: str, *outcomes: Answer | Failure, posts: int = 0) -> tuple[str, str]:
    text, verdict, *_ = judge(BY_NAME[name], list(outcomes), posts)
    return text, verdict


FIRST, SECOND = Answer(200, b"the first answer"), Answer(200, b"the second answer")
LOSS = Failure("Lost", "the connection was lost")


def test_what_is_cut_and_delivered_is_wrong() -> None:
    assert judged("length-fin", Answer(200, b"h" * 500)) == ("**ok 500**", WRONG)
    assert judged("close-tls", Answer(200, b"h" * 500)) == ("**ok 500**", WRONG)
    assert judged("length-fin", LOSS) == ("Lost", RIGHT)


def test_a_coded_body_may_be_delivered_as_it_came() -> None:
    truth = BY_NAME["gzip-cut"].truths[0]
    assert truth.coded is not None
    assert judged("gzip-cut", Answer(200, truth.coded)) == ("(raw)", RIGHT)
    assert judged("gzip-cut", Answer(200, b"text")) == ("**ok 4**", WRONG)


def test_a_good_answer_that_is_refused_is_lost() -> None:
    assert judged("surplus", LOSS) == ("refused, Lost", LOST)
    assert judged("forged-behind", LOSS) == ("at the first answer: refused, Lost", LOST)
    assert judged("forged-behind", FIRST, LOSS) == ("Lost", RIGHT)


def test_an_answer_that_belongs_to_nobody_is_wrong() -> None:
    assert judged("forged-idle", FIRST, Answer(200, b"forged")) == ("**a forged answer**", WRONG)
    assert judged("idle-408", FIRST, Answer(408, b"")) == ("**ok, status 408**", WRONG)
    assert judged("idle-fin", FIRST, SECOND) == ("ok", RIGHT)


def test_a_post_that_is_repeated_is_wrong() -> None:
    assert judged("post-fin", FIRST, SECOND, posts=2) == ("**sent 2 times**", WRONG)
    assert judged("post-fin", FIRST, LOSS, posts=2) == ("**sent 2 times, then Lost**", WRONG)
    assert judged("post-fin", FIRST, LOSS, posts=1) == ("Lost", RIGHT)


def test_a_flood_that_is_taken_is_said() -> None:
    assert judged("header-flood", Answer(200, b"hello")) == ("took 16 MiB", TOOK)
    assert judged("header-flood", Answer(200, b"other")) == ("**ok 5**", WRONG)


# -- processes --


def test_a_process_that_does_not_end_is_ended(keys: Keys, tmp_path: Path) -> None:
    """One that answers nothing, and one that dies."""
    stuck, dead = tmp_path / "stuck", tmp_path / "dead"
    stuck.write_text("#!/bin/sh\necho '\"1\"'\nexec sleep 60\n")
    dead.write_text("#!/bin/sh\necho '\"1\"'\nread line\nexit 3\n")
    for program, limit, text in ((stuck, 0.2, "no end in 0.2 s"), (dead, 30.0, "died (3)")):
        program.chmod(0o700)
        cell = playing.play_apart("httpio", program, BY_NAME["length-fin"], keys, Times(limit=limit))
        assert cell.text == text
