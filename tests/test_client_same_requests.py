"""The same call of http.client and of `httpio.client`: the same bytes are sent, for every request that is valid."""

from __future__ import annotations

import array
import http.client as standard
import io
import ssl
import tempfile
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import httpio.client as ours
from test_client_request_cases import Recorder

MODULES = [standard, ours]
CONTEXT = ssl.create_default_context()
LATIN = b"text in Latin-1: \xe9\r\nand a second line\n"
TEXT = LATIN.decode("latin-1")


def sent(module: ModuleType, use: Callable[[Any], None], *args: Any, secure: bool = False, **options: Any) -> bytes:
    """What goes out when *use* is given a connection that is made with the arguments."""
    if secure:
        conn = module.HTTPSConnection(*args, context=CONTEXT, **options)
    else:
        conn = module.HTTPConnection(*args, **options)
    conn.sock = sock = Recorder()
    use(conn)
    assert conn.sock is sock
    assert conn._buffer == []
    return sock.sent


def same(use: Callable[[Any], None], *args: Any, **options: Any) -> bytes:
    """What both send."""
    one, other = (sent(module, use, *args, **options) for module in MODULES)
    assert other == one
    return one


# -- bodies --


def pieces(*parts: Any) -> Callable[[], Iterator[Any]]:
    """A generator."""

    def make() -> Iterator[Any]:
        yield from parts

    return make


def file_of(content: bytes, at: int = 0) -> Callable[[], Any]:
    def make() -> Any:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the last reference
        file.write(content)
        file.seek(at)
        return file

    return make


def text_file() -> Any:
    file = tempfile.TemporaryFile("w+", encoding="utf-8", newline="")  # noqa: SIM115
    file.write(TEXT)
    file.seek(0)
    return file


class Readable:
    """Has `read`, and nothing else."""

    def __init__(self) -> None:
        self.left = [b"one", b"two", b"three"]

    def read(self, size: int) -> bytes:
        return self.left.pop(0) if self.left else b""


class Iterable:
    def __iter__(self) -> Iterator[bytes]:
        return iter([b"1", b"", b"22"])


class Length(list[bytes]):
    """Has a length that is no number of bytes."""


BODIES: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "bytes": lambda: b"bytes",
    "no bytes": lambda: b"",
    "str": lambda: TEXT,
    "no str": lambda: "",
    "bytearray": lambda: bytearray(b"bytearray"),
    "memoryview": lambda: memoryview(b"a memoryview")[2:],
    "memoryview of words": lambda: memoryview(array.array("H", range(50))),
    "array": lambda: array.array("d", [1.0, 2.5]),
    "list": lambda: [b"1", b"22", b"", bytearray(b"333")],
    "tuple": lambda: (b"1", memoryview(b"22")),
    "a list of nothing": list,
    "list with a class": lambda: Length([b"x"]),
    "iterable": Iterable,
    "generator": pieces(b"1", b"22", b"", b"333"),
    "a generator of nothing": pieces(),
    "BytesIO": lambda: io.BytesIO(LATIN * 300),
    "StringIO": lambda: io.StringIO(TEXT),
    "file": file_of(bytes(range(256)) * 70),
    "a file of nothing": file_of(b""),
    "a file from its middle": file_of(b"0123456789", 4),
    "text file": text_file,
    "read": Readable,
}
WORDS = {"memoryview of words", "array"}
"""Of these http.client sends a chunk with a wrong size: see the end."""
BODIED = pytest.mark.parametrize("body", BODIES)
BODIED_IN_BYTES = pytest.mark.parametrize("body", [body for body in BODIES if body not in WORDS])


@BODIED
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "get", "post", "OPTIONS", "TRACE", "HEAD"])
def test_bodies(body: str, method: str) -> None:
    same(lambda conn: conn.request(method, "/", BODIES[body]()), "example.org")


@BODIED_IN_BYTES
def test_bodies_that_the_caller_has_framed_in_chunks(body: str) -> None:
    headers = {"Transfer-Encoding": "chunked"}
    same(lambda conn: conn.request("POST", "/", BODIES[body](), headers), "example.org")
    same(lambda conn: conn.request("POST", "/", BODIES[body](), headers, encode_chunked=True), "example.org")


@BODIED
@pytest.mark.parametrize("blocksize", [7, 8192, 1 << 20])
def test_block_sizes(body: str, blocksize: int) -> None:
    same(lambda conn: conn.request("PUT", "/", BODIES[body]()), "example.org", blocksize=blocksize)


