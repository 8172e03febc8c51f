"""URLs taken apart; hosts, ports and targets checked."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

import corpus
from httpio.exceptions import InvalidURL
from httpio.urls import Origin, check_host, check_port, check_target, host_field, split_url

CASES = corpus.requests()


@pytest.mark.parametrize("case", [c for c in CASES if c["group"] == "target"], ids=lambda c: c["id"])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_target_cases(case, as_bytes):
    target = case["call"]["url"]
    if as_bytes:
        target = target.encode()
    if case["expect"] == "ok":
        assert check_target(case["call"]["method"], target) == case["call"]["url"].encode()
    else:
        with pytest.raises(InvalidURL) as caught:
            check_target(case["call"]["method"], target)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("host", [c["call"]["host"] for c in CASES if c["group"] == "host" and "host" in c["call"]])
def test_host_cases(host):
    with pytest.raises(ValueError, match="host"):
        check_host(host)


@pytest.mark.parametrize(
    ("url", "origin", "target"),
    [
        ("http://h", ("http", "h", 80), "/"),
        ("https://h/", ("https", "h", 443), "/"),
        ("HTTP://Example.COM:8080/A?b=C", ("http", "example.com", 8080), "/A?b=C"),
        ("http://h:80", ("http", "h", 80), "/"),
        ("http://h:/x", ("http", "h", 80), "/x"),
        ("http://h?q", ("http", "h", 80), "/?q"),
        ("http://h?q/r#f", ("http", "h", 80), "/?q/r"),
        ("http://h#f?q/r", ("http", "h", 80), "/"),
        ("http://h/a#f", ("http", "h", 80), "/a"),
        ("http://h/a#f#g?h", ("http", "h", 80), "/a"),
        ("http://h//a/../b;c=%2e,!", ("http", "h", 80), "//a/../b;c=%2e,!"),
        ("http://h/x?u=http://other/", ("http", "h", 80), "/x?u=http://other/"),
        ("http://h/@b:c", ("http", "h", 80), "/@b:c"),
        ("http://127.0.0.1:1/", ("http", "127.0.0.1", 1), "/"),
        ("http://[::1]/", ("http", "::1", 80), "/"),
        ("https://[2001:DB8:0::1]:8443/x", ("https", "2001:db8::1", 8443), "/x"),
        ("http://[fe80::1%25eth0]:81/", ("http", "fe80::1%eth0", 81), "/"),
        ("http://b\u00fccher.example/", ("http", "xn--bcher-kva.example", 80), "/"),
        ("http://under_score.example./", ("http", "under_score.example.", 80), "/"),
    ],
)
def test_urls(url, origin, target):
    assert split_url(url) == (Origin(*origin), target)
    assert check_target("GET", split_url(url)[1]) == target.encode()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/",
        "h/a",
        "//h/a",
        "http:/h",
        "http:h",
        "ftp://h/",
        "file:///etc/passwd",
        " http://h/",
        "http://h/ ",
        "http://h/a b",
        "http://h/a\tb",
        "http://h/a\r\nHost: x",
        "http://h/\x00",
        "http://h/\x7f",
        "http://h/\u00e9",
        "http://h/a#b c",
        "http://h/?\u2028",
        "http://h /",
        "http:///a",
        "http://?a",
        "http://:80/",
        "http://user@h/",
        "http://user:pw@h/",
        "http://user:pw@h",
        "http://h\\@x/",
        "http://h\\x/",
        "http://h:0/",
        "http://h:65536/",
        "http://h:000080/",
        "http://h:+80/",
        "http://h:8_0/",
        "http://h:\uff18\uff10/",
        "http://h:80:81/",
        "http://a:80.example/",
        "http://::1/",
        "http://[::1/",
        "http://[::1]80/",
        "http://[::1]x:80/",
        "http://[h]/",
        "http://[]/",
        "http://[::g]/",
        "http://[::1%25]/",
        "http://[::1%25a/b]/",
        "http://a..b/",
        "http://.a/",
        "http://./",
        "http://%61/",
        "http://a,b/",
        "http://" + "a" * 64 + "/",
        "http://" + "a." * 128 + "/",
        "http://\u2100.example/",
        "http://a\uff0fb.example/",
        "http://a\uff20b.example/",
        "http://" + "\u00fc" * 64 + "/",
    ],
)
def test_refused_urls(url):
    with pytest.raises(InvalidURL) as caught:
        split_url(url)
    assert str(caught.value).isprintable()
    assert str(caught.value).isascii()


@pytest.mark.parametrize("url", ["http://u:s3cret@h/", "http://u:s3cret/x@h/", "u:s3cret@h://x", "s3cret@h/"])
def test_a_password_is_not_shown(url):
    with pytest.raises(InvalidURL) as caught:
        split_url(url)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(InvalidURL) as caught:
        check_host("u:s3cret@h")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", [None, b"http://h/", 5])
def test_a_url_is_str(url):
    with pytest.raises(TypeError):
        split_url(url)


@pytest.mark.parametrize("host", ["\u00fc" * 1_000_000, "a" * 1_000_000, ":" * 1_000_000, "\u00fc" * 300])
def test_a_very_long_host_is_not_looked_at(host):
    # Some versions of the IDNA codec take quadratic time.
    with pytest.raises(InvalidURL, match="longer than 253"):
        check_host(host)


@pytest.mark.parametrize(
    ("host", "checked"),
    [
        ("Example.COM", "example.com"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("b\u00fccher.de", "xn--bcher-kva.de"),
        ("localhost", "localhost"),
        ("a" * 63 + "." + "b" * 63 + "." + "c" * 63 + "." + "d" * 61 + ".", None),
    ],
)
def test_hosts(host, checked):
    assert check_host(host) == (checked or host)
    assert check_host(check_host(host)) == check_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        " ",
        "a b",
        "a/b",
        "a:80",
        "a?b",
        "a#b",
        "[::1",
        "::1]",
        "a\x00",
        "\u0661.example",
        "a\nb",
        "*",
        "a%41",
    ],
)
def test_refused_hosts(host):
    # An Arabic digit is a digit to str.isdigit; in a name it is encoded like any letter.
    if host == "\u0661.example":
        assert check_host(host).isascii()
        return
    with pytest.raises(InvalidURL):
        check_host(host)


def test_ports():
    assert check_port(1) == 1
    assert check_port("65535") == 65535
    for port in (0, -1, 65536, "", "0", "-1", "+1", " 1", "1 ", "1_0", "\u0661", "999999", "1" * 5000):
        with pytest.raises(InvalidURL):
            check_port(port)
    for port in (None, 80.0, True, b"80"):
        with pytest.raises(TypeError):
            check_port(port)


@pytest.mark.parametrize(
    ("host", "port", "scheme", "field"),
    [
        ("h", 80, "http", "h"),
        ("h", 443, "https", "h"),
        ("h", 443, "http", "h:443"),
        ("h", 80, "https", "h:80"),
        ("::1", 80, "http", "[::1]"),
        ("fe80::1%eth0", 81, "http", "[fe80::1]:81"),
    ],
)
def test_host_field(host, port, scheme, field):
    assert host_field(host, port, scheme) == field
    assert Origin(scheme, host, port).field == field
    assert str(Origin(scheme, host, port)) == f"{scheme}://{field}"


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/"),
        ("GET", "//x"),
        ("GET", "/?#"[:2]),
        ("GET", b'/%00?a=b&c[]={}|\\^`"<>'),
        ("GET", "http://h/x?y"),
        ("GET", "HTTPS://h"),
        ("OPTIONS", "*"),
        ("OPTIONS", "/x"),
        ("CONNECT", "h:443"),
        ("CONNECT", "[::1]:443"),
        ("CONNECT", "127.0.0.1:1"),
    ],
)
def test_targets(method, target):
    assert check_target(method, target) == (target if isinstance(target, bytes) else target.encode())


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "*"),
        ("HEAD", "*"),
        ("options", "*"),
        ("GET", "?a"),
        ("GET", "h:443"),
        ("GET", "/a b"),
        ("GET", b"/\xc3\xa9"),
        ("GET", "/\x7f"),
        ("GET", "/#"),
        ("GET", "http://u:p@h/"),
        ("GET", "ftp://h/"),
        ("GET", "http:///"),
        ("GET", ""),
        ("GET", b""),
        ("CONNECT", "/"),
        ("CONNECT", "h"),
        ("CONNECT", "h:"),
        ("CONNECT", ":443"),
        ("CONNECT", "h:0"),
        ("CONNECT", "::1:443"),
        ("CONNECT", "[::1]"),
        ("CONNECT", "u@h:443"),
        ("CONNECT", "http://h:443"),
        ("CONNECT", "h:443/"),
        ("CONNECT", "*"),
    ],
)
def test_refused_targets(method, target):
    with pytest.raises(InvalidURL):
        check_target(method, target)


@pytest.mark.parametrize("target", [None, 5, bytearray(b"/")])
def test_a_target_is_str_or_bytes(target):
    with pytest.raises(TypeError):
        check_target("GET", target)


@given(st.text())
def test_what_passes_is_one_word_of_ascii(text):
    for url in (text, "http://" + text, "http://h/" + text):
        try:
            origin, target = split_url(url)
        except InvalidURL:
            continue
        assert target[0] == "/"
        assert all("!" <= c <= "~" and c != "#" for c in target)
        assert check_target("GET", target) == target.encode()
        assert check_host(origin.host) == origin.host
        assert split_url(str(origin) + target) == (
            origin._replace(host=origin.host.partition("%")[0]),
            target,
        )


def test_an_origin_is_a_value():
    origin = split_url("http://h:81/")[0]
    assert pickle.loads(pickle.dumps(origin)) == origin
    assert {origin: 1}[Origin("http", "h", 81)] == 1
