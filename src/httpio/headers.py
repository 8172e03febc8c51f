"""Header fields: those of a response (`Headers`), and the caller's own on their way out (`encode_fields`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from functools import lru_cache
from typing import Any, TypeAlias, TypeVar, overload

from httpio.exceptions import quote

__all__ = ["CaseInsensitiveDict", "FieldsLike", "Headers", "encode_fields", "is_token"]

T = TypeVar("T")
V = TypeVar("V")

_TOKEN_BYTES = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# Control bytes but HTAB, and DEL (RFC 9110 section 5.5).
_VALUE_REFUSED = bytes(byte for byte in range(32) if byte != 9) + b"\x7f"


class Headers:
    """The header section (or trailer section) of a response: ordered, multi-valued, case-insensitive,
    read-only.

    It answers as `email.message.Message` does: an absent field is None, a repeated one gives its first value,
    and `get_all` gives every value. ``len()`` counts field lines. Two are equal when they have the same field
    lines, where the case of names and the order of different names do not matter (RFC 9110 section 5.3).
    """

    __slots__ = ("_fields", "_first")

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._fields = tuple(fields)
        # Lower-case name -> first value. Made at the first look-up: many responses are never asked.
        self._first: dict[str, str] | None = None

    def _index(self) -> dict[str, str]:
        first = self._first = {name.lower(): value for name, value in reversed(self._fields)}
        return first

    def __getitem__(self, name: str) -> str | None:
        first = self._first
        return (self._index() if first is None else first).get(name.lower())

    @overload
    def get(self, name: str) -> str | None: ...
    @overload
    def get(self, name: str, failobj: T) -> str | T: ...
    def get(self, name: str, failobj: object = None) -> object:
        """The first value of *name*, or *failobj* when the field is absent."""
        first = self._first
        return (self._index() if first is None else first).get(name.lower(), failobj)

    @overload
    def get_all(self, name: str) -> list[str] | None: ...
    @overload
    def get_all(self, name: str, failobj: T) -> list[str] | T: ...
    def get_all(self, name: str, failobj: object = None) -> object:
        """Every value of *name* in the order received, or *failobj* when the field is absent."""
        if name not in self:
            return failobj
        wanted = name.lower()
        return [value for field, value in self._fields if field.lower() == wanted]

    def keys(self) -> list[str]:
        """The names as received, one per field line."""
        return [name for name, _ in self._fields]

    def values(self) -> list[str]:
        """The values, one per field line."""
        return [value for _, value in self._fields]

    def items(self) -> list[tuple[str, str]]:
        """The field lines as (name, value) pairs."""
        return list(self._fields)

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        first = self._first
        return name.lower() in (self._index() if first is None else first)

    def __len__(self) -> int:
        return len(self._fields)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Headers):
            return NotImplemented
        return self._folded() == other._folded()

    __hash__ = None  # type: ignore[assignment]

    def _folded(self) -> list[tuple[str, str]]:
        return sorted(((name.lower(), value) for name, value in self._fields), key=lambda field: field[0])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self._fields)!r})"


FieldsLike: TypeAlias = (
    Headers
    | Mapping[str, str | bytes | int]
    | Mapping[bytes, str | bytes | int]
    | Iterable[tuple[str | bytes, str | bytes | int]]
    | None
)
"""What callers may pass as header fields."""


class CaseInsensitiveDict(MutableMapping[str, V]):
    """A dict with str keys whose case does not matter; each key is kept in the case it was last set with.

    *data*: a mapping or (key, value) pairs. Equality with any mapping ignores case. The name and the meaning
    are those of the ancestor.
    """

    def __init__(self, data: Mapping[str, V] | Iterable[tuple[str, V]] | None = None, **kwargs: V) -> None:
        self._store: dict[str, tuple[str, V]] = {}
        self.update(() if data is None else data, **kwargs)

    def __getitem__(self, key: str) -> V:
        return self._store[key.lower()][1]

    def __setitem__(self, key: str, value: V) -> None:
        self._store[key.lower()] = (key, value)

    def __delitem__(self, key: str) -> None:
        del self._store[key.lower()]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.lower() in self._store

    def __iter__(self) -> Iterator[str]:
        return (key for key, _ in self._store.values())

    def __len__(self) -> int:
        return len(self._store)

    def lower_items(self) -> Iterator[tuple[str, V]]:
        """The items, with keys in lower case."""
        return ((key, value) for key, (_, value) in self._store.items())

    def copy(self) -> CaseInsensitiveDict[V]:
        """A shallow copy."""
        return type(self)(self)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, CaseInsensitiveDict):
            return dict(self.lower_items()) == dict(other.lower_items())
        if isinstance(other, Mapping):
            return self == CaseInsensitiveDict(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self)!r})"


def is_token(data: bytes) -> bool:
    """True when *data* is a token (RFC 9110 section 5.6.2): what methods and field names are made of."""
    return len(data) > 0 and not data.translate(None, _TOKEN_BYTES)


def encode_fields(headers: FieldsLike) -> list[tuple[bytes, bytes, bytes]]:
    """The caller's header fields, checked and encoded: one (name, name in lower case, value) per field, in
    order.

    *headers*: a mapping or (name, value) pairs. Names are tokens, given as str or bytes. Values are str
    (encoded as Latin-1), bytes or int; whitespace around a value is left out, since it is no part of it (RFC
    9110 section 5.5). What is not allowed is looked for in the encoded bytes. Raises TypeError for a wrong
    type and ValueError for a wrong character; both name the field, and neither shows the value, which may be
    a secret.
    """
    if headers is None:
        return []
    fields: Iterable[tuple[Any, Any]]
    if isinstance(headers, (Headers, Mapping)) or hasattr(headers, "items"):
        fields = headers.items()
    elif isinstance(headers, (str, bytes)):
        raise TypeError("headers must be a mapping or (name, value) pairs, not " + type(headers).__name__)
    else:
        fields = headers
    encoded = []
    for field in fields:
        if not isinstance(field, tuple | list) or len(field) != 2:
            raise TypeError("each header field must be a (name, value) pair, not " + type(field).__name__)
        given, value = field
        # Only str is looked up: the cache would compare b"x" with "x", which python -bb forbids.
        name, lower = _encode_name(given) if isinstance(given, str) else _check_name(given)
        if isinstance(value, str):
            data = _encode_value(name, value)
        elif isinstance(value, bytes):
            data = value
        elif isinstance(value, int) and not isinstance(value, bool):
            data = b"%d" % value
        else:
            kind = type(value).__name__
            raise TypeError(f"header field {_shown(name)}: the value must be str, bytes or int, not {kind}")
        data = data.strip(b" \t")
        if len(data.translate(None, _VALUE_REFUSED)) != len(data):
            raise _refused_value(name, data)
        encoded.append((name, lower, data))
    return encoded


@lru_cache(maxsize=1024)
def _encode_name(name: str) -> tuple[bytes, bytes]:
    try:
        data = name.encode("ascii")
    except UnicodeEncodeError:
        raise ValueError(f"header field name {quote(name)} holds a character outside ASCII") from None
    return _check_name(data)


def _check_name(name: object) -> tuple[bytes, bytes]:
    if not isinstance(name, bytes):
        raise TypeError("a header field name must be str or bytes, not " + type(name).__name__)
    if not is_token(name):
        reason = "holds a character that is not allowed there" if name else "is empty"
        raise ValueError(f"header field name {_shown(name)} {reason}")
    return name, name.lower()


def _encode_value(name: bytes, value: str) -> bytes:
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError as exc:
        position, character = exc.start, ord(value[exc.start])
    # Raised out here so that the error which carries the whole value is not its context.
    raise ValueError(
        f"header field {_shown(name)}: the value holds U+{character:04X} at position {position}, "
        "which Latin-1 does not have; encode it and pass bytes"
    )


def _refused_value(name: bytes, value: bytes) -> ValueError:
    position = next(i for i, byte in enumerate(value) if byte in _VALUE_REFUSED)
    byte = value[position]
    what = {0: "NUL", 10: "LF", 13: "CR", 127: "DEL"}.get(byte, f"control byte 0x{byte:02x}")
    return ValueError(f"header field {_shown(name)}: the value holds {what} at position {position}")


def _shown(name: bytes) -> str:
    return quote(name.decode("latin-1"))