@BODIED
def test_bodies_with_the_length_of_the_caller(body: str) -> None:
    """The length is what comes, and another body of it goes out as it is."""
    plain = sent(standard, lambda conn: conn.request("PUT", "/", BODIES[body](), {"Content-Length": "1"}), "h")
    length = len(plain.partition(b"\r\n\r\n")[2])
    headers = {"content-LENGTH": str(length)}
    same(lambda conn: conn.request("PUT", "/", BODIES[body](), headers), "h")
    same(lambda conn: conn.request("PUT", "/", BODIES[body](), headers, encode_chunked=True), "h")


@BODIED_IN_BYTES
def test_bodies_step_by_step(body: str) -> None:
    def use(conn: Any) -> None:
        conn.putrequest("POST", "/")
        conn.putheader("Transfer-Encoding", "chunked")
        conn.endheaders(BODIES[body](), encode_chunked=True)

    if body != "str":  # which is for `request`
        same(use, "example.org")


@BODIED
def test_HTTP_1_0(body: str) -> None:
    def use(conn: Any) -> None:
        conn._http_vsn, conn._http_vsn_str = 10, "HTTP/1.0"
        conn.request("POST", "/", BODIES[body](), {"X": "y"})

    if standard.HTTPConnection._get_content_length(BODIES[body](), "POST") is not None:
        same(use, "example.org")
        return
    conn = ours.HTTPConnection("example.org")
    with pytest.raises(ValueError, match=r"HTTP/1\.0 has no chunks"):  # http.client says chunked, and sends none
        use(conn)
    assert conn.sock is None


@pytest.mark.parametrize("body", ["bytes", "array", "BytesIO", "file", "read", "list", "generator", "memoryview"])
def test_send(body: str) -> None:
    same(lambda conn: conn.send(BODIES[body]()), "example.org")


# -- heads --

ZONES = hasattr(standard, "_strip_ipv6_iface")
"""Whether this http.client leaves the zone of an address out of Host."""
HOSTS: list[tuple[Any, ...]] = [
    ("example.org",), ("example.org", 80), ("example.org", 81), ("example.org:82",), ("example.org:",),
    ("EXAMPLE.org", 443), ("127.0.0.1", 8080), ("::1",), ("::1", 81), ("[::1]",), ("[::1]:81",),
    ("[fe80::1%lo]:80",), ("fe80::1%lo", 81), ("b\xfccher.example",), ("b\xfccher.example", 81),
]  # fmt: skip
TARGETS = [
    "/", "", "/a?b=c&d=%20", "*", "a/b", "/a#b", "http://other.example/x", "http://other.example:81/x", "//net/x",
    "https://[::1]:8080/", "http://b\xfccher.example/", "http:///x", "httpx",
    "http://[fe80::1%25lo]:81/", "/\x80",
]  # fmt: skip


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("host", [host for host in HOSTS if ZONES or "%" not in host[0]], ids=str)
def test_hosts(host: tuple[Any, ...], secure: bool) -> None:
    same(lambda conn: conn.request("GET", "/"), *host, secure=secure)
    same(lambda conn: conn.request("GET", "http://other.example/x"), *host, secure=secure)


@pytest.mark.parametrize(
    "target", [target for target in TARGETS if target.isascii() and (ZONES or "fe80" not in target)]
)
def test_targets(target: str) -> None:
    for options in ({}, {"skip_host": True}, {"skip_accept_encoding": True}):

        def use(conn: Any, options: Any = options) -> None:
            conn.putrequest("GET", target, **options)
            conn.endheaders()

        same(use, "example.org", 81)


@pytest.mark.parametrize("target", [target for target in TARGETS if not target.isascii()])
def test_targets_that_are_not_sent(target: str) -> None:
    for module in MODULES:
        with pytest.raises(UnicodeEncodeError):
            sent(module, lambda conn: conn.request("GET", target), "example.org")


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "other"},
        {"host": "other", "ACCEPT-encoding": "gzip"},
        {"Accept-Encoding": ""},
        {"X": "", "Y": " padded ", "Z": "\ttab\t"},
        {"X": 5, "Y": b"bytes \xff", "Z": "caf\xe9"},
        {b"X": "y"},
        {"Expect": "something"},
        {"X" * 5000: "y" * 70000},
        {f"X-{number}": str(number) for number in range(300)},
    ],
)
def test_fields(headers: Any) -> None:
    try:
        expected = sent(standard, lambda conn: conn.request("GET", "/", headers=headers), "h")
    except (TypeError, AttributeError) as exc:
        with pytest.raises(type(exc)):
            sent(ours, lambda conn: conn.request("GET", "/", headers=headers), "h")
        return
    assert sent(ours, lambda conn: conn.request("GET", "/", headers=headers), "h") == expected


