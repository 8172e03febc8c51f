"""`headers` of a response: what `email.parser` would make of the same fields, whatever is done with it."""

from __future__ import annotations

import copy
import email.message
import email.policy
import http.client as standard
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import corpus
from client_ways import Buffered
from httpio.client import HTTPMessage, HTTPResponse

Fields = list[tuple[str, str]]


def section(fields: Fields) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in fields).encode("latin-1") + b"\r\n"


def lazy(fields: Fields) -> Any:
    """The headers of a response with these fields."""
    response = HTTPResponse(Buffered([b"HTTP/1.1 200 OK\r\n" + section(fields)]))
    response.begin()
    return response.headers


def parsed(fields: Fields) -> Any:
    """The same, as http.client parses them."""
    return standard.parse_headers(io.BytesIO(section(fields)))


FIELDS: Fields = [
    ("Content-Type", 'text/html; charset="utf-8"; x=1'),
    ("Set-Cookie", "a=b"),
    ("X-Latin", "caf\xe9 \x85 \xa0"),
    ("set-cookie", "c=d"),
    ("Content-Disposition", 'attachment; filename="a b.txt"'),
    ("Empty", ""),
    ("X-Encoded", "=?utf-8?q?caf=C3=A9?="),
]


def state(message: Any) -> list[Any]:
    """All that can be seen of it."""
    return [
        message.items(), message.keys(), message.values(), list(message), len(message), str(message),
        message.as_string(), message.defects, message.get_payload(), message.is_multipart(), message.preamble,
        message.epilogue, message.get_unixfrom(), message.get_charset(), list(message.raw_items()), dict(message),
        message.get_content_type(), message.get_content_charset(), message.get_params(), message.get_filename(),
        message.get_boundary(), message.get_content_disposition(), message.get_charsets(), type(message.policy),
        message.get_default_type(), [part.get_content_type() for part in message.walk()],
        [message.getallmatchingheaders(name) for name in ("x-a", "Set-Cookie")],
        message.policy == email.policy.compat32,
    ]  # fmt: skip


def test_it_is_an_HTTPMessage() -> None:
    message = lazy(FIELDS)
    assert isinstance(message, HTTPMessage)
    assert isinstance(message, email.message.Message)
    assert state(message) == state(parsed(FIELDS))
    assert state(message) == state(parsed(FIELDS))


def test_each_name_in_each_case() -> None:
    one, other = lazy(FIELDS), parsed(FIELDS)
    for name in [name for name, _ in FIELDS] + ["absent"]:
        for key in (name, name.lower(), name.upper()):
            assert one[key] == other[key]
            assert (key in one) == (key in other)
            assert one.get(key, 5) == other.get(key, 5)
            assert one.get_all(key) == other.get_all(key)
            assert one.get_all(key, 5) == other.get_all(key, 5)
            assert type(one[key]) is type(other[key])


@pytest.mark.parametrize(
    "row",
    [
        row
        for row in corpus.responses()
        if row["expect"] == "ok" and "requests" not in row and row["group"] != "interim"
    ],
    ids=lambda row: str(row["id"]),
)
def test_every_good_row(row: corpus.Row) -> None:
    """But for blanks behind a value, which are no part of it (RFC 9112 section 5.1), and http.client keeps."""
    found = HTTPResponse(Buffered([corpus.wire(row)]), method=row["request"])
    found.begin()
    expected = standard.HTTPResponse(Buffered([corpus.wire(row)]), method=row["request"])  # type: ignore[arg-type]
    try:
        expected.begin()
    except standard.HTTPException as exc:  # with 100 fields: it counts the empty line, too
        assert row["group"] == "limits"
        pytest.skip(repr(exc))
    finally:
        expected.close()
    wanted = [(name, value.rstrip(" \t")) for name, value in expected.headers.items()]
    assert found.headers.items() == wanted
    assert found.getheaders() == wanted
    assert found.headers.defects == []


COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{
        f"pickle {number}": lambda message, number=number: pickle.loads(pickle.dumps(message, number))
        for number in range(6)
    },
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("looked", [False, True], ids=["at once", "after a look"])
def test_copies(how: str, looked: bool) -> None:
    message = lazy(FIELDS)
    if looked:
        assert message["content-type"]
    again = COPIES[how](message)
    assert isinstance(again, HTTPMessage)
    assert state(again) == state(message) == state(parsed(FIELDS))
    again["X-New"] = "1"
    again.replace_header("Empty", "full")
    assert again["x-new"] == "1"
    if how == "copy":  # which shares the list, as a copy of any Message
        assert message["X-New"] == copy.copy(parsed(FIELDS)).get("X-New", "1")
    else:
        assert state(message) == state(parsed(FIELDS))


