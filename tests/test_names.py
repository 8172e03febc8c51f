"""The list of objects: how it is read, how objects are named, and what is refused by line number."""

import io
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpio.bulk import names
from httpio.bulk.names import Listing, check_name, folder_for
from httpio.urls import split_url


def read(data):
    listing = Listing()
    listing.read(io.BytesIO(data if isinstance(data, bytes) else data.encode()))
    return listing, listing.finish()


def named(data):
    listing, bad = read(data)
    assert bad == []
    assert len(listing) == len(list(listing))
    return [entry.name for entry in listing]


def refused(data):
    return read(data)[1]


class TestReading:
    def test_an_object_has_origin_target_and_name(self):
        listing, bad = read("http://h:81/a/b?c#d  x y.txt\n")
        assert bad == []
        assert list(listing) == [(("http", "h", 81), "/a/b?c", "x y.txt")]

    def test_iterating_may_be_repeated(self):
        listing, _ = read("".join(f"http://h/{i}\n" for i in range(3000)))
        assert [e.name for e in listing] == [e.name for e in listing] == [str(i) for i in range(3000)]

    @pytest.mark.parametrize(
        "data",
        [
            "http://h/u x",
            "http://h/u x\n",
            "http://h/u x\r\n",
            "\ufeffhttp://h/u x\r\n",
            "http://h/u\tx\n",
            "http://h/u \t \tx \t\n",
            "  http://h/u x\n",
            "\n\n# http://h/v y\n  \t\n#\nhttp://h/u x\n\r\n",
        ],
    )
    def test_shapes_of_a_line(self, data):
        assert named(data) == ["x"]

    def test_a_name_reaches_to_the_end_of_the_line(self):
        assert named("http://h/u  a b  c#d é\n") == ["a b  c#d é"]

    @pytest.mark.parametrize("data", ["", "\n", "# only a comment", "\ufeff", "\ufeff# x"])
    def test_a_list_of_nothing(self, data):
        assert named(data) == []

    def test_other_whitespace_separates_nothing(self):
        # U+00A0 and U+2003 are whitespace for str.split, which must not decide where a URL ends.
        assert [n for n, _ in refused("http://h/a\u00a0x\nhttp://h/b\u2003y\n")] == [1, 2]

    def test_a_byte_order_mark_elsewhere_is_text(self):
        assert [n for n, _ in refused("http://h/a\n\ufeffhttp://h/b\n")] == [2]

    def test_every_bad_line_is_told_by_number_in_order(self):
        data = b"http://h/a\nftp://h/b\n\nhttp://h/\nhttp://h/\xff\nhttp://h/c ../x\nhttp://h/a2 a\n"
        assert [number for number, _ in refused(data)] == [2, 4, 5, 6, 7]

    def test_lines_that_are_not_utf8(self):
        assert refused(b"http://h/a \xe9\n") == [(1, "the line is not UTF-8")]

    def test_a_long_target_is_read(self):
        listing, bad = read("http://h/" + "a" * 100_000 + " x\n")
        assert bad == []
        assert len(next(iter(listing)).target) == 100_001

    @pytest.mark.parametrize("end", [b"\n", b"", b"\r\n"])
    def test_an_over_long_line_is_refused_and_the_next_is_read(self, end):
        for size in (names.MAX_LINE + 2, names.MAX_LINE * 3, names.MAX_LINE * 3 + 1):
            listing, bad = read(b"http://h/a\n" + b"x" * size + end + (b"http://h/b\n" if end else b""))
            assert [number for number, _ in bad] == [2]
            assert "longer" in bad[0].reason
            assert len(listing) == (2 if end else 1)

    def test_a_password_in_a_url_is_not_shown(self):
        [(number, reason)] = refused("http://user:s3cret@h/a\n")
        assert number == 1
        assert "s3cret" not in reason


