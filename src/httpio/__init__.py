"""An HTTP/1.1 client for those who move many objects: pipelined, strict, parsed in C by llhttp."""

from __future__ import annotations

import importlib
import logging
import sys
import types
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import httpio.dial as _dial
from httpio.bulk.engine import fetch
from httpio.bulk.report import Result
from httpio.connection import HTTPConnection
from httpio.content import accept_encoding
from httpio.exceptions import (
    ConnectionClosed,
    ConnectionTimedOut,
    DNSUnavailable,
    ExcessBodyData,
    HostnameNotResolvable,
    HTTPError,
    InvalidResponse,
    InvalidURL,
    ProxyError,
    StateError,
    Unanswered,
    UnsupportedResponse,
    is_temp_network_error,
)
from httpio.headers import CaseInsensitiveDict, Headers
from httpio.link import BUFFER_SIZE
from httpio.messages import (
    MAX_HEADER_SIZE,
    MAX_LINE_SIZE,
    BodyFollowing,
    HTTPResponse,
    Lenient,
    Limits,
    Request,
)
from httpio.proxies import Proxy, environment_proxy
from httpio.tls import default_context
from httpio.version import VERSION as __version__
from httpio.waiting import POLLIN, POLLOUT, PollNeeded, eval_coroutine

if TYPE_CHECKING:
    from httpio.aio import AsyncHTTPConnection
    from httpio.bulk.asynchronous import afetch
    from httpio.future import AioFuture

    DNS_TEST_HOSTNAMES: Sequence[tuple[str, int]]

__all__ = [
    "BUFFER_SIZE",
    "DNS_TEST_HOSTNAMES",
    "MAX_HEADER_SIZE",
    "MAX_LINE_SIZE",
    "POLLIN",
    "POLLOUT",
    "AioFuture",
    "AsyncHTTPConnection",
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
    "Proxy",
    "ProxyError",
    "Request",
    "Result",
    "StateError",
    "Unanswered",
    "UnsupportedResponse",
    "__version__",
    "accept_encoding",
    "afetch",
    "default_context",
    "environment_proxy",
    "eval_coroutine",
    "fetch",
    "is_temp_network_error",
]

# asyncio takes long to import, and most programs do without: these are imported when they are asked for.
_USES_ASYNCIO = {
    "AioFuture": "httpio.future",
    "AsyncHTTPConnection": "httpio.aio",
    "afetch": "httpio.bulk.asynchronous",
}

log = logging.getLogger("httpio")
log.addHandler(logging.NullHandler())


class _Facade(types.ModuleType):
    """What an assignment to this module's names is to have an effect on."""

    @property
    def DNS_TEST_HOSTNAMES(self) -> Sequence[tuple[str, int]]:
        return _dial.DNS_TEST_HOSTNAMES

    @DNS_TEST_HOSTNAMES.setter
    def DNS_TEST_HOSTNAMES(self, names: Sequence[tuple[str, int]]) -> None:
        _dial.DNS_TEST_HOSTNAMES = names

    def __getattr__(self, name: str) -> Any:
        module = _USES_ASYNCIO.get(name)
        if module is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(module), name)


sys.modules[__name__].__class__ = _Facade
