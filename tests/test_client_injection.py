"""Nothing that a caller passes on can say something else than it seems to: every byte, in every place."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

import pytest

import httpio
from httpio.client import CannotSendHeader, HTTPResponse, HTTPSConnection, InvalidURL, UnknownTransferEncoding
from servers.proxy import Proxy, tunnels
from servers.scripted import Scripted, answers
from test_client_request_cases import Connected

CONTROLS = [chr(code) for code in [*range(0x20), 0x7F]]
BREAKS = ["\r\nX: y", "\nX: y", "\rX: y", "\r\n\r\nGET /evil HTTP/1.1\r\n", "\0", "\x7f", "\x0b", "\x0c", "\r\n fold"]

Use = Callable[[Connected, str], object]


def header(name: str, value: Any) -> Use:
    return lambda conn, text: conn.request("GET", "/", headers={name.format(text): value.format(text)})


def steps(*call: Any) -> Callable[[Connected, str], None]:
    """putrequest, and then putheader with these arguments; in bytes where they are bytes."""

    def use(conn: Connected, text: str) -> None:
        conn.putrequest("GET", "/")
        conn.putheader(
            *(part.replace(b"{}", text.encode("latin-1")) if isinstance(part, bytes) else part.replace("{}", text)
              for part in call)
        )  # fmt: skip
        conn.endheaders()

    return use


def tunnel(host: str = "origin", headers: dict[str, str] | None = None) -> Use:
    def use(conn: Connected, text: str) -> None:
        given = {name.replace("{}", text): value.replace("{}", text) for name, value in (headers or {}).items()}
        conn.set_tunnel(host.replace("{}", text), 443, given or None)
        conn.request("GET", "/")

    return use


PLACES: dict[str, Use] = {
    "method": lambda conn, text: conn.request(f"GET{text}", "/"),
    "method first": lambda conn, text: conn.request(f"{text}GET", "/"),
    "target": lambda conn, text: conn.request("GET", f"/a{text}b"),
    "target last": lambda conn, text: conn.request("GET", f"/a{text}"),
    "target first": lambda conn, text: conn.request("GET", f"{text}/a"),
    "absolute target": lambda conn, text: conn.request("GET", f"http://h{text}/a"),
    "putrequest": lambda conn, text: conn.putrequest("GET", f"/{text}"),
    "putrequest's method": lambda conn, text: conn.putrequest(f"G{text}", "/"),
    "host": lambda conn, text: Connected(f"h{text}"),
    "host with a port": lambda conn, text: Connected(f"h{text}:80"),
    "host of HTTPS": lambda conn, text: HTTPSConnection(f"h{text}", 443),
    "port": lambda conn, text: Connected(f"h:8{text}0"),
    "name": header("X{}", "y"),
    "name first": header("{}X", "y"),
    "putheader's name": steps("A{}", "y"),
    "putheader's name in bytes": steps(b"A{}", "y"),
    "tunnel's host": tunnel("origin{}"),
    "tunnel's host in front": tunnel("{}origin"),
    "tunnel's name": tunnel(headers={"X{}": "y"}),
}
VALUES: dict[str, Use] = {
    "value": header("X", "a{}b"),
    "value last": header("X", "a{}"),
    "value first": header("X", "{}a"),
    "Host": header("Host", "a{}"),
    "putheader's value": steps("X", "y{}z"),
    "putheader's value in bytes": steps("X", b"y{}z"),
    "a second value": steps("X", "y", "z{}"),
    "tunnel's value": tunnel(headers={"X": "y{}z"}),
    "tunnel's Host": tunnel(headers={"Host": "y{}z"}),
}
REFUSALS = (ValueError, CannotSendHeader)


def refused(use: Use, text: str) -> None:
    conn = Connected("h")
    with pytest.raises(REFUSALS) as caught:
        use(conn, text)
    assert conn.sent == b"", (text, conn.sent)
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)
    conn.close()
    conn.set_tunnel("")
    conn.request("GET", "/behind")
    assert conn.sent == b"GET /behind HTTP/1.1\r\nHost: h\r\nAccept-Encoding: identity\r\n\r\n"


@pytest.mark.parametrize("place", PLACES)
def test_no_control_character_and_no_blank(place: str) -> None:
    for text in [*CONTROLS, " ", *BREAKS]:
        refused(PLACES[place], text)


@pytest.mark.parametrize("place", VALUES)
def test_no_control_character_in_a_value_but_the_tab(place: str) -> None:
    for text in [*(text for text in CONTROLS if text != "\t"), *BREAKS]:
        refused(VALUES[place], text)
    conn = Connected("h")
    VALUES[place](conn, "\t")
    assert b"\t" in conn.sent


@pytest.mark.parametrize("place", {**PLACES, **VALUES})
def test_what_is_truncated_to_a_break(place: str) -> None:
    """U+010D, U+010A and U+560A end in the bytes of CR and LF."""
    use = {**PLACES, **VALUES}[place]
    for text in ("\u010d\u010a", "\u560d\u560a", "\u2028"):
        if "bytes" in place:
            continue
        conn = Connected("h")
        with contextlib.suppress(ValueError):  # UnicodeError among them
            use(conn, text)
        assert b"\n\r\n" not in conn.sent.replace(b"\r\n\r\n", b"")
        assert conn.sent.count(b"\r\n\r\n") <= 2
        assert b"\x0d\x0a\x0a" not in conn.sent


def test_errors_are_of_both_families() -> None:
    for use in ("target", "host", "host of HTTPS", "port"):
        with pytest.raises(InvalidURL) as caught:
            PLACES[use](Connected("h"), "\n")
        assert isinstance(caught.value, httpio.InvalidURL)


def test_hooks_of_subclasses_take_the_checks_away() -> None:
    """As CPython's tests have them: whoever overrides these has what he asks for."""

    class Lax(Connected):
        def _validate_path(self, url: str) -> None:
            """All is good."""

        def _encode_request(self, request: str) -> bytes:
            return request.encode("utf-8")

    conn = Lax("h")
    conn.request("GET", "/caf\xe9 \u2028")
    assert conn.sent.startswith("GET /caf\xe9 \u2028 HTTP/1.1\r\n".encode())


