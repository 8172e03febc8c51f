"""An HTTP/1.1 client for those who move many objects: pipelined, strict, parsed in C by llhttp."""

from httpio.bulk.engine import fetch
from httpio.bulk.report import Result
from httpio.connection import HTTPConnection
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
)
from httpio.headers import CaseInsensitiveDict, Headers
from httpio.link import BUFFER_SIZE
from httpio.messages import BodyFollowing, HTTPResponse, Lenient, Limits, Request
from httpio.version import VERSION as __version__
from httpio.waiting import POLLIN, POLLOUT, PollNeeded, eval_coroutine

__all__ = [
    "BUFFER_SIZE",
    "POLLIN",
    "POLLOUT",
    "BodyFollowing",
    "CaseInsensitiveDict",
    "ConnectionClosed",
    "ConnectionTimedOut",
    "DNSUnavailable",
    "ExcessBodyData",
    "HTTPConnection",
    "HTTPError",
    "HTTPResponse",
    "Headers",
    "HostnameNotResolvable",
    "InvalidResponse",
    "InvalidURL",
    "Lenient",
    "Limits",
    "PollNeeded",
    "Request",
    "Result",
    "StateError",
    "Unanswered",
    "UnsupportedResponse",
    "__version__",
    "eval_coroutine",
    "fetch",
]