def test_fields_with_several_values() -> None:
    def use(conn: Any) -> None:
        conn.putrequest("GET", "/")
        conn.putheader("A", "1", "2", b"3", 4)
        conn.putheader(b"B", 5)
        conn.putheader("C")
        conn.endheaders()

    same(use, "example.org")


@pytest.mark.parametrize("host", ["origin.example", "::1", "b\xfccher.example", "ORIGIN"])
@pytest.mark.parametrize("port", [None, 443, 8443])
@pytest.mark.parametrize("headers", [None, {}, {"Proxy-Authorization": "x"}, {"host": "mine"}])
def test_tunnels(host: str, port: int | None, headers: Any) -> None:
    """What is asked through it; CONNECT itself differs between versions of http.client."""

    def use(conn: Any) -> None:
        sock, conn.sock = conn.sock, None
        conn.set_tunnel(host, port, headers)
        conn.sock = sock
        conn.request("GET", "/")

    same(use, "proxy.example", 3128)


# -- any --

TOKEN = st.text("!#$%&'*+-.^_`|~0123456789ABCXYZabcxyz", min_size=1, max_size=12)
VALUE = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=30)
FRAMING = {"content-length", "transfer-encoding", "expect", "host"}
CALLS = st.tuples(
    TOKEN,
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30),
    st.dictionaries(TOKEN.filter(lambda name: name.lower() not in FRAMING), VALUE | st.integers(0), max_size=5),
    st.sampled_from(sorted(set(BODIES) - WORDS)),
    st.booleans(),
)


@settings(max_examples=200, deadline=None)
@given(calls=st.lists(CALLS, min_size=1, max_size=3))
def test_any_requests_one_behind_the_other(calls: list[Any]) -> None:
    def use(conn: Any) -> None:
        for method, target, headers, body, chunked in calls:
            conn.request(method, target, BODIES[body](), headers, encode_chunked=chunked)
            conn._HTTPConnection__state = "Idle"

    def safe(conn: Any) -> None:
        try:
            use(conn)
        except ValueError as exc:  # of a target that only looks like a URL
            conn._buffer.clear()
            conn.sock.sent += type(exc).__name__.encode()

    one, other = (sent(module, safe, "example.org", 81) for module in MODULES)
    assert one == other or one.endswith((b"ValueError", b"UnicodeError"))


# -- where http.client is wrong --


@pytest.mark.parametrize("body", ["memoryview of words", "array", "generator"])
def test_a_chunk_says_how_many_bytes_it_has(body: str) -> None:
    """http.client says how many items."""
    words = array.array("H", range(300))
    made = (piece for piece in [words, words]) if body == "generator" else BODIES[body]()
    lines = 2 if body == "generator" else 1

    def use(conn: Any) -> None:
        conn.request("POST", "/", made, {"Transfer-Encoding": "chunked"}, encode_chunked=True)

    content = sent(ours, use, "h").partition(b"\r\n\r\n")[2]
    for _ in range(lines):
        size, _, content = content.partition(b"\r\n")
        assert content[int(size, 16) :].startswith(b"\r\n")
        content = content[int(size, 16) + 2 :]
    assert content == b"0\r\n\r\n"


def test_the_Host_field_has_no_user() -> None:
    """http.client sends the password that a URL has (RFC 9110 section 7.2: Host is the authority without it)."""
    found = sent(ours, lambda conn: conn.request("GET", "http://user:pw@other.example:81/"), "proxy")
    assert b"\r\nHost: other.example:81\r\n" in found


def test_brackets_of_an_address_in_a_tunnel() -> None:
    """http.client puts a second pair around them."""

    def use(conn: Any) -> None:
        sock, conn.sock = conn.sock, None
        conn.set_tunnel("[::1]", 8443)
        conn.sock = sock
        conn.request("GET", "/")

    assert b"\r\nHost: [::1]:8443\r\n" in sent(ours, use, "proxy")