class TestNaming:
    @pytest.mark.parametrize(
        ("path", "name"),
        [
            ("/a", "a"),
            ("/a/b.txt?x=/../y", "a/b.txt"),
            ("/a%20b/%C3%A9", "a b/é"),
            ("/a%2541", "a%41"),
            ("/a%zz", "a%zz"),
            ("/a%2Fb", "a/b"),
            ("/...", "..."),
            ("/.hidden", ".hidden"),
            ("/a:b", "a:b"),
        ],
    )
    def test_by_the_path(self, path, name):
        assert named(f"http://h{path}") == [name]

    @pytest.mark.parametrize(
        "path",
        [
            "",
            "/",
            "/a/",
            "/a/?x",
            "/?x",
            "/%2F",
            "//a",
            "//etc/passwd",
            "/%2Fetc/passwd",
            "/..",
            "/../a",
            "/a/..",
            "/a/../b",
            "/%2e%2e/a",
            "/..%2fa",
            "/a//b",
            "/./a",
            "/%2e",
            "/a%00",
            "/a%0Ab",
            "/%1b",
            "/%7f",
            "/%ff",
            "/" + "a" * 256,
            "/" + "%C3%A9" * 128,
            "/" + "a/" * 2000 + "a",
        ],
    )
    def test_refused_by_the_path(self, path):
        [(number, reason)] = refused(f"# list\nhttp://h{path}\n")
        assert number == 2
        assert reason.isprintable()

    @pytest.mark.parametrize(
        "name",
        ["/a", "..", ".", "../a", "a/..", "a//b", "a/", "a/./b", "a\x00", "a\x1b[0m", "x" * 256, "é" * 128],
    )
    def test_refused_in_the_list(self, name):
        assert [number for number, _ in refused(f"http://h/ {name}\n")] == [1]

    @pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "/".join(["x" * 255] * 15), "a\\b", "a b", "-rf", "~", "…"])
    def test_allowed_in_the_list(self, name):
        assert named(f"http://h/ {name}\n") == [name]

    def test_a_path_that_ends_in_a_slash_takes_a_name_from_the_list(self):
        assert named("http://h/a/ index.html\n") == ["index.html"]
        assert "needs a name" in refused("http://h/a/\n")[0].reason

    def test_several_origins_get_a_folder_each(self):
        data = (
            "http://h/a\nhttps://other/a\nhttp://h:8080/a\nhttps://h:80/b\nhttp://[2001:db8::1]/a\n"
            "http://[::1]:81/a\nhttp://other/listed own/name\n"
        )
        assert named(data) == [
            "h/a",
            "other/a",
            "h+8080/a",
            "h+80/b",
            "[2001-db8--1]/a",
            "[--1]+81/a",
            "own/name",
        ]

    def test_one_origin_in_several_spellings_is_one(self):
        assert named("http://h/a\nHTTP://H:80/b\n") == ["a", "b"]

    def test_a_folder_for_every_origin(self):
        for url in ("http://h/", "http://h:1/", "https://[fe80::1%25eth0]:65535/"):
            check_name(folder_for(split_url(url)[0]), windows=True)

    def test_the_folder_of_a_host_can_be_too_long(self):
        host = "a." * 126 + "a"
        assert refused(f"http://{host}:65535/x\n") == []
        assert [n for n, _ in refused(f"http://{host}:65535/x\nhttp://h/y\n")] == [1]


