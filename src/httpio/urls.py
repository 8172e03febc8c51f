"""URLs, hosts, ports and request targets: taken apart and checked before anything is sent.

RFC 3986, and RFC 9112 section 3.2 for request targets. Every refusal is an `InvalidURL` that gives the
reason. No message shows userinfo.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from typing import NamedTuple

from httpio.exceptions import InvalidURL, quote

__all__ = ["DEFAULT_PORTS", "Origin", "check_host", "check_port", "check_target", "host_field", "split_url"]

DEFAULT_PORTS = {"http": 80, "https": 443}

MAX_HOST = 253
"""Characters in a host name (RFC 1035 section 2.3.4, as text), a final dot not counted."""

_DIGITS = frozenset("0123456789")
_HOST_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-._")
_ZONE_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
# Printable ASCII without space: all that may stand in a request target. "#" has a message of its own.
_TARGET_BYTES = bytes(range(0x21, 0x7F))


class Origin(NamedTuple):
    """Where a URL leads: what decides which connection may carry a request (RFC 9110 section 4.3.1)."""

    scheme: str
    """``http`` or ``https``."""

    host: str
    """In lower case; a name in ASCII, an IPv4 address, or an IPv6 address without brackets."""

    port: int

    @property
    def field(self) -> str:
        """The value of the Host field for this origin."""
        return host_field(self.host, self.port, self.scheme)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.field}"


def split_url(url: str) -> tuple[Origin, str]:
    """The origin of an absolute http or https URL, and its request target in origin-form.

    The fragment is dropped, an empty path becomes ``/``, and the rest of the path and query stays as it is:
    the caller percent-encodes, once. A host with characters outside ASCII is encoded (IDNA 2003, as Python's
    codec has it). Raises InvalidURL for another scheme, userinfo, and whitespace, control or non-ASCII
    characters.
    """
    if not isinstance(url, str):
        raise TypeError("a URL must be str, not " + type(url).__name__)
    scheme, mark, rest = url.partition("://")
    if not mark:
        raise InvalidURL("the URL does not start with http:// or https://")
    authority, _, path = rest.partition("/")
    if "?" in authority or "#" in authority:
        # There is no path: the "/", if any, stands in the query or the fragment.
        authority = authority.partition("?")[0].partition("#")[0]
        path = rest[len(authority) :]
    if not (url.isascii() and url.isprintable()) or " " in url:
        _check_characters("URL", path)
    if "#" in path:
        path = path.partition("#")[0]
    return _origin(scheme, authority), "/" + path


@lru_cache(maxsize=4096)
def _origin(scheme: str, authority: str) -> Origin:
    lower = scheme.lower()
    default = DEFAULT_PORTS.get(lower)
    if default is None:
        raise InvalidURL("only http and https URLs are accepted")
    if "@" in authority:
        raise InvalidURL("userinfo (user:password@) is not accepted in a URL; send an Authorization field")
    host, port = _split_authority(authority)
    if not authority.startswith("[") and ":" in host:
        raise InvalidURL("an IPv6 address in a URL stands in brackets")
    return Origin(lower, check_host(host), check_port(port) if port else default)


def _split_authority(authority: str) -> tuple[str, str]:
    """host (with the brackets of an IPv6 address) and port; the port is "" when there is none."""
    if authority.startswith("["):
        host, bracket, port = authority.partition("]")
        if not bracket or (port and port[0] != ":"):
            raise InvalidURL("an IPv6 address in a URL ends with ']', and only a port may follow")
        return host + bracket, port[1:]
    host, _, port = authority.rpartition(":") if ":" in authority else (authority, "", "")
    return host, port


def check_host(host: str) -> str:
    """*host* as it is used to connect: in lower case, names in ASCII, an IPv6 address without brackets.

    An IPv6 address is accepted with or without brackets, and may carry a zone (``fe80::1%eth0``, in brackets
    also ``%25eth0``, RFC 6874). Raises InvalidURL for anything else that is not a name of letters, digits,
    ``-``, ``_`` and dots, with labels of at most 63 characters and at most 253 in all.
    """
    if not isinstance(host, str):
        raise TypeError("the host must be str, not " + type(host).__name__)
    if not host:
        raise InvalidURL("the host is empty")
    # Before the codec sees it: IDNA takes quadratic time.
    if len(host) > MAX_HOST + 1:
        raise InvalidURL(f"the host is longer than {MAX_HOST} characters")
    if "@" in host:
        raise InvalidURL("userinfo is not accepted in a host")
    if "://" in host:
        raise InvalidURL("the host is to be a name or an address alone, not a URL")
    if host[0] == "[":
        if host[-1] != "]":
            raise InvalidURL("an IPv6 address starts with '[' and does not end with ']'")
        return _check_ipv6(host[1:-1].replace("%25", "%", 1))
    if ":" in host:
        return _check_ipv6(host)
    name = host.lower() if host.isascii() else _encode_idna(host)
    if not _HOST_CHARACTERS.issuperset(name):
        raise _bad_host(host, "holds a character that is not allowed there")
    labels = name.removesuffix(".").split(".")
    if "" in labels:
        raise _bad_host(host, "has an empty label")
    if max(map(len, labels)) > 63 or len(name.removesuffix(".")) > MAX_HOST:
        raise _bad_host(host, f"is longer than 63 characters a label or {MAX_HOST} in all")
    return name


def _encode_idna(host: str) -> str:
    try:
        # What the codec's normalisation made of it is checked as any other name is: it can bring in "/" and
        # "@".
        return host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise _bad_host(host, "cannot be encoded with IDNA") from None


def _check_ipv6(address: str) -> str:
    number, percent, zone = address.partition("%")
    if percent and not (zone and _ZONE_CHARACTERS.issuperset(zone)):
        raise _bad_host(address, "has a bad zone")
    try:
        return str(IPv6Address(number)) + percent + zone
    except AddressValueError:
        raise _bad_host(address, "has a ':' and is not an IPv6 address; a port is given by itself") from None


def check_port(port: int | str) -> int:
    """*port* as int, 1 to 65535; a str holds ASCII digits only. Raises InvalidURL, or TypeError for another
    type."""
    if isinstance(port, str):
        if not (0 < len(port) <= 5 and _DIGITS.issuperset(port)):
            raise InvalidURL("the port is not a number from 1 to 65535")
        port = int(port)
    elif not isinstance(port, int) or isinstance(port, bool):
        raise TypeError("the port must be int, not " + type(port).__name__)
    if not 1 <= port <= 65535:
        raise InvalidURL("the port is not a number from 1 to 65535")
    return port


def host_field(host: str, port: int, scheme: str) -> str:
    """The value of the Host field (RFC 9112 section 3.2), for a *host* that `check_host` returned.

    An IPv6 address gets brackets and loses its zone, which means nothing to the peer (RFC 6874 section 3);
    the scheme's default port is left out.
    """
    if ":" in host:
        host = f"[{host.partition('%')[0]}]"
    return host if port == DEFAULT_PORTS.get(scheme) else f"{host}:{port}"


def check_target(method: str, target: str | bytes) -> bytes:
    """A request target as it goes into the request line (RFC 9112 section 3.2).

    Accepted: origin-form (``/path?query``), absolute-form (an http or https URL without userinfo); for
    CONNECT only authority-form (``host:port``), for OPTIONS also ``*``. Raises InvalidURL for any other, and
    for a fragment, space, control or non-ASCII character.
    """
    if isinstance(target, str):
        if not target.isascii():
            _check_characters("request target", target)
        target = target.encode("ascii")
    elif not isinstance(target, bytes):
        raise TypeError("the request target must be str or bytes, not " + type(target).__name__)
    if target.translate(None, _TARGET_BYTES):
        _check_characters("request target", target.decode("latin-1"))
    if b"#" in target:
        raise InvalidURL("a request target has no fragment: '#' is not allowed in it")
    if method == "CONNECT":
        _check_authority(target.decode("ascii"))
    elif target[:1] == b"/" or (target == b"*" and method == "OPTIONS"):
        pass
    elif b"://" in target:
        split_url(target.decode("ascii"))
    else:
        raise InvalidURL(f"the request target {quote(target.decode())} is neither a path from '/' nor a URL")
    return target


def _check_authority(authority: str) -> None:
    if "@" in authority:
        raise InvalidURL("userinfo is not allowed in the target of CONNECT")
    host, port = _split_authority(authority)
    if not port:
        raise InvalidURL("the target of CONNECT is host:port")
    if not authority.startswith("[") and ":" in host:
        raise InvalidURL("an IPv6 address in the target of CONNECT stands in brackets")
    check_host(host)
    check_port(port)


def _check_characters(what: str, text: str) -> None:
    for position, character in enumerate(text):
        if not "!" <= character <= "~":
            near = quote(text[max(0, position - 24) :], 40)
            raise InvalidURL(
                f"the {what} holds {quote(character)}, near {near}: "
                "whitespace, control and non-ASCII characters must be percent-encoded"
            )


def _bad_host(host: str, reason: str) -> InvalidURL:
    return InvalidURL(f"the host {quote(host)} {reason}")
