"""Proxies: what the caller says of one, taken apart and checked before anything is sent, and what the environment says.

No message, repr or str shows userinfo, nor what might be some of it in a URL that is malformed.
"""

from __future__ import annotations

import base64
import os
import re
import ssl
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

from httpio.exceptions import InvalidURL
from httpio.headers import FieldsLike, encode_fields
from httpio.urls import Origin, check_host, check_port, split_url

__all__ = ["Proxy", "ProxyLike", "environment_proxy"]

DEFAULT_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}

MAX_SOCKS_TEXT = 255
"""Bytes in a user name, and in a password, of SOCKS5 (RFC 1929 section 2)."""

_SCHEMES = "http://, https://, socks5:// or socks5h://"
# They are about the message that httpio sends, and httpio's to say.
_REFUSED_FIELDS = frozenset(
    (b"connection", b"content-length", b"expect", b"host", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)
_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")


class Proxy:
    """A proxy, as connections are told of it.

    *url*: ``http://``, ``https://`` (TLS to the proxy), ``socks5://`` or ``socks5h://``, and then
    ``[user[:password]@]host[:port]``, with user and password percent-encoded; without a port 80, 443, 1080,
    1080. With ``socks5`` names are looked up on this side; all others leave that to the proxy. *headers*:
    fields for the proxy alone, as for a request. *ssl_context*: for TLS with an https proxy, and with it only;
    None: the proxy's certificate is verified as those of https servers are.

    Raises InvalidURL for a URL that is none of these or holds anything else (a path, a query), ValueError for
    fields that cannot be sent or are httpio's own to say, fields with SOCKS, and an *ssl_context* without TLS.
    """

    __slots__ = ("fields", "host", "password", "port", "scheme", "ssl_context", "username")

    scheme: str
    """``http``, ``https``, ``socks5`` or ``socks5h``."""

    host: str
    """As `check_host` gives it."""

    port: int

    username: str | None
    """Decoded; None: the proxy is asked without one."""

    password: str | None

    fields: tuple[tuple[bytes, bytes, bytes], ...]
    """What only the proxy is to see, as of `encode_fields`: the caller's fields, and Proxy-Authorization where the
    URL holds a user name and they have none (Basic in UTF-8, RFC 7617). Empty with SOCKS."""

    ssl_context: ssl.SSLContext | None

    def __init__(self, url: str, *, headers: FieldsLike = None, ssl_context: ssl.SSLContext | None = None) -> None:
        if not isinstance(url, str):
            raise TypeError("the URL of a proxy must be str, not " + type(url).__name__)
        if not (ssl_context is None or isinstance(ssl_context, ssl.SSLContext)):
            raise TypeError("ssl_context must be an ssl.SSLContext, not " + type(ssl_context).__name__)
        scheme, mark, rest = url.partition("://")
        self.scheme = scheme.lower()
        if not mark or self.scheme not in DEFAULT_PORTS:
            raise InvalidURL(f"the URL of a proxy starts with {_SCHEMES}")
        authority = re.split("[/?#]", rest, maxsplit=1)[0]
        if rest[len(authority) :] not in ("", "/"):
            raise InvalidURL(
                "the URL of a proxy ends with its host and port; a '/', '?' or '#' in user name or password "
                "is percent-encoded"
            )
        userinfo, _, address = authority.rpartition("@")
        self.host, self.port = _split_address(address, DEFAULT_PORTS[self.scheme])
        self.username, self.password = _split_userinfo(userinfo)
        fields = encode_fields(headers)
        if self.is_socks:
            _check_socks_login(self.username, self.password)
            if fields:
                raise ValueError("a SOCKS proxy takes no header fields")
        else:
            fields = _proxy_fields(self.username, self.password, fields)
        self.fields = tuple(fields)
        if ssl_context is not None and self.scheme != "https":
            raise ValueError(
                "an ssl_context is for a proxy that is spoken to in TLS: one whose URL starts with https://"
            )
        self.ssl_context = ssl_context

    @classmethod
    def of(cls, given: ProxyLike) -> Proxy | None:
        """The proxy that a caller means by a `Proxy`, a URL, or a pair of host and port, which is an http proxy; None
        for None. Raises as the class, and TypeError for anything else."""
        if given is None or isinstance(given, Proxy):
            return given
        if isinstance(given, str):
            return cls(given)
        if isinstance(given, tuple) and len(given) == 2:
            return cls(f"http://{_join(check_host(given[0]), check_port(given[1]))}")
        hint = "; a function is called first, with the URL of the server" if callable(given) else ""
        name = type(given).__name__
        raise TypeError(f"a proxy is a Proxy, a URL, a pair of host and port, or None, not {name}{hint}")

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS5 (RFC 1928) rather than HTTP."""
        return self.scheme.startswith("socks")

    @property
    def resolves_names(self) -> bool:
        """Whether it is given names to look up, rather than addresses."""
        return self.scheme != "socks5"

    def __repr__(self) -> str:
        return f"{self.scheme}://{_join(self.host, self.port)}"


ProxyLike: TypeAlias = Proxy | str | tuple[str, int] | None
"""What callers may pass as a proxy: one, its URL, host and port of an http proxy, or none."""


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _split_port(text: str) -> tuple[str, str]:
    """What stands before the port, and the port; the port is "" when there is none."""
    host, colon, port = text.rpartition(":")
    return (host, port) if colon and "]" not in port else (text, "")


def _split_address(text: str, default_port: int) -> tuple[str, int]:
    """The host and port in the URL of a proxy, checked."""
    given, port = _split_port(text)
    if not given:
        raise InvalidURL("the URL of a proxy names no host")
    if ":" in given and not given.startswith("["):
        raise InvalidURL("an IPv6 address in the URL of a proxy stands in brackets")
    host = _checked_host(given)
    if host is None:
        raise InvalidURL("the URL of a proxy holds a host that is neither a name nor an address")
    return host, check_port(port) if port else default_port


def _checked_host(text: str) -> str | None:
    """What `check_host` makes of it; None where that refuses it, since its words would show the text."""
    try:
        return check_host(text)
    except InvalidURL:
        return None


def _split_userinfo(userinfo: str) -> tuple[str | None, str | None]:
    """User name and password, decoded; None for what is not there."""
    if not userinfo:
        return None, None
    if "@" in userinfo or _BAD_ESCAPE.search(userinfo):
        raise InvalidURL("an '@' or '%' in the user name or password of a proxy is percent-encoded")
    username, colon, password = userinfo.partition(":")
    return _decode(username), _decode(password) if colon else None


def _decode(text: str) -> str:
    decoded = None
    if text.isascii() and text.isprintable() and " " not in text:
        with suppress(UnicodeDecodeError):
            decoded = unquote_to_bytes(text).decode()
    # Control characters: RFC 7617 section 2.
    if decoded is None or any(character < " " or character == "\x7f" for character in decoded):
        raise InvalidURL("the user name and password of a proxy are percent-encoded UTF-8, without control characters")
    return decoded


def _check_socks_login(username: str | None, password: str | None) -> None:
    if username is None:
        return
    for text in (username, password or ""):
        if not 1 <= len(text.encode()) <= MAX_SOCKS_TEXT:
            raise InvalidURL(
                f"a SOCKS proxy takes a user name and a password, both of 1 to {MAX_SOCKS_TEXT} bytes (RFC 1929)"
            )


def _proxy_fields(
    username: str | None, password: str | None, fields: list[tuple[bytes, bytes, bytes]]
) -> list[tuple[bytes, bytes, bytes]]:
    """The fields for an HTTP proxy: the caller's, checked, and Proxy-Authorization before them."""
    for name, lower, _ in fields:
        if lower in _REFUSED_FIELDS:
            raise ValueError(f"the field {name.decode()} is not among those that can be given for a proxy")
    if username is None:
        return fields
    if ":" in username:
        raise InvalidURL("the user name of an HTTP proxy has no ':' (RFC 7617 section 2)")
    if any(lower == b"proxy-authorization" for _, lower, _ in fields):
        return fields
    login = base64.b64encode(f"{username}:{password or ''}".encode())
    return [(b"Proxy-Authorization", b"proxy-authorization", b"Basic " + login), *fields]


def environment_proxy(url: str) -> Proxy | None:
    """The proxy that the environment names for an http or https URL; None: none.

    Of HTTP_PROXY or HTTPS_PROXY, by the scheme of *url*, else of ALL_PROXY; the names in lower case come first.
    A value without a scheme is an http proxy. Under CGI (where there is REQUEST_METHOD) HTTP_PROXY is not looked
    at, for it holds what the client sent. NO_PROXY names what is reached without: ``*`` for everything, a name for
    that host and all below it (with or without a ``.`` or ``*.`` before it), an address, a network (``10.0.0.0/8``),
    each but the last with or without ``:port``, and separated by commas or blanks. An entry that is none of these
    is passed over. Raises InvalidURL for *url*, and for a variable that names no proxy.
    """
    origin, _ = split_url(url)
    from urllib.request import getproxies_environment  # takes long to import

    values = getproxies_environment()
    scheme = origin.scheme if origin.scheme in values else "all"
    value = values.get(scheme)
    if value is None or _is_excepted(origin, values.get("no", "")):
        return None
    try:
        return Proxy(value if "://" in value else "http://" + value)
    except InvalidURL as exc:
        reason = str(exc)
    name = f"{scheme}_proxy"
    raise InvalidURL(f"the environment variable {name if os.environ.get(name) else name.upper()}: {reason}")


def _is_excepted(origin: Origin, no_proxy: str) -> bool:
    """Whether NO_PROXY names where *origin* leads."""
    host = origin.host.removesuffix(".")
    address = _address(host)
    for entry in no_proxy.replace(",", " ").split():
        if entry == "*":
            return True
        name, port = (entry, "") if "/" in entry or _address(entry) else _split_port(entry)
        if port and port != str(origin.port):
            continue
        if address is not None:
            if _holds(name, address):
                return True
        elif (wanted := _checked_host(name.removeprefix("*.").removeprefix("."))) is not None:
            wanted = wanted.removesuffix(".")
            if host == wanted or host.endswith("." + wanted):
                return True
    return False


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """The address; None for a name."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def _holds(text: str, address: IPv4Address | IPv6Address) -> bool:
    """Whether *text* is the address, or a network that the address belongs to; zones do not count."""
    try:
        network = ip_network(text.replace("[", "", 1).replace("]", "", 1), strict=False)
    except ValueError:
        return False
    return address in network
