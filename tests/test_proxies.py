"""What callers and the environment say of a proxy."""

from __future__ import annotations

import base64
import os
import ssl
import traceback
from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpio.exceptions import InvalidURL
from httpio.proxies import Proxy, environment_proxy

SECRET = "s3cr3t"


def login_of(proxy: Proxy) -> str | None:
    """User name and password that the proxy is shown, as its Proxy-Authorization says."""
    values = [value for _, lower, value in proxy.fields if lower == b"proxy-authorization"]
    assert len(values) <= 1
    if not values:
        return None
    scheme, _, coded = values[0].partition(b" ")
    assert scheme == b"Basic"
    return base64.b64decode(coded, validate=True).decode()


def assert_says_nothing(error: BaseException, secret: str = SECRET) -> None:
    """No message holds the secret, of the error or of what it came from, nor does an attribute of them."""
    while error is not None:
        assert secret not in "".join(traceback.format_exception_only(type(error), error))
        assert secret not in repr(error.__dict__) + repr(error.args)
        assert not isinstance(error, UnicodeError)  # it holds the text as it came
        error = error.__cause__ or error.__context__


class TestURL:
    @pytest.mark.parametrize(
        ("url", "shown", "host", "port"),
        [
            ("http://proxy", "http://proxy:80", "proxy", 80),
            ("http://proxy/", "http://proxy:80", "proxy", 80),
            ("http://proxy:/", "http://proxy:80", "proxy", 80),
            ("http://proxy:3128", "http://proxy:3128", "proxy", 3128),
            ("HTTP://Proxy.Example:3128/", "http://proxy.example:3128", "proxy.example", 3128),
            ("https://proxy", "https://proxy:443", "proxy", 443),
            ("socks5://proxy", "socks5://proxy:1080", "proxy", 1080),
            ("SOCKS5h://127.0.0.1", "socks5h://127.0.0.1:1080", "127.0.0.1", 1080),
            ("http://[2001:DB8:0::1]", "http://[2001:db8::1]:80", "2001:db8::1", 80),
            ("http://[::1]:8080/", "http://[::1]:8080", "::1", 8080),
            ("http://[fe80::1%25eth0]:1", "http://[fe80::1%eth0]:1", "fe80::1%eth0", 1),
            ("http://b\u00fccher.example", "http://xn--bcher-kva.example:80", "xn--bcher-kva.example", 80),
            (f"https://user:{SECRET}@proxy:1", "https://proxy:1", "proxy", 1),
            (f"socks5://user:{SECRET}@[::1]", "socks5://[::1]:1080", "::1", 1080),
        ],
    )
    def test_hosts_and_ports(self, url: str, shown: str, host: str, port: int) -> None:
        proxy = Proxy(url)
        assert (proxy.scheme, proxy.host, proxy.port) == (url.partition("://")[0].lower(), host, port)
        assert repr(proxy) == str(proxy) == shown
        assert SECRET not in repr([proxy])

    @pytest.mark.parametrize(
        ("scheme", "is_socks", "resolves_names"),
        [("http", False, True), ("https", False, True), ("socks5", True, False), ("socks5h", True, True)],
    )
    def test_kinds(self, scheme: str, is_socks: bool, resolves_names: bool) -> None:
        proxy = Proxy(f"{scheme}://proxy")
        assert (proxy.is_socks, proxy.resolves_names) == (is_socks, resolves_names)
        assert (proxy.username, proxy.password, proxy.fields, proxy.ssl_context) == (None, None, (), None)

    @pytest.mark.parametrize(
        ("userinfo", "username", "password", "login"),
        [
            ("user:word", "user", "word", "user:word"),
            ("user:", "user", "", "user:"),
            ("user", "user", None, "user:"),
            (":word", "", "word", ":word"),
            ("", None, None, None),
            ("user:a:b", "user", "a:b", "user:a:b"),
            ("us%40er:%3A%2f%3F%23%25", "us@er", ":/?#%", "us@er::/?#%"),
            ("us%20er:w+rd", "us er", "w+rd", "us er:w+rd"),
            ("D\\user:w", "D\\user", "w", "D\\user:w"),
            ("b%C3%BCcher:%E2%82%AC", "b\u00fccher", "\u20ac", "b\u00fccher:\u20ac"),
        ],
    )
    def test_userinfo(self, userinfo: str, username: str | None, password: str | None, login: str | None) -> None:
        for scheme in ("http", "https"):
            proxy = Proxy(f"{scheme}://{userinfo}@proxy:1")
            assert (proxy.username, proxy.password) == (username, password)
            assert login_of(proxy) == login
        if username and password:
            proxy = Proxy(f"socks5h://{userinfo}@proxy:1")
            assert (proxy.username, proxy.password, proxy.fields) == (username, password, ())

    @pytest.mark.parametrize(
        ("url", "why"),
        [
            ("", "starts with http://"),
            (f"{SECRET}:3128", "starts with http://"),
            (f"user:{SECRET}@proxy:3128", "starts with http://"),
            (f"user:{SECRET}@http://proxy:3128", "starts with http://"),
            (f"//user:{SECRET}@proxy:3128", "starts with http://"),
            (f"http:/user:{SECRET}@proxy:3128", "starts with http://"),
            (f"ftp://user:{SECRET}@proxy", "starts with http://"),
            (f"socks4://{SECRET}", "starts with http://"),
            (f" http://user:{SECRET}@proxy", "starts with http://"),
            ("http://", "names no host"),
            ("http:///", "names no host"),
            ("http://:80", "names no host"),
            (f"http://user:{SECRET}@", "names no host"),
            (f"http://user:{SECRET}@:80", "names no host"),
            ("http://::1", "in brackets"),
            (f"http://user:{SECRET}%40proxy:80", "in brackets"),
            ("http://[::1", "neither a name nor an address"),
            ("http://[::1]x:80", "neither a name nor an address"),
            (f"http://{SECRET}%40proxy:80", "neither a name nor an address"),
            (f"http://{SECRET} .", "neither a name nor an address"),
            ("http://proxy\r\nX: y", "neither a name nor an address"),
            ("http://proxy\r\n", "neither a name nor an address"),
            ("http://" + "a" * 300, "neither a name nor an address"),
            (f"http://user:{SECRET}", "the port"),
            ("http://proxy:0", "the port"),
            ("http://proxy:65536", "the port"),
            ("http://proxy:\u0663", "the port"),
            (f"http://user:{SECRET}@proxy:80x", "the port"),
            (f"http://proxy/{SECRET}", "ends with its host and port"),
            (f"http://proxy?{SECRET}", "ends with its host and port"),
            (f"http://proxy/#{SECRET}", "ends with its host and port"),
            (f"http://user:a/{SECRET}@proxy", "ends with its host and port"),
            (f"http://user:a@{SECRET}@proxy", "percent-encoded"),
            (f"http://user:{SECRET}%@proxy", "percent-encoded"),
            (f"http://user:{SECRET}%4@proxy", "percent-encoded"),
            (f"http://user:{SECRET}%zz@proxy", "percent-encoded"),
            (f"http://user:{SECRET}%ff@proxy", "UTF-8"),
            (f"http://user:{SECRET}%ED%A0%80@proxy", "UTF-8"),
            (f"http://user:{SECRET}%00@proxy", "control characters"),
            (f"http://user%0d%0aX:{SECRET}@proxy", "control characters"),
            (f"http://user:{SECRET}%7f@proxy", "control characters"),
            (f"http://user:{SECRET}\r\n@proxy", "percent-encoded"),
            (f"http://user:{SECRET} @proxy", "percent-encoded"),
            (f"http://user:{SECRET}\u00fc@proxy", "percent-encoded"),
            (f"http://user:{SECRET}\udcff@proxy", "percent-encoded"),
            (f"http://us%3Aer:{SECRET}@proxy", "no ':'"),
            (f"socks5://{SECRET}@proxy", "1 to 255 bytes"),
            (f"socks5://{SECRET}:@proxy", "1 to 255 bytes"),
            (f"socks5://:{SECRET}@proxy", "1 to 255 bytes"),
            (f"socks5h://user:{SECRET * 43}@proxy", "1 to 255 bytes"),
            (f"socks5h://{'%C3%BC' * 128}:{SECRET}@proxy", "1 to 255 bytes"),
        ],
    )
    def test_refused_without_showing_what(self, url: str, why: str) -> None:
        with pytest.raises(InvalidURL, match=why) as caught:
            Proxy(url)
        assert isinstance(caught.value, ValueError)
        assert_says_nothing(caught.value)

    def test_the_longest_login_of_socks(self) -> None:
        proxy = Proxy(f"socks5://{'u' * 255}:{'%C3%BC' * 127}a@proxy")
        assert len((proxy.password or "").encode()) == 255

    @pytest.mark.parametrize("url", [None, b"http://proxy", 80, ("proxy", 80)])
    def test_a_url_is_str(self, url: object) -> None:
        with pytest.raises(TypeError, match="must be str"):
            Proxy(url)  # type: ignore[arg-type]

    @given(st.text(), st.text())
    def test_what_is_percent_encoded_comes_back(self, username: str, password: str) -> None:
        url = f"https://{quote(username, '', 'utf-8', 'replace')}:{quote(password, '', 'utf-8', 'replace')}@proxy"
        if ":" in username or any(character < " " or character == "\x7f" for character in username + password):
            with pytest.raises(InvalidURL):
                Proxy(url)
        else:
            assert login_of(Proxy(url)) == f"{username}:{password}".encode("utf-8", "replace").decode()

    @given(st.sampled_from(["", "http://", "socks5://"]), st.text(alphabet="a1:/@[]%.?# \\\r\u00e9\udcff"))
    def test_any_text_is_a_proxy_or_is_refused(self, scheme: str, text: str) -> None:
        with suppress(InvalidURL):
            proxy = Proxy(scheme + text)
            assert Proxy(str(proxy)).host == proxy.host
            assert 1 <= proxy.port <= 65535


