"""The command through proxies, and with content codings: processes of their own, and servers."""

import gzip
import re
import sys

import pytest

from httpio.cli import main
from servers.proxy import Proxy
from servers.scripted import Scripted
from test_cli import SUMMARY, files


def test_a_password_of_the_environment_is_used_and_not_shown(get, tmp_path, monkeypatch):
    with Proxy(lambda peer: peer.head() and peer.answer(b"", "407 No")) as proxy:
        monkeypatch.setenv("http_proxy", f"http://user:s3cret@localhost:{proxy.port}")
        done = get(["http://h.invalid/a"], tmp_path / "dir", "--proxy-from-environment")
        assert proxy.seen[0].field("Proxy-Authorization") == "Basic dXNlcjpzM2NyZXQ="
        assert proxy.seen[0].target == "http://h.invalid/a"
    assert done.returncode == 1
    assert done.stderr == "httpio: http://h.invalid/a: 407 Proxy Authentication Required\n"


@pytest.mark.parametrize("answer", ["403 Forbidden", "502 Bad Gateway"])
def test_one_that_refuses_a_tunnel(get, tmp_path, answer):
    def refuses(peer):
        if peer.head() is not None:
            peer.answer(b"<p>s3cret</p>", answer)

    with Proxy(refuses) as proxy:
        url = f"http://user:s3cret@localhost:{proxy.port}"
        done = get(["https://h.invalid/a", "https://h.invalid/b"], tmp_path / "dir", "--proxy", url)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert [line.partition(": ")[2].partition(": ")[0] for line in lines] == [
        "https://h.invalid/a",
        "https://h.invalid/b",
    ]
    assert all(answer[:3] in line and f"localhost:{proxy.port}" in line for line in lines)
    assert "s3cret" not in done.stderr + done.stdout


def test_one_that_is_not_there(get, tmp_path):
    with Proxy(lambda peer: None) as proxy:
        url = f"http://user:s3cret@127.0.0.1:{proxy.port}"
    done = get(["http://h.invalid/a"], tmp_path / "dir", "--proxy", url)
    assert done.returncode == 1
    assert re.fullmatch(r"httpio: http://h\.invalid/a: .*127\.0\.0\.1.*\n", done.stderr)
    assert "s3cret" not in done.stderr


def test_socks_without_its_library(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "socksio.socks5", None)
    with Proxy(lambda peer: None) as proxy:
        url = f"socks5h://user:s3cret@localhost:{proxy.port}"
        assert main(["get", "-d", str(tmp_path / "dir"), "--proxy", url, "http://h/a"]) == 2
        assert proxy.connections == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"httpio: --proxy: .*pip install 'httpio\[socks\]'\n", err)
    assert not (tmp_path / "dir").exists()


@pytest.mark.parametrize("size", [5, 3_000_000])
def test_what_is_stored_is_the_content(get, tmp_path, size):
    content = (b"all of it\n" * size)[:size]

    def script(peer):
        while (seen := peer.request()) is not None:
            if "gzip" in seen.field("Accept-Encoding"):
                peer.answer(gzip.compress(content), fields="Content-Encoding: gzip\r\n")
            else:
                peer.answer(content)

    with Scripted(script) as server:
        for folder, options in (("plain", ()), ("zipped", ("--compressed",))):
            done = get([f"{server.url}/a"], tmp_path / folder, *options)
            assert (done.returncode, done.stderr) == (0, "")
            assert files(tmp_path / folder) == {"a": content}
            assert SUMMARY.fullmatch(done.stdout).groups() == ("1", str(size), "0")
        assert [seen.field("Accept-Encoding").startswith("gzip, deflate") for seen in server.seen] == [False, True]


def test_what_is_cut_short_is_no_file(get, tmp_path):
    def script(peer):
        while (seen := peer.request()) is not None:
            encoded = gzip.compress(seen.target.encode() * 1000)
            peer.answer(encoded[:-1] if seen.target == "/b" else encoded, fields="Content-Encoding: gzip\r\n")

    with Scripted(script) as server:
        done = get([f"{server.url}/{name}" for name in "abc"], tmp_path / "dir", "--compressed")
    assert done.returncode == 1
    assert re.fullmatch(rf"httpio: {server.url}/b: .*cut short.*\n", done.stderr)
    assert files(tmp_path / "dir") == {"a": b"/a" * 1000, "c": b"/c" * 1000}
