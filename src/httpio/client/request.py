"""A request of `httpio.client` in bytes: field lines, the Host field, and what may not be sent."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from httpio.headers import is_token

__all__ = [
    "ascii_host",
    "bracket",
    "buffer_size",
    "check_framing",
    "check_method",
    "encode",
    "field_line",
    "host_field",
    "is_illegal_value",
    "is_legal_name",
    "name_bytes",
    "own_line",
    "strip_zone",
]

# Laxer than a token (RFC 9110 section 5.6.2), as others rely on: but nothing that could end the name or the line.
is_legal_name = re.compile(rb"[^\x00-\x20\x7f:]+").fullmatch
is_illegal_value = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search


def encode(data: str, name: str = "data") -> bytes:
    """*data* in Latin-1; a UnicodeEncodeError says what to do instead, and calls it *name*."""
    try:
        return data.encode("latin-1")
    except UnicodeEncodeError as exc:
        part = data[exc.start : exc.end]
        reason = (
            f"{name.title()} ({part!r:.20}) is not valid Latin-1. "
            f"Use {name}.encode('utf-8') if you want to send it encoded in UTF-8."
        )
        raise UnicodeEncodeError(exc.encoding, exc.object, exc.start, exc.end, reason) from None


def strip_zone(enc_name: bytes) -> bytes:
    """An IPv6 address in brackets without its zone."""
    address, percent, _ = enc_name.partition(b"%")
    return address + b"]" if percent else address


_control = re.compile("[\x00-\x1f]").search


@lru_cache(maxsize=64)
def check_method(method: str) -> None:
    """ValueError where it is not a token."""
    found = _control(method)
    if found:
        raise ValueError(f"method can't contain control characters. {method!r} (found at least {found.group()!r})")
    if not method.isascii() or not is_token(method.encode("ascii")):
        raise ValueError(f"the method must be a token (RFC 9110 section 5.6.2), not {method!r}")


@lru_cache(maxsize=256)
def ascii_host(host: str) -> bytes:
    return host.encode("ascii") if host.isascii() else host.encode("idna")


def bracket(address: bytes) -> bytes:
    return b"[" + address + b"]" if b":" in address and address[:1] != b"[" else address


@lru_cache(maxsize=256)
def host_field(host: str, port: int | None, default_port: int) -> bytes:
    """The value of Host."""
    value = bracket(ascii_host(host))
    if ":" in host:
        value = strip_zone(value)
    return value if port == default_port else b"%b:%b" % (value, str(port or 0).encode("ascii"))


@lru_cache(maxsize=1024)
def _field_name(name: str) -> bytes:
    return _check_field_name(name.encode("ascii"))


def _check_field_name(name: bytes) -> bytes:
    if not is_legal_name(name):
        raise ValueError(f"Invalid header name {name!r}")
    return name


def field_line(header: str | bytes, values: tuple[str | bytes | int, ...]) -> bytes:
    """A field line, checked, without its end."""
    name = _field_name(header) if type(header) is str else _check_field_name(name_bytes(header))
    if len(values) == 1:
        value = values[0]
        if type(value) is not bytes:
            value = value.encode("latin-1") if type(value) is str else _field_bytes(value)
        if is_illegal_value(value):
            raise ValueError(f"Invalid header value of {name!r}")
        return b"%b: %b" % (name, value)
    encoded = [_field_bytes(value) for value in values]
    for value in encoded:
        if is_illegal_value(value):
            raise ValueError(f"Invalid header value of {name!r}")
    return b"%b: %b" % (name, b"\r\n\t".join(encoded))


@lru_cache(maxsize=256)
def own_line(header: str, value: bytes) -> bytes:
    """A field line that the connection adds, the same in each of its requests."""
    return field_line(header, (value,))


def check_framing(lines: list[bytes], body: Any) -> int | None:
    """The Content-Length in the lines of a request; ValueError for what two recipients could read in two ways."""
    text = b"\r\n".join(lines).lower()
    if text.count(b"\r\nhost:") > 1:
        raise ValueError("more than one Host field")
    if b"\r\ncontent-length:" not in text and b"\r\ntransfer-encoding:" not in text:
        return None
    codings = 0
    length = None
    for line in lines:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name == b"content-length":
            value = value.strip(b" \t")
            if length is not None or not value.isdigit():
                raise ValueError("Content-Length is not one number of digits")
            length = int(value)
        elif name == b"transfer-encoding":
            codings += 1
            names = [coding.strip(b" \t").lower() for coding in value.split(b",")]
            if codings > 1 or names[-1] != b"chunked" or b"chunked" in names[:-1]:
                raise ValueError("Transfer-Encoding must end with chunked, and name it once")
    if length is not None:
        if codings:
            raise ValueError("both Content-Length and Transfer-Encoding")
        size = None if hasattr(body, "read") else buffer_size(body)
        if size not in (None, length):
            raise ValueError(f"the body has {size} bytes and not the {length} of its Content-Length")
    return length


def buffer_size(body: Any) -> int | None:
    """The bytes in a bytes-like object; None: it is another."""
    try:
        return memoryview(body).nbytes
    except TypeError:
        return None


def name_bytes(name: Any) -> bytes:
    """A field's name in bytes; TypeError for what is neither text nor bytes."""
    if type(name) is bytes:
        return name
    if hasattr(name, "encode"):
        return name.encode("latin-1")  # type: ignore[no-any-return]
    try:
        return bytes(memoryview(name))
    except TypeError:
        raise TypeError(f"a field is text or bytes, not {type(name).__name__}") from None


def _field_bytes(value: Any) -> bytes:
    return str(value).encode("ascii") if isinstance(value, int) else name_bytes(value)