class TestHeaders:
    def test_they_are_encoded_as_those_of_requests(self) -> None:
        headers = {"X-One": "1", b"x-two": b"2", "X-Three": 3}
        assert Proxy("http://proxy", headers=headers).fields == (
            (b"X-One", b"x-one", b"1"),
            (b"x-two", b"x-two", b"2"),
            (b"X-Three", b"x-three", b"3"),
        )
        assert Proxy("http://proxy", headers=iter([("A", "b")])).fields == ((b"A", b"a", b"b"),)
        assert [name for name, _, _ in Proxy("http://u:p@proxy", headers=headers).fields] == [
            b"Proxy-Authorization", b"X-One", b"x-two", b"X-Three",
        ]  # fmt: skip

    @pytest.mark.parametrize("name", ["Proxy-Authorization", b"proxy-AUTHORIZATION"])
    def test_those_of_the_caller_win_over_userinfo(self, name: str | bytes) -> None:
        proxy = Proxy(f"http://user:{SECRET}@proxy", headers=[(name, "Bearer x")])
        assert [value for _, _, value in proxy.fields] == [b"Bearer x"]

    @pytest.mark.parametrize("value", ["b\r\nc: d", "b\nc", "b\0", b"b\rc"])
    def test_what_would_end_a_line_is_refused(self, value: str | bytes) -> None:
        with pytest.raises(ValueError, match="X-Secret"):
            Proxy("http://proxy", headers={"X-Secret": value})

    @pytest.mark.parametrize("name", ["", "a b", "a:", "X\r\nY", "\u00e9"])
    def test_what_is_no_name_is_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="field name"):
            Proxy("http://proxy", headers={name: "x"})

    @pytest.mark.parametrize(
        "name",
        ["Host", "Content-Length", "Transfer-Encoding", "connection", "Expect", "TE", "Trailer", "UPGRADE", b"hOST"],
    )
    def test_what_is_httpios_to_say_is_refused(self, name: str | bytes) -> None:
        with pytest.raises(ValueError, match="given for a proxy") as caught:
            Proxy("https://proxy", headers=[(name, SECRET)])
        assert_says_nothing(caught.value)

    @pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
    def test_socks_has_none(self, scheme: str) -> None:
        with pytest.raises(ValueError, match="SOCKS"):
            Proxy(f"{scheme}://proxy", headers={"X": "y"})
        assert Proxy(f"{scheme}://proxy", headers={}).fields == ()

    def test_wrong_types(self) -> None:
        with pytest.raises(TypeError):
            Proxy("http://proxy", headers="X: y")  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            Proxy("http://proxy", headers={"X": None})  # type: ignore[dict-item]