def test_nothing_of_it_reaches_a_server() -> None:
    """Over real sockets, with the next request on the same connection."""
    with Scripted(answers) as server:
        conn = Connected("127.0.0.1", server.port, timeout=20)
        conn._create_connection = socket.create_connection
        for number, text in enumerate(BREAKS):
            for use in (PLACES["target"], PLACES["method"], PLACES["name"], VALUES["value"]):
                with pytest.raises(ValueError):  # noqa: PT011
                    use(conn, text)
            conn.request("GET", f"/{number}")
            assert conn.getresponse().read() == f"/{number}".encode()
        conn.close()
        server.settle(1)
        assert server.targets() == [f"/{number}" for number in range(len(BREAKS))]
        assert server.received() == sum(len(seen.head) for seen in server.seen)
        assert server.connections == 1


def test_a_proxy_is_told_nothing() -> None:
    with Proxy(tunnels()) as proxy:
        conn = HTTPSConnection("127.0.0.1", proxy.port, timeout=20)
        for host, headers in (("a\r\nX: y", None), ("a", {"X": "b\r\nc: d"}), ("a", {"X\r\nc": "d"}), ("a b\n", None)):
            conn.set_tunnel(host, 443, headers)
            with pytest.raises(ValueError):  # noqa: PT011
                conn.request("GET", "/")
            conn.close()
        proxy.settle()
        assert proxy.received() == 0


def test_a_tunnel_host_is_refused_before_the_way_is_made() -> None:
    conn = HTTPSConnection("localhost")
    conn.set_tunnel("a\r\nX: b", 443)
    with pytest.raises(httpio.InvalidURL):
        conn.request("GET", "/")
    assert conn.sock is None


@pytest.mark.parametrize("headers", [{10**12: "x"}, {"X": None}, {"X": 1.5}, {None: "x"}])
def test_what_is_no_field(headers: Any) -> None:
    conn = HTTPSConnection("localhost")
    with pytest.raises(TypeError, match="a field is text or bytes"):
        conn.request("GET", "/", headers=headers)


def test_the_class_of_an_error_is_not_the_peers_choice() -> None:
    """What it sends is quoted in the text; the text decides nothing."""
    for field in (b"", b"X-coding: y\r\n"):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(b"HTTP/1.1 101 Switching Protocols\r\n" + field + b"\r\n")
            response = HTTPResponse(ours, method="CONNECT")
            with pytest.raises(httpio.UnsupportedResponse) as caught:
                response.begin()
            assert not isinstance(caught.value, UnknownTransferEncoding)
            response.close()
