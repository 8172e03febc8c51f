"""The header section of a response as an `email.message.Message`, made of the parser's fields when someone looks."""

from __future__ import annotations

from collections.abc import Callable
from email.policy import compat32
from http.client import HTTPMessage
from typing import Any

from httpio._parser import ResponseHead
from httpio.exceptions import InvalidResponse, UnsupportedResponse
from httpio.messages import Lenient, Limits
from httpio.receiving import ReceivingHalf

__all__ = ["LazyMessage", "parsed"]


def _fill(message: LazyMessage) -> list[tuple[str, str]]:
    fields = message._head.fields()
    if message._head.ascii:
        message._seen = fields
        message._count = len(fields)
    return fields


class _Filled:
    """An attribute that is made at the first look and then stands in the instance, where no descriptor is asked."""

    def __init__(self, make: Callable[[Any], object]) -> None:
        self._make = make

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, message: Any, owner: type) -> Any:
        if message is None:
            return self
        value = message.__dict__[self._name] = self._make(message)
        return value


class LazyMessage(HTTPMessage):
    """What `email.parser` would make of a header section without faults, at the cost of what is looked at.

    It is changed, copied and pickled as any other. Its values hold no surrogates unless they were put in, so that
    reading one needs no call of the policy.
    """

    _head: ResponseHead
    _headers: list[tuple[str, Any]] = _Filled(_fill)  # type: ignore[assignment]
    defects: list[Any] = _Filled(lambda message: [])  # type: ignore[assignment]
    policy: Any = compat32
    preamble = epilogue = None
    _unixfrom = _charset = None
    _payload: Any = ""
    _default_type = "text/plain"

    # For as long as no field is added, taken or replaced:
    _seen: list[tuple[str, Any]] | None = None
    """The fields as they were when `_index` was made, ASCII as the policy leaves it."""
    _count = 0
    _index: dict[str, str] | None = None
    """The value of the first field of each name, by the name in lower case."""

    def __init__(self, head: ResponseHead) -> None:
        self._head = head

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_headers": self._headers, "defects": self.defects}
        for name in ("_head", "_seen", "_count", "_index"):
            state.pop(name, None)
        return state

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _empty, (type(self),), self.__getstate__()

    def _plain(self) -> bool:
        """Whether the fields are those that came, and read as they are."""
        fields = self._headers
        return fields is self._seen and len(fields) == self._count and "policy" not in self.__dict__

    def _first(self) -> dict[str, str]:
        if self._index is None:
            self._index = {name.lower(): value for name, value in reversed(self._headers)}
        return self._index

    def replace_header(self, _name: str, _value: Any) -> None:
        super().replace_header(_name, _value)
        self._seen = None

    def __contains__(self, name: Any) -> bool:
        return super().__contains__(name) if not self._plain() else name.lower() in self._first()

    def __getitem__(self, name: str) -> Any:
        return self._first().get(name.lower()) if self._plain() else super().__getitem__(name)

    def get(self, name: str, failobj: Any = None) -> Any:
        return self._first().get(name.lower(), failobj) if self._plain() else super().get(name, failobj)

    def get_all(self, name: str, failobj: Any = None) -> Any:
        if not self._plain():
            return super().get_all(name, failobj)
        wanted = name.lower()
        return [value for field, value in self._headers if field.lower() == wanted] or failobj

    def items(self) -> list[tuple[str, Any]]:
        return self._headers.copy() if self._plain() else super().items()

    def values(self) -> list[Any]:
        return [value for _, value in self._headers] if self._plain() else super().values()


def parsed(section: bytes, limits: Limits) -> LazyMessage | None:
    """A header section that is valid in a response; None for any other, which may still be one to those who are lax."""
    parser = ReceivingHalf(limits, Lenient.UNTIL_CLOSE).parser
    parser.expect(None)
    try:
        parser.feed(b"HTTP/1.1 200\r\n" + section)
    except (InvalidResponse, UnsupportedResponse):
        return None
    heads = parser.take()
    return LazyMessage(heads[0]) if heads else None


def _empty(cls: type[LazyMessage]) -> LazyMessage:
    """The object into which a copy or pickle is put."""
    return cls.__new__(cls)