class TestContext:
    def test_of_an_https_proxy(self) -> None:
        context = ssl.create_default_context()
        assert Proxy("https://proxy", ssl_context=context).ssl_context is context

    @pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h"])
    def test_of_another(self, scheme: str) -> None:
        with pytest.raises(ValueError, match="https://"):
            Proxy(f"{scheme}://proxy", ssl_context=ssl.create_default_context())

    def test_what_is_none(self) -> None:
        with pytest.raises(TypeError, match="not bool"):
            Proxy("https://proxy", ssl_context=True)  # type: ignore[arg-type]


class TestOf:
    def test_none_and_a_proxy_are_themselves(self) -> None:
        proxy = Proxy("https://proxy", headers={"X": "y"})
        assert Proxy.of(proxy) is proxy
        assert Proxy.of(None) is None

    @pytest.mark.parametrize(
        ("given", "shown"),
        [
            ("socks5h://user:word@proxy", "socks5h://proxy:1080"),
            (("Proxy", 3128), "http://proxy:3128"),
            (("::1", 3128), "http://[::1]:3128"),
            (("[::1]", 3128), "http://[::1]:3128"),
            (("fe80::1%eth0", 3128), "http://[fe80::1%eth0]:3128"),
            (("127.0.0.1", 80), "http://127.0.0.1:80"),
        ],
    )
    def test_urls_and_pairs(self, given: str | tuple[str, int], shown: str) -> None:
        proxy = Proxy.of(given)
        assert str(proxy) == shown
        assert proxy is not None
        assert proxy.fields == ()

    @pytest.mark.parametrize(
        "given", ["proxy:3128", "", ("", 80), ("proxy", 0), ("user@proxy", 80), ("a\r\nX: y", 443), ("http://a", 1)]
    )
    def test_refused(self, given: str | tuple[str, int]) -> None:
        with pytest.raises(InvalidURL):
            Proxy.of(given)

    @pytest.mark.parametrize(
        "given", [b"http://proxy", 3128, ["proxy", 3128], ("proxy",), ("proxy", None), (b"proxy", 1), ("a", 1, 2), {}]
    )
    def test_wrong_types(self, given: object) -> None:
        with pytest.raises(TypeError, match=r"proxy|port|host"):
            Proxy.of(given)  # type: ignore[arg-type]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment without what is said of proxies."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name == "REQUEST_METHOD":
            monkeypatch.delenv(name)
    return monkeypatch


