"""httpio.httplib.HTTPMessage: header sections as Python 2 read them, from files."""

from __future__ import annotations

import io

import pytest

from httpio import httplib


def message(text: str) -> httplib.HTTPMessage:
    return httplib.HTTPMessage(io.BytesIO(text.encode("latin-1")))


def test_message_of_a_file() -> None:
    msg = message("A: 1\r\na: 2\r\n cont\r\n: empty\r\nX:\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\nrest")
    assert (msg.status, msg.unixfrom, msg.fp.read()) == ("", "", b"rest")
    assert (msg["a"], msg.getheaders("A"), msg["x"], len(msg)) == ("1, 2\n cont", ["1", "2\n cont"], "", 3)
    assert msg.getfirstmatchingheader("a") == ["A: 1\r\n"]
    assert (msg.getrawheader("a"), msg.getrawheader("b")) == (" 1\r\n", None)
    assert msg.getdate("date") == (1994, 11, 6, 8, 49, 37, 0, 1, 0)
    assert msg.getdate_tz("date") == (1994, 11, 6, 8, 49, 37, 0, 1, 0, 0)
    assert msg.getdate("x") is None
    assert ("A" in msg, msg.has_key("b"), list(msg)[:2]) == (True, False, ["a", "x"])
    assert msg.values()[1] == ""
    msg["A"] = "one\ntwo"
    assert (msg["a"], msg.headers[-2:]) == ("one\ntwo", ["A: one\n", "two\n"])
    assert msg.setdefault("a", "b") == "one\ntwo"
    assert msg.setdefault("New") == ""
    assert "new: \n" in msg.headers
    del msg["A"]
    assert msg.getallmatchingheaders("a") == []
    assert "a" not in msg
    del msg["absent"]
    with pytest.raises(KeyError):
        msg["absent"]


@pytest.mark.parametrize(
    ("text", "lines", "status"),
    [
        ("", 0, "EOF in headers"),
        ("A: 1", 1, "EOF in headers"),
        ("nonsense\r\n\r\n", 0, "Non-header line where header expected"),
        (" A: 1\r\nB: 2\r\n\r\n", 2, ""),
        ("A: 1\r\n: 2\r\n 3\r\nB: 4\r\n\r\n", 2, "Non-header line where header expected"),
        ("A: 1\n\n", 1, ""),
    ],
)
def test_faults_of_a_message(text: str, lines: int, status: str) -> None:
    msg = message(text)
    assert (len(msg.headers), msg.status) == (lines, status)


def test_types_of_a_message() -> None:
    msg = message("\r\n")
    assert (msg.type, msg.maintype, msg.subtype, msg.plist, msg.typeheader) == ("text/plain", "text", "plain", [], None)
    assert (msg.getparam("a"), msg.getparamnames()) == (None, [])
    msg = message('Content-Type: A/B ; X = "1;2" ;y; Z=\'3\';W="open\r\n\r\n')
    assert (msg.gettype(), msg.getmaintype(), msg.getsubtype()) == ("a/b", "a", "b")
    assert msg.getplist() == ['x="1;2"', "y", "z='3'", 'w="open']
    assert (msg.getparam("X"), msg.getparamnames()) == ("1;2", ["x", "z", "w"])
