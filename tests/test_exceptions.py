"""The tree of errors: families, facts, sentences, and what pickling keeps."""

import copy
import errno
import pickle
import socket
import ssl

import pytest

from httpio import exceptions
from httpio.exceptions import (
    ConnectionClosed,
    ConnectionTimedOut,
    DNSUnavailable,
    ExcessBodyData,
    HostnameNotResolvable,
    HTTPError,
    InvalidResponse,
    InvalidURL,
    StateError,
    Unanswered,
    UnsupportedResponse,
    is_temp_network_error,
    quote,
)

PLAIN = [
    HTTPError,
    ConnectionClosed,
    ConnectionTimedOut,
    ExcessBodyData,
    InvalidResponse,
    InvalidURL,
    StateError,
    UnsupportedResponse,
]
NAMES = [HostnameNotResolvable, DNSUnavailable]


@pytest.mark.parametrize(
    ("kind", "family"),
    [
        (ConnectionClosed, ConnectionError),
        (ConnectionTimedOut, TimeoutError),
        (InvalidURL, ValueError),
        *[(kind, HTTPError) for kind in PLAIN + NAMES],
    ],
)
def test_each_error_belongs_to_its_families(kind, family):
    assert issubclass(kind, family)


def test_only_the_two_losses_are_errors_of_the_operating_system():
    assert [kind for kind in PLAIN + NAMES if issubclass(kind, OSError)] == [
        ConnectionClosed,
        ConnectionTimedOut,
    ]


@pytest.mark.parametrize("kind", PLAIN)
def test_without_a_message_the_class_has_one_of_its_own(kind):
    assert str(kind()).endswith(".")
    assert len({str(other()) for other in PLAIN}) == len(PLAIN)
    assert str(kind("what happened")) == "what happened"


@pytest.mark.parametrize("kind", PLAIN)
def test_facts_are_attributes_with_defaults(kind):
    error = kind("x")
    assert (error.where, error.received, error.expected, error.outstanding) == (None, None, None, ())


@pytest.mark.parametrize("kind", [ConnectionClosed, ConnectionTimedOut])
def test_a_loss_has_no_number_from_the_operating_system(kind):
    error = kind("two words")
    assert error.args == ("two words",)
    assert error.errno is None
    assert error.strerror is None
    assert error.filename is None


@pytest.mark.parametrize("again", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
@pytest.mark.parametrize("kind", PLAIN + NAMES)
def test_a_copy_has_the_same_facts(kind, again):
    error = kind(
        "example.com",
        where="in body",
        received=5,
        expected=7,
        outstanding=[Unanswered("/a", "answering", False), Unanswered("/b", "unsent", True)],
    )
    other = again(error)
    assert type(other) is kind
    assert str(other) == str(error)
    assert vars(other) == vars(error)
    assert other.outstanding[1].state == "unsent"


@pytest.mark.parametrize("kind", NAMES)
def test_a_failed_look_up_tells_the_name_safely(kind):
    error = kind("evil\x1b[31m\n.example")
    assert error.name == "evil\x1b[31m\n.example"
    assert error.where == "connecting"
    assert str(error).isprintable()
    assert "evil" in str(error)


def test_the_docstring_draws_every_class():
    for name in exceptions.__all__:
        kind = getattr(exceptions, name)
        if isinstance(kind, type) and issubclass(kind, Exception):
            assert f"+-- {name}" in exceptions.__doc__


@pytest.mark.parametrize("text", ["a\r\nb", "caf\u00e9 \u202e", b"\x00\xff", "x" * 1000, b"x" * 1000])
def test_quoted_text_is_short_and_printable_ascii(text):
    shown = quote(text)
    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) < 64 + 8 + 64 * 5
    assert shown.endswith("...") == (len(text) > 64)


@pytest.mark.parametrize(
    "name",
    [
        *["EAGAIN", "EHOSTDOWN", "EHOSTUNREACH", "EINTR", "ENETDOWN", "ENETRESET", "ENETUNREACH", "ENOLINK", "ENONET"],
        *["ENOTCONN", "ENXIO", "EPIPE", "EREMCHG", "ESHUTDOWN", "ETIMEDOUT"],
        *["ECONNABORTED", "ECONNREFUSED", "ECONNRESET"],
    ],
)
def test_numbers_that_may_not_last(name):
    if not hasattr(errno, name):
        pytest.skip(f"the system has no {name}")
    assert is_temp_network_error(OSError(getattr(errno, name), "x"))


@pytest.mark.parametrize(
    "error",
    [
        ConnectionClosed(),
        ConnectionTimedOut(),
        DNSUnavailable("h"),
        ConnectionError("x"),
        TimeoutError("x"),
        InterruptedError("x"),
        ssl.SSLZeroReturnError(6, "x"),
        ssl.SSLEOFError(8, "x"),
        ssl.SSLSyscallError(5, "x"),
        socket.gaierror(socket.EAI_AGAIN, "x"),
    ],
    ids=repr,
)
def test_errors_that_may_not_last(error):
    assert is_temp_network_error(error)


@pytest.mark.parametrize(
    "error",
    [
        HTTPError(),
        InvalidResponse(),
        UnsupportedResponse(),
        StateError(),
        ExcessBodyData(),
        InvalidURL(),
        HostnameNotResolvable("h"),
        OSError("x"),
        *(OSError(number, "x") for number in (errno.ENOENT, errno.EACCES, errno.EMFILE, errno.EADDRNOTAVAIL)),
        ssl.SSLError(1, "x"),
        ssl.SSLWantReadError(2, "x"),
        ssl.SSLCertVerificationError(1, "x"),
        *(socket.gaierror(number, "x") for number in (socket.EAI_NONAME, socket.EAI_FAIL, errno.EPIPE)),
        ValueError("x"),
        KeyboardInterrupt(),
    ],
    ids=repr,
)
def test_errors_that_will_last(error):
    assert not is_temp_network_error(error)


def test_only_the_error_itself_is_looked_at():
    error = InvalidResponse()
    error.__cause__ = error.__context__ = ConnectionResetError()
    assert not is_temp_network_error(error)