def found(url: str) -> str | None:
    proxy = environment_proxy(url)
    return None if proxy is None else str(proxy)


class TestEnvironment:
    @pytest.mark.parametrize(
        ("variables", "http", "https"),
        [
            ({}, None, None),
            ({"HTTP_PROXY": "http://a:1"}, "http://a:1", None),
            ({"https_proxy": "http://a:1"}, None, "http://a:1"),
            ({"ALL_PROXY": "socks5h://a"}, "socks5h://a:1080", "socks5h://a:1080"),
            ({"all_proxy": "http://a:1", "HTTPS_PROXY": "https://b"}, "http://a:1", "https://b:443"),
            ({"http_proxy": "http://a:1", "HTTP_PROXY": "http://b:1"}, "http://a:1", None),
            ({"all_proxy": "http://a:1", "ALL_PROXY": "http://b:1"}, "http://a:1", "http://a:1"),
            ({"http_proxy": "", "HTTP_PROXY": "http://b:1"}, None, None),
            ({"HTTP_PROXY": "", "ALL_PROXY": "http://b:1"}, "http://b:1", "http://b:1"),
            ({"HTTP_PROXY": "a:3128", "HTTPS_PROXY": "[::1]"}, "http://a:3128", "http://[::1]:80"),
            ({"HTTP_PROXY": "http://b:1", "REQUEST_METHOD": "GET"}, None, None),
            ({"http_proxy": "http://b:1", "REQUEST_METHOD": "GET"}, "http://b:1", None),
            ({"HTTPS_PROXY": "http://b:1", "REQUEST_METHOD": "GET"}, None, "http://b:1"),
            ({"FTP_PROXY": "http://b:1"}, None, None),
            ({"HTTP_PROXY": "http://a:1", "NO_PROXY": "h"}, None, None),
            ({"HTTP_PROXY": "http://a:1", "NO_PROXY": "h", "no_proxy": "g"}, "http://a:1", None),
            ({"HTTP_PROXY": "http://a:1", "NO_PROXY": "h", "no_proxy": ""}, "http://a:1", None),
        ],
    )
    def test_which_variable(
        self, environment: pytest.MonkeyPatch, variables: dict[str, str], http: str | None, https: str | None
    ) -> None:
        for name, value in variables.items():
            environment.setenv(name, value)
        assert (found("http://h/x?y"), found("https://h:8443")) == (http, https)

    def test_the_login_is_decoded(self, environment: pytest.MonkeyPatch) -> None:
        environment.setenv("HTTPS_PROXY", "us%20er:w%40rd@proxy:1")
        proxy = environment_proxy("https://h")
        assert proxy is not None
        assert login_of(proxy) == "us er:w@rd"

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("HTTPS_PROXY", f"ftp://user:{SECRET}@proxy"),
            ("https_proxy", f"user:{SECRET}"),
            ("HTTPS_PROXY", f"{SECRET} x"),
            ("ALL_PROXY", f"user:a@{SECRET}@proxy"),
            ("all_proxy", f"socks5://{SECRET}@proxy"),
        ],
    )
    def test_a_bad_value_is_told_by_its_name(self, environment: pytest.MonkeyPatch, name: str, value: str) -> None:
        environment.setenv(name, value)
        with pytest.raises(InvalidURL, match=f"^the environment variable {name}: ") as caught:
            environment_proxy("https://h")
        assert_says_nothing(caught.value)
        environment.setenv("NO_PROXY", "h")
        assert environment_proxy("https://h") is None

    @pytest.mark.parametrize("url", ["", "h:80", "ftp://h/", "http://user:word@h/", "http:///"])
    def test_the_url_is_checked_in_any_case(self, environment: pytest.MonkeyPatch, url: str) -> None:
        with pytest.raises(InvalidURL):
            environment_proxy(url)

    @pytest.mark.parametrize(
        ("no_proxy", "url", "excepted"),
        [
            ("", "http://h", False),
            (" , ,", "http://h", False),
            ("*", "http://h", True),
            ("a,*", "https://[::1]:1", True),
            ("*", "http://127.0.0.1", True),
            # names
            ("h", "http://h", True),
            ("H.Example", "http://h.eXample", True),
            ("h", "http://a.h", True),
            ("h", "http://a.b.h:8080", True),
            (".h", "http://h", True),
            (".h", "http://a.h", True),
            ("*.h", "http://h", True),
            ("*.h", "http://a.h", True),
            ("h", "http://ah", False),
            ("*h", "http://h", False),
            ("*h", "http://ah", False),
            ("a.h", "http://h", False),
            ("h", "http://h.a", False),
            ("h.", "http://h", True),
            ("h", "http://a.h.", True),
            ("h.", "http://h.", True),
            (".", "http://h", False),
            ("..h", "http://h", False),
            ("b\u00fccher.example", "http://xn--bcher-kva.example", True),
            ("localhost", "http://127.0.0.1", False),
            ("a, b,c\td  e", "http://b", True),
            ("a, b,c\td  e", "http://d", True),
            ("a, b,c\td  e", "http://e", True),
            ("a, b,c\td  e", "http://f", False),
            ("http://h", "http://h", False),
            # ports
            ("h:80", "http://h", True),
            ("h:80", "https://h", False),
            ("h:443", "https://a.h/", True),
            (".h:8080", "http://a.h:8080", True),
            ("h:8080", "http://h:8081", False),
            ("h:", "http://h:8081", True),
            (":80", "http://h", False),
            ("*:80", "http://h", False),
            # addresses
            ("127.0.0.1", "http://127.0.0.1:8080", True),
            ("127.0.0.1:8080", "http://127.0.0.1:8080", True),
            ("127.0.0.1:8080", "http://127.0.0.1:8081", False),
            ("127.0.0.1", "http://127.0.0.10", False),
            ("1", "http://127.0.0.1", False),
            ("0.1", "http://127.0.0.1", False),
            (".0.0.1", "http://127.0.0.1", False),
            ("127.0.0.1", "http://a.127.0.0.1.example", False),
            ("::1", "http://[::1]:8080", True),
            ("[::1]", "http://[::1]:8080", True),
            ("[::1]:8080", "http://[::1]:8080", True),
            ("[::1]:8081", "http://[::1]:8080", False),
            ("2001:DB8:0:0::1", "http://[2001:db8::1]", True),
            ("fe80::1", "http://[fe80::1%25eth0]", True),
            ("fe80::1%eth0", "http://[fe80::1%25eth0]", True),
            ("::1", "http://127.0.0.1", False),
            # networks
            ("10.0.0.0/8", "http://10.1.2.3", True),
            ("10.1.1.1/8", "http://10.1.2.3", True),
            ("10.0.0.0/8", "http://11.1.2.3", False),
            ("10.0.0.0/255.0.0.0", "http://10.1.2.3", True),
            ("0.0.0.0/0", "http://10.1.2.3", True),
            ("0.0.0.0/0", "http://[::1]", False),
            ("0.0.0.0/0", "http://h", False),
            ("fd00::/8", "http://[fd12::1]:1", True),
            ("[fd00::]/8", "http://[fd12::1]:1", True),
            ("fd00::/8", "http://[fe80::1]", False),
            ("fe80::/10", "http://[fe80::1%25eth0]", True),
            ("10.0.0.0/33", "http://10.0.0.0", False),
            ("10.0.0/8", "http://10.0.0.0", False),
            ("h/8", "http://h", False),
            ("10.0.0.0/8:80", "http://10.0.0.0", False),
            ("[", "http://[::1]", False),
            ("%", "http://h", False),
        ],
    )
    def test_what_is_excepted(self, environment: pytest.MonkeyPatch, no_proxy: str, url: str, excepted: bool) -> None:
        environment.setenv("ALL_PROXY", "http://proxy:1")
        environment.setenv("NO_PROXY", no_proxy)
        assert found(url) == (None if excepted else "http://proxy:1")

    @given(st.text(alphabet="a1.:/[]%*, \u00e9\udcff-"))
    def test_any_exceptions_are_read(self, no_proxy: str) -> None:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("ALL_PROXY", "http://proxy:1")
            environment.setenv("no_proxy", no_proxy)
            for url in ("http://a.a", "http://1.1.1.1", "http://[::1]"):
                assert found(url) in (None, "http://proxy:1")
