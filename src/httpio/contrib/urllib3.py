"""httpio.client under urllib3 (1.26 and 2), by the convention of its own `contrib`: inject, extract.

    import httpio.contrib.urllib3
    httpio.contrib.urllib3.inject_into_urllib3()

urllib3's connections derive from ``http.client.HTTPConnection``. A class that stands between the two, `httpio.client`'s
first and http.client's behind it, takes over all that they ask their base for, and they stay instances of both.
`inject_into_urllib3` puts it there for every connection class that there is, those of others (botocore's, PySocks')
too; `pool_class` makes pools that use it, and leaves the others alone.

ImportError: what is installed as urllib3 is not built on http.client.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

import urllib3.connection

import httpio.client as ours
from httpio.client import HTTPConnection, HTTPResponse, IncompleteRead

__all__ = ["extract_from_urllib3", "inject_into_urllib3", "pool_class"]

_module: Any = urllib3.connection
_plain: Any = _module.HTTPConnection
_BASE: Any = _plain.__bases__[0]
"""http.client's; httpio's already where urllib3 was imported under `httpio.dropin`."""
_IS_THERE = issubclass(_BASE, HTTPConnection)
if not _IS_THERE and "http.client" not in [one.__module__ for one in _BASE.__mro__]:
    raise ImportError("urllib3.connection.HTTPConnection is not derived from http.client's")
_standard: dict[str, Any] = IncompleteRead.__init__.__globals__
"""The names of http.client itself, whatever ``sys.modules`` says: programs set some of them."""
_lock = threading.Lock()


class _OfBase:
    """What programs set in http.client's class, and mean all connections by it."""

    def __set_name__(self, owner: Any, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: Any) -> Any:
        return getattr(_BASE, self._name)


def _say(self: object, *words: object) -> None:
    _standard.get("print", print)(*words)


class _Response(HTTPResponse):
    """Under the limits that are set in http.client."""

    _say = _say

    def _allowed(self) -> tuple[int, int, int]:
        return _standard["_MAXLINE"], _standard["_MAXHEADERS"], ours._MAXINTERIMRESPONSES


def _list_added() -> dict[str, Any]:
    """What `httpio.client`'s connections have and http.client's have not, or the other way round."""
    added = {name: value for one in HTTPConnection.__mro__[-2::-1] for name, value in vars(one).items()}
    for one in (_BASE, HTTPConnection):
        added |= vars(one("localhost"))
    common = vars(_BASE("localhost")).keys() & vars(HTTPConnection("localhost")).keys()
    return {name: value for name, value in added.items() if name not in common and not hasattr(_BASE, name)}


_Added: Any = type("_Added", (), _list_added())
"""The last base of connections whose base is changed: they may have been made under the other one, and be at work."""


class _Between(HTTPConnection, *(() if _IS_THERE else (_BASE, _Added))):  # type: ignore[misc]
    """The base of urllib3's connections."""

    response_class = _Response
    auto_open: Any = _OfBase()
    debuglevel: Any = _OfBase()
    _http_vsn: Any = _OfBase()
    _http_vsn_str: Any = _OfBase()
    _say = _say


class _Direct:
    """urllib3 1.26 calls some methods of its base by the name of http.client's class: those of a derived class."""

    def putrequest(self, method: str, url: str, *args: Any, **options: Any) -> None:
        own: Any = self
        _Between.putrequest(own, method, url, *args, **options)

    def putheader(self, header: Any, *values: Any) -> None:
        own: Any = self
        if _module.SKIP_HEADER in [value for value in values if isinstance(value, str)]:
            super().putheader(header, *values)  # type: ignore[misc]
        else:
            _Between.putheader(own, header, *values)


_CALLS_DIRECTLY = "_HTTPConnection" in _plain.__init__.__code__.co_names


def inject_into_urllib3() -> None:
    """Put httpio under all connections of urllib3, also under those that are open. Twice is as once.

    Other threads may be in the middle of a request.
    """
    with _lock:
        _set_base(_Between, _Between)


def extract_from_urllib3() -> None:
    """Put http.client back. Connections that are open go on with it. Without `inject_into_urllib3` nothing happens."""
    with _lock:
        if _Between in _plain.__bases__:
            _set_base(_BASE, _BASE, _Added)


def _set_base(called: Any, *bases: Any) -> None:
    if not _IS_THERE:
        _plain.__bases__ = (*bases, *(one for one in _plain.__bases__ if one not in (_BASE, _Between, _Added)))
        _module._HTTPConnection = called  # by 1.26


@cache
def pool_class(pool: Any) -> Any:
    """A class derived from *pool*, one of urllib3's connection pools, whose connections have httpio under them.

    It is *pool* itself where they have it already, whatever is injected or extracted.
    """
    own = _connection_class(pool.ConnectionCls)
    return pool if own is pool.ConnectionCls else type(pool.__name__, (pool,), {"ConnectionCls": own})


@cache
def _connection_class(connection: Any) -> Any:
    if _IS_THERE or any(_Between in one.__bases__ for one in connection.__mro__ if one is not _plain):
        return connection
    bases = (_Direct, connection, _Between) if _CALLS_DIRECTLY else (connection, _Between)
    return type(connection.__name__, bases, {})