def test_a_response_may_be_read_and_gone_before_the_first_look() -> None:
    response = HTTPResponse(Buffered([b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n" + section(FIELDS) + b"x"]))
    response.begin()
    message = response.msg
    assert response.read() == b"x"
    response.close()
    del response
    assert message.items() == [("Content-Length", "1"), *FIELDS]


def test_msg_may_be_replaced() -> None:
    """urllib.request puts the reason there."""
    response = HTTPResponse(Buffered([b"HTTP/1.1 200 OK\r\n" + section(FIELDS)]))
    response.begin()
    response.msg = response.reason
    assert response.getheader("empty") == ""
    assert response.info() is response.headers


@pytest.mark.parametrize("policy", [email.policy.default, email.policy.HTTP, email.policy.SMTP, email.policy.compat32])
def test_another_policy(policy: Any) -> None:
    for looked in (False, True):
        one, other = lazy(FIELDS), parsed(FIELDS)
        if looked:
            assert one["Empty"] == ""
        one.policy = other.policy = policy
        for name in ("Content-Type", "X-Encoded", "Empty", "absent"):
            assert (type(one[name]).__name__, str(one[name])) == (type(other[name]).__name__, str(other[name]))
            assert str(one.get(name)) == str(other.get(name))
        assert [str(value) for value in one.values()] == [str(value) for value in other.values()]
        for way in ("as_string", "as_bytes", "__bytes__"):
            assert outcome(one, way) == outcome(other, way)


def outcome(message: Any, way: str) -> Any:
    """Text that is not ASCII cannot always be written."""
    try:
        return getattr(message, way)()
    except UnicodeError as exc:
        return type(exc)


def test_as_bytes() -> None:
    assert outcome(lazy(FIELDS), "as_bytes") == outcome(parsed(FIELDS), "as_bytes")
    assert lazy(FIELDS[:2]).as_bytes() == parsed(FIELDS[:2]).as_bytes()


NAMES = st.sampled_from(["A", "a", "B", "X-Long", "x-long", "Content-Type", "CONTENT-TYPE", "Set-Cookie", "None"])
VALUES = st.sampled_from(["", "1", "two", "caf\xe9", "text/plain; charset=x", "\udce9", "b=c"])
STEPS: dict[str, Callable[..., Any]] = {
    "get": lambda message, name, value: message.get(name, value),
    "item": lambda message, name, value: message[name],
    "in": lambda message, name, value: name in message,
    "get_all": lambda message, name, value: message.get_all(name),
    "set": lambda message, name, value: message.__setitem__(name, value),
    "delete": lambda message, name, value: message.__delitem__(name),
    "add_header": lambda message, name, value: message.add_header(name, value, x="y"),
    "replace_header": lambda message, name, value: message.replace_header(name, value),
    "set_param": lambda message, name, value: message.set_param("p", value.strip("\udce9")),
    "del_param": lambda message, name, value: message.del_param("charset"),
    "set_type": lambda message, name, value: message.set_type("text/csv"),
    "set_raw": lambda message, name, value: message.set_raw(name, value),
    "payload": lambda message, name, value: message.set_payload(value),
    "charset": lambda message, name, value: str(message.set_charset(None)),
    "headers": lambda message, name, value: message._headers.append((name, value)),
    "swap": lambda message, name, value: setattr(message, "_headers", message._headers[::-1]),
    "setdefault": lambda message, name, value: message._headers.insert(0, (name, value)),
}


@settings(max_examples=400, deadline=None)
@given(
    fields=st.lists(st.tuples(NAMES, VALUES.filter(lambda value: "\udce9" not in value)), max_size=6),
    steps=st.lists(st.tuples(st.sampled_from(sorted(STEPS)), NAMES, VALUES), max_size=12),
)
def test_any_steps(fields: Fields, steps: list[tuple[str, str, str]]) -> None:
    def play(message: Any) -> list[Any]:
        log: list[Any] = []
        for step, name, value in steps:
            try:
                found = STEPS[step](message, name, value)
            except (KeyError, ValueError, TypeError, AttributeError) as exc:
                found = type(exc)
            log.append([str(value) for value in found] if isinstance(found, list) else str(found))
            log.append([str(message[key]) for key in ("A", "Content-Type", "set-cookie")])
            log.append([str(value) for value in message.values()])
        log.append([(name, str(value)) for name, value in message.items()])
        return log

    assert play(lazy(fields)) == play(parsed(fields))


def test_reading_costs_no_parse() -> None:
    """What nobody looks at is not made."""
    message = lazy(FIELDS)
    assert "_headers" not in vars(message)
    assert message["empty"] == ""
    assert "_headers" in vars(message)