class TestClashes:
    @pytest.mark.parametrize(
        "data",
        [
            "http://h/a\nhttp://h/a\n",
            "http://h/a?1\nhttp://h/a?2\n",
            "http://h/x/y\nhttp://h/ x/y\n",
            "http://h/x%2Fy\nhttp://h/x/y\n",
            "http://h/a\nhttps://h/a\n",
        ],
    )
    def test_a_name_is_given_once(self, data):
        [(number, reason)] = refused(data)
        assert number == 2
        assert "line 1" in reason

    def test_each_further_one_is_told(self):
        assert [n for n, _ in refused("http://h/a\n\nhttp://h/a\nhttp://h/b\nhttp://h/a\n")] == [3, 5]

    @pytest.mark.parametrize(
        ("data", "number", "other"),
        [
            ("http://h/a\nhttp://h/a/b\n", 1, 2),
            ("http://h/a/b\nhttp://h/a\n", 2, 1),
            ("http://h/a/b/c/d\nhttp://h/a/b/x\nhttp://h/a/b\n", 3, 1),
            ("http://h/x/y\nhttp://g/z\nhttp://h/ h\n", 3, 1),
        ],
    )
    def test_a_name_is_not_that_of_a_folder(self, data, number, other):
        [bad] = refused(data)
        assert bad.number == number
        assert f"folder in line {other}" in bad.reason

    def test_names_that_only_look_alike(self):
        assert len(named("http://h/a\nhttp://h/ab\nhttp://h/b/a\nhttp://h/a.b/c\n")) == 4

    def test_equal_hashes_are_no_equal_names(self, monkeypatch):
        monkeypatch.setattr(names, "hash", lambda name: len(name), raising=False)
        assert len(named("".join(f"http://h/x{i % 7}/y{i}\n" for i in range(200)))) == 200
        assert [n for n, _ in refused("http://h/a\nhttp://h/b\nhttp://h/a\nhttp://h/b/c\n")] == [2, 3]

    def test_case_counts_where_the_system_has_it(self, monkeypatch):
        data = "http://h/A\nhttp://h/a\n"
        monkeypatch.setattr(names, "_FOLDS_CASE", False)
        assert refused(data) == []
        monkeypatch.setattr(names, "_FOLDS_CASE", True)
        assert [n for n, _ in refused(data)] == [2]


@pytest.mark.parametrize(
    "name",
    [
        "a\\b",
        "..\\a",
        "c:a",
        "a:stream",
        "con",
        "NUL.txt",
        "x/aux",
        "com1",
        "a.",
        "a ",
        "a./b",
        "a*",
        'a"',
        "nul .x",
    ],
)
def test_what_is_special_on_windows(name):
    check_name(name, windows=False)
    with pytest.raises(ValueError, match="Windows"):
        check_name(name, windows=True)


@pytest.mark.parametrize("name", ["console", "com", "com10", "a.b.c", ".hidden", "a b"])
def test_what_is_not_special_on_windows(name):
    check_name(name, windows=True)


def test_text_that_cannot_be_encoded_is_refused():
    with pytest.raises(ValueError, match="Unicode"):
        check_name("a\udcff")


@given(st.text())
def test_a_name_that_passes_stays_below_the_folder(name):
    try:
        check_name(name)
    except ValueError:
        return
    assert os.path.normpath(os.path.join("/base", name)) == f"/base/{name}"
    assert len(os.fsencode(name)) <= names.MAX_NAME


@given(st.lists(st.binary(max_size=30), max_size=5))
def test_whatever_is_in_the_list_each_line_has_one_verdict(lines):
    data = b"".join(b"http://h/" + line.replace(b"\n", b"") + b"\n" for line in lines)
    listing, bad = read(data)
    assert [number for number, _ in bad] == sorted(number for number, _ in bad)
    assert len(listing) + len({n for n, _ in bad}) >= len(lines)
    for entry in listing:
        check_name(entry.name)


def test_memory_stays_near_the_size_of_the_list():
    # 200,000 lines, about 11 MB; as tuples of strings they would take 50 MB.
    program = """
import resource
from httpio.bulk.names import Listing
class File:
    number = 0
    def readline(self, limit):
        self.number += 1
        line = b"http://example.com/objects/%09d folder/%09d.bin\\n" % (self.number, self.number)
        return line if self.number <= 200_000 else b""
listing = Listing()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
listing.read(File())
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert listing.finish() == []
assert sum(1 for _ in listing) == 200_000
end = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(after - before, end - before)
"""
    if sys.platform != "linux":
        pytest.skip("ru_maxrss is in KiB on Linux only")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    kept, peak = map(int, done.stdout.split())
    assert kept < 24 * 1024
    assert peak < 48 * 1024
