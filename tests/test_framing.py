"""How requests are framed (RFC 9112 section 6), and the bytes of their bodies."""

import bz2
import contextlib
import gzip
import io
import lzma
import os
import socket
import tempfile
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpio.exceptions import ExcessBodyData, InvalidURL, StateError
from httpio.framing import (
    READ_SIZE,
    BodyKind,
    FilePart,
    chunk,
    encode_get,
    file_length,
    frame_request,
    join_targets,
    last_chunk,
    pieces,
)
from httpio.headers import encode_fields
from httpio.messages import BodyFollowing

DEFAULTS = encode_fields({"Host": "h", "Accept-Encoding": "identity"})
NONE, BYTES, FOLLOWING, SOURCE = BodyKind.NONE, BodyKind.BYTES, BodyKind.FOLLOWING, BodyKind.SOURCE


def frame(method="PUT", headers=None, body=None, target="/x", defaults=(), trailers=None, expect=None):
    return frame_request(method, target, headers, body, defaults, trailers, expect)


def lines_of(head, name):
    """The lines of the head's fields of that name."""
    return [line for line in head.split(b"\r\n")[1:-2] if line.lower().startswith(name.lower() + b":")]


def framing_fields(head):
    return [line for line in head.split(b"\r\n")[1:-2] if line.lower().startswith((b"content-length", b"transfer"))]


def generate(*parts):
    yield from parts


class Unseekable(io.BytesIO):
    def seekable(self):
        return False


# What is given, and then: where the body comes from, its length (None: chunked), the framing field that is sent.
RULES = [
    ("GET", None, (NONE, 0, None)),
    ("HEAD", None, (NONE, 0, None)),
    ("DELETE", None, (NONE, 0, None)),
    ("OPTIONS", None, (NONE, 0, None)),
    ("BREW", None, (NONE, 0, None)),
    ("PUT", None, (NONE, 0, b"Content-Length: 0")),
    ("POST", None, (NONE, 0, b"Content-Length: 0")),
    ("PATCH", None, (NONE, 0, b"Content-Length: 0")),
    ("PUT", b"", (NONE, 0, b"Content-Length: 0")),
    ("GET", b"", (NONE, 0, None)),
    ("GET", b"ab", (BYTES, 2, b"Content-Length: 2")),
    ("BREW", bytearray(b"ab"), (BYTES, 2, b"Content-Length: 2")),
    ("PUT", memoryview(array("H", [1, 2, 3])), (BYTES, 6, b"Content-Length: 6")),
    ("PUT", memoryview(b"").cast("I"), (NONE, 0, b"Content-Length: 0")),
    ("PUT", BodyFollowing(5), (FOLLOWING, 5, b"Content-Length: 5")),
    ("PUT", BodyFollowing(0), (FOLLOWING, 0, b"Content-Length: 0")),
    ("GET", BodyFollowing(), (FOLLOWING, None, b"Transfer-Encoding: chunked")),
    ("PUT", io.BytesIO(b"abc"), (SOURCE, 3, b"Content-Length: 3")),
    ("PUT", io.BytesIO(b""), (SOURCE, 0, b"Content-Length: 0")),
    ("PUT", Unseekable(b"abc"), (SOURCE, None, b"Transfer-Encoding: chunked")),
    ("PUT", [b"a", b"b"], (SOURCE, None, b"Transfer-Encoding: chunked")),
    ("PUT", (), (SOURCE, None, b"Transfer-Encoding: chunked")),
    ("PUT", generate(b"a"), (SOURCE, None, b"Transfer-Encoding: chunked")),
]


@pytest.mark.parametrize(("method", "body", "expected"), RULES)
def test_rules(method, body, expected):
    kind, length, field = expected
    result = frame(method, body=body)
    assert (result.kind, result.length) == (kind, length)
    assert framing_fields(result.head) == ([] if field is None else [field])
    assert (result.close, result.upgrade) == (False, False)


class TestHead:
    def test_bytes_of_a_whole_head(self):
        result = frame("POST", [("X-A", "1"), ("x-a", b"2"), ("HOST", "other")], b"abc", "/p?q", DEFAULTS)
        assert result.head == (
            b"POST /p?q HTTP/1.1\r\nAccept-Encoding: identity\r\nX-A: 1\r\nx-a: 2\r\nHOST: other\r\n"
            b"Content-Length: 3\r\n\r\n"
        )

    def test_defaults_come_first(self):
        assert (
            frame("GET", defaults=DEFAULTS).head == b"GET /x HTTP/1.1\r\nHost: h\r\nAccept-Encoding: identity\r\n\r\n"
        )

    @pytest.mark.parametrize("method", ["", "GET ", "G T", "GET\r\n", "G\u00c9T", "GET\0", "(GET)"])
    def test_methods_that_are_no_tokens(self, method):
        with pytest.raises(ValueError, match="token"):
            frame(method)

    def test_methods_of_other_types(self):
        with pytest.raises(TypeError, match="method"):
            frame(b"GET")

    @pytest.mark.parametrize("target", ["", "x", "/a b", "/a\r\nX: y", "/\u00e9", "/a#b", "http://u@h/", "*"])
    def test_bad_targets(self, target):
        with pytest.raises(InvalidURL):
            frame("GET", target=target)

    def test_connection_options(self):
        assert frame("GET", {"Connection": "keep-alive, Close"}).close
        assert frame("GET", [("Connection", "a"), ("connection", "\tCLOSE ")]).close
        assert not frame("GET", {"Connection": "closed", "X": "close"}).close
        assert frame("GET", {"Connection": "Upgrade", "upgrade": "x"}).upgrade
        assert not frame("GET", {"Upgrade": "x"}).upgrade
        assert not frame("GET", {"Connection": "upgrade"}).upgrade

    @pytest.mark.parametrize(
        "headers",
        [
            [("Host", "a"), ("host", "a")],
            [("Content-Length", "0"), ("content-length", "0")],
            [("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")],
            {"Host": "a b"},
            {"Host": "a\tb"},
            {"Host": "u@h"},
            {"Host": "http://h"},
            {"TE": "chunked"},
            {"TE": "trailers, Chunked "},
            {"Trailer": "Content-Length"},
            {"Trailer": "X, transfer-encoding"},
            {"X": "a\r\nb"},
            {"X Y": "a"},
        ],
    )
    def test_fields_that_are_refused(self, headers):
        with pytest.raises(ValueError, match=r"\w"):
            frame("PUT", headers, b"")

    def test_fields_that_are_not(self):
        assert b"TE: trailers\r\nTrailer: X-Sum\r\n" in frame("PUT", {"TE": "trailers", "Trailer": "X-Sum"}).head


EXPECT = {"Expect": "100-continue"}
FULL = [
    b"a",
    bytearray(b"a"),
    memoryview(b"a"),
    BodyFollowing(1),
    BodyFollowing(),
    io.BytesIO(b"a"),
    [b"a"],
    Unseekable(),
]
EMPTY = [
    (None, {}),
    (b"", {}),
    (bytearray(), {}),
    (memoryview(b""), {}),
    (BodyFollowing(0), {}),
    (io.BytesIO(), {}),
    ([b""], {"Content-Length": "0"}),
    (Unseekable(), {"Content-Length": 0}),
    (BodyFollowing(), {"content-length": "00"}),
]


class TestExpect:
    """RFC 9110 section 10.1.1."""

    @pytest.mark.parametrize("body", FULL, ids=lambda body: type(body).__name__)
    def test_asked_for(self, body):
        for result in (
            frame(body=body, expect=True),
            frame("PUT", EXPECT, body, expect=True),
            frame("PUT", {"EXPECT": "100-Continue"}, body, expect=True),
        ):
            assert result.expects
            assert len(lines_of(result.head, b"Expect")) == 1
        assert lines_of(frame(body=body, expect=True).head, b"Expect") == [b"Expect: 100-continue"]
        result = frame(body=body)
        assert (result.expects, lines_of(result.head, b"Expect")) == (False, [])

    @pytest.mark.parametrize("body", FULL, ids=lambda body: type(body).__name__)
    def test_given_by_the_caller(self, body):
        """It counts as asked for, but not where the caller writes the body: they are to say that they will wait."""
        for value in ("100-continue", "100-Continue", " 100-continue\t"):
            result = frame("PUT", {"expect": value}, body)
            assert result.expects is not isinstance(body, BodyFollowing)
            assert lines_of(result.head, b"Expect") == [b"expect: " + value.strip(" \t").encode()]

    @pytest.mark.parametrize(("body", "declared"), EMPTY, ids=lambda one: type(one).__name__)
    def test_never_for_an_empty_body(self, body, declared):
        for headers, expect in (({}, True), (EXPECT, True), (EXPECT, None), (EXPECT, False)):
            result = frame("PUT", {**headers, **declared}, body, expect=expect)
            assert (result.expects, lines_of(result.head, b"Expect")) == (False, [])

    def test_trailers_make_an_empty_body_one_that_is_sent(self):
        result = frame(body=BodyFollowing(0), trailers={"X": "1"}, expect=True)
        assert result.expects
        assert lines_of(result.head, b"Expect")

    @pytest.mark.parametrize("body", FULL, ids=lambda body: type(body).__name__)
    def test_not_to_be_asked_for(self, body):
        for headers in (EXPECT, {"expect": "100-CONTINUE"}, None):
            result = frame("PUT", headers, body, expect=False)
            assert (result.expects, lines_of(result.head, b"Expect")) == (False, [])

    @pytest.mark.parametrize("value", ["x", "100-continue, x", "100-continue=1", "100-continu", ""])
    def test_another_expectation_is_only_sent(self, value):
        for expect in (None, False):
            result = frame("PUT", {"Expect": value}, b"a", expect=expect)
            assert (result.expects, lines_of(result.head, b"Expect")) == (False, [b"Expect: " + value.encode()])
        with pytest.raises(ValueError, match="Expect"):
            frame("PUT", {"Expect": value}, b"a", expect=True)


def made():
    return {"X-A": "1"}


class TestTrailers:
    """RFC 9110 section 6.5, RFC 9112 section 7.1.2."""

    @pytest.mark.parametrize("body", FULL, ids=lambda body: type(body).__name__)
    @pytest.mark.parametrize("trailers", [{"X-A": "1", "x-b": b"2"}, [("X-A", "1"), ("x-b", "2")], made, {}, ()])
    def test_the_body_is_chunked(self, trailers, body):
        result = frame(body=body, trailers=trailers)
        assert result.length is None
        assert framing_fields(result.head) == [b"Transfer-Encoding: chunked"]

    def test_their_names_are_announced_where_they_are_known(self):
        for trailers in ({"X-A": "1", "x-b": b"2"}, [("X-A", "1"), (b"x-b", "2")]):
            assert lines_of(frame(body=b"a", trailers=trailers).head, b"Trailer") == [b"Trailer: X-A, x-b"]
        for trailers in (made, {}, (), None):
            assert lines_of(frame(body=b"a", trailers=trailers).head, b"Trailer") == []

    @pytest.mark.parametrize("trailers", [made, {"X-A": "1"}])
    def test_the_callers_own_announcement_stands(self, trailers):
        result = frame("PUT", {"trailer": "X-Other"}, b"a", trailers=trailers)
        assert lines_of(result.head, b"Trailer") == [b"trailer: X-Other"]

    def test_a_function_is_not_called_for_the_head(self):
        assert frame(body=b"a", trailers=lambda: 1 / 0).length is None

    def test_the_callers_own_chunking_stands(self):
        result = frame("PUT", {"transfer-encoding": "Chunked"}, b"a", trailers={"X": "1"})
        assert framing_fields(result.head) == [b"transfer-encoding: Chunked"]
        assert result.length is None

    @pytest.mark.parametrize("trailers", [{"X": "1"}, made, {}])
    def test_they_need_a_chunked_body(self, trailers):
        for body in (None, b"", bytearray()):
            with pytest.raises(ValueError, match="without a body"):
                frame(body=body, trailers=trailers)
        for body in (b"a", BodyFollowing(1), BodyFollowing(), [b"a"], io.BytesIO(b"a")):
            with pytest.raises(ValueError, match="Content-Length"):
                frame("PUT", {"Content-Length": "1"}, body, trailers=trailers)

    @pytest.mark.parametrize(
        "name",
        [
            *(
                "Content-Length",
                "TRANSFER-ENCODING",
                "host",
                "Trailer",
                "Authorization",
                "Content-Type",
                "TE",
                "Upgrade",
            ),
            *("Cache-Control", "Content-Encoding", "Content-Range", "If-Match", "Expect", "Max-Forwards", "Connection"),
        ],
    )
    def test_fields_that_cannot_be_trailers(self, name):
        for trailers in ({name: "1"}, [("X", "1"), (name.encode(), "1")]):
            with pytest.raises(ValueError, match=f"{name} cannot be a trailer"):
                frame(body=b"a", trailers=trailers)
            for either in (trailers, lambda trailers=trailers: trailers):
                with pytest.raises(ValueError, match=f"{name} cannot be a trailer"):
                    last_chunk(either)

    @pytest.mark.parametrize(
        ("trailers", "error"),
        [
            ({"X": "a\r\nb"}, ValueError),
            ({"X Y": "1"}, ValueError),
            (5, TypeError),
            ([5], TypeError),
            ("X: 1", TypeError),
        ],
    )
    def test_what_is_no_field(self, trailers, error):
        with pytest.raises(error):
            frame(body=b"a", trailers=trailers)
        with pytest.raises(error):
            last_chunk(trailers)
        with pytest.raises(error):
            last_chunk(lambda: trailers)

    def test_last_chunk(self):
        assert last_chunk() == last_chunk(None) == last_chunk({}) == last_chunk(dict) == b"0\r\n\r\n"
        for trailers in ([("X-A", "1"), ("x-a", b"\xff")], iter([("X-A", "1"), ("x-a", b"\xff")])):
            assert last_chunk(trailers) == b"0\r\nX-A: 1\r\nx-a: \xff\r\n\r\n"
        assert last_chunk(made) == b"0\r\nX-A: 1\r\n\r\n"
        with pytest.raises(ZeroDivisionError):
            last_chunk(lambda: 1 / 0)


class TestDeclared:
    @pytest.mark.parametrize(
        ("body", "length"), [(b"abc", "3"), (BodyFollowing(3), "003"), (BodyFollowing(), "3"), (None, "0"), (b"", "0")]
    )
    def test_the_callers_own_length_stands(self, body, length):
        result = frame("PUT", {"content-length": length}, body)
        assert framing_fields(result.head) == [b"content-length: " + length.encode()]
        assert result.length == int(length)

    @pytest.mark.parametrize("body", [b"ab", BodyFollowing(4), None, b""])
    def test_it_must_be_right_where_that_is_known(self, body):
        with pytest.raises(ValueError, match="says 3 bytes"):
            frame("PUT", {"Content-Length": "3"}, body)

    def test_a_source_may_be_declared_shorter_or_longer(self):
        for body in (io.BytesIO(b"ab"), io.BytesIO(b"abcdef"), [b"a"]):
            result = frame("PUT", {"Content-Length": 3}, body)
            assert (result.kind, result.length) == (SOURCE, 3)

    @pytest.mark.parametrize("length", ["", "+3", "-3", "3 3", "3, 3", "0x3", "3.0", "\u00b3", "9" * 20])
    def test_it_must_be_digits(self, length):
        with pytest.raises(ValueError, match="Content-Length"):
            frame("PUT", {"Content-Length": length}, BodyFollowing())

    def test_chunked_by_the_caller(self):
        for body in (b"abc", BodyFollowing(), [b"a"], io.BytesIO(b"abc")):
            result = frame("PUT", {"transfer-encoding": "Chunked"}, body)
            assert result.length is None
            assert framing_fields(result.head) == [b"transfer-encoding: Chunked"]

    @pytest.mark.parametrize(
        ("fields", "body"),
        [
            ({"Transfer-Encoding": "chunked", "Content-Length": "3"}, b"abc"),
            ({"Transfer-Encoding": "gzip"}, b"abc"),
            ({"Transfer-Encoding": "gzip, chunked"}, b"abc"),
            ({"Transfer-Encoding": "chunked"}, None),
            ({"Transfer-Encoding": "chunked"}, b""),
        ],
    )
    def test_codings_that_cannot_be(self, fields, body):
        with pytest.raises(ValueError, match=r"Transfer-Encoding|coding"):
            frame("PUT", fields, body)


class TestBodies:
    @pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
    def test_methods_without_one(self, method):
        target = "h:1" if method == "CONNECT" else "/"
        with pytest.raises(ValueError, match="no body"):
            frame(method, body=b"a", target=target)
        assert frame(method, target=target).kind is NONE

    @pytest.mark.parametrize("body", ["text", io.StringIO("text"), 5, 1.5, {"a": 1}, object(), bytes])
    def test_types_that_are_refused(self, body):
        with pytest.raises(TypeError, match="body"):
            frame(body=body)

    def test_strided_memory_is_refused(self):
        with pytest.raises(ValueError, match="contiguous"):
            frame(body=memoryview(b"abcdef")[::2])

    def test_nothing_is_consumed(self, tmp_path):
        (tmp_path / "f").write_bytes(b"0123456789")
        with open(tmp_path / "f", "rb") as file:
            file.seek(4)
            assert frame(body=file).length == 6
            assert file.tell() == 4
        memory = io.BytesIO(b"0123456789")
        memory.seek(12)
        assert frame(body=memory).length == 0
        assert memory.tell() == 12
        source = iter([b"a", b"b"])
        frame(body=source)
        assert list(source) == [b"a", b"b"]

    def test_a_pipe_is_chunked(self):
        read, write = os.pipe()
        with open(read, "rb") as file:
            os.close(write)
            assert frame(body=file).length is None

    @pytest.mark.parametrize("module", [gzip, bz2, lzma])
    def test_a_file_that_decompresses_is_sent_whole(self, module, tmp_path):
        content = b"a" * 10000
        (tmp_path / "f").write_bytes(module.compress(content))
        with module.open(tmp_path / "f", "rb") as file:
            length = frame(body=file).length
            assert b"".join(pieces(file, length)) == content
            assert length in (None, 10000)


class OddFile(io.FileIO):
    """It gives what is not in the file."""

    def read(self, size=-1):
        return super().read(size).upper()


class TestFiles:
    """What the operating system may send by itself, and lengths."""

    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "f"
        path.write_bytes(b"0123456789")
        return path

    @pytest.mark.parametrize(
        "options",
        [{"mode": "rb"}, {"mode": "rb", "buffering": 0}, {"mode": "r+b"}, {"mode": "r+b", "buffering": 0}],
        ids=lambda options: f"{options['mode']}-{options.get('buffering')}",
    )
    def test_from_where_it_stands(self, path, options):
        with open(path, **options) as file:
            assert FilePart.of(file, None) == FilePart(file, 0, 10)
            assert file.read(4) == b"0123"
            for part in (FilePart.of(file, None), FilePart.of(file, 6)):
                assert (part.file, part.offset, part.count, len(part)) == (file, 4, 6, 6)
            assert len(FilePart.of(file, 3)) == 3
            assert len(FilePart.of(file, 20)) == 20  # as declared: that it is too short is found when it is sent
            assert (file.tell(), file_length(file)) == (4, 6)
            file.seek(30)
            assert (FilePart.of(file, None), file_length(file)) == (FilePart(file, 30, 0), 0)

    def test_what_was_written_to_it_counts(self, path):
        with open(path, "r+b") as file:
            file.seek(0, io.SEEK_END)
            file.write(b"more")
            file.seek(2)
            file.write(b"xy")
            part = FilePart.of(file, None)
            assert (part.offset, part.count) == (4, 10)
            assert path.read_bytes() == b"01xy456789more"
        with tempfile.TemporaryFile() as file:
            file.write(b"abc")
            file.seek(0)
            assert FilePart.of(file, None) == FilePart(file, 0, 3)

    def test_what_is_left_of_a_part(self, path):
        with open(path, "rb") as file:
            part = FilePart(file, 2, 7)
            assert part.behind(3) == FilePart(file, 5, 4)
            assert part.behind(7) == FilePart(file, 9, 0)
            assert part == FilePart(file, 2, 7)

    def test_files_with_a_way_of_their_own(self, path):
        with contextlib.ExitStack() as opened:
            files = [
                io.BytesIO(b"abc"),
                OddFile(path),
                io.BufferedReader(OddFile(path)),
                type("Odd", (io.BufferedReader,), {})(io.FileIO(path)),
                gzip.GzipFile(path),
                bz2.BZ2File(path),
                lzma.LZMAFile(path),  # noqa: SIM115
                io.TextIOWrapper(io.BufferedReader(io.FileIO(path))),
                io.BufferedWriter(io.FileIO(path, "ab")),
                tempfile.NamedTemporaryFile(),  # noqa: SIM115
                tempfile.SpooledTemporaryFile(),  # noqa: SIM115
                object(),
            ]
            for file in files:
                if hasattr(file, "close"):
                    opened.enter_context(file)
                assert FilePart.of(file, None) is None, file
                assert FilePart.of(file, 1) is None, file

    def test_what_is_no_regular_file(self):
        read, write = os.pipe()
        ours, theirs = socket.socketpair()
        with open(read, "rb") as pipe, open(write, "wb"), ours, theirs, ours.makefile("rb") as stream:
            with open("/dev/zero", "rb") as device, open("/dev/zero", "rb", buffering=0) as raw:
                for file in (pipe, stream, device, raw):
                    assert FilePart.of(file, None) is None
                    assert FilePart.of(file, 1) is None
            assert file_length(pipe) is None
            assert file_length(stream) is None

    def test_closed(self, path):
        for buffering in (0, -1):
            with open(path, "rb", buffering=buffering) as file:
                pass
            assert FilePart.of(file, None) is None
            assert file_length(file) is None

    def test_lengths(self, path):
        memory = io.BytesIO(b"0123456789")
        memory.seek(4)
        assert file_length(memory) == 6
        assert memory.tell() == 4
        memory.seek(12)
        assert (file_length(memory), memory.tell()) == (0, 12)
        with tempfile.SpooledTemporaryFile() as file:
            file.write(b"abc")
            file.seek(1)
            assert file_length(file) in (None, 2)
            assert file.tell() == 1
        path.write_bytes(gzip.compress(b"a" * 1000))
        with gzip.open(path) as packed:
            packed.read(10)
            assert file_length(packed) in (None, 990)
            assert packed.tell() == 10
        for odd in (Unseekable(b"abc"), object()):
            assert file_length(odd) is None


class TestPieces:
    def test_a_file_in_pieces(self):
        content = os.urandom(2 * READ_SIZE + 5)
        for length in (None, len(content)):
            found = list(pieces(io.BytesIO(content), length))
            assert [len(piece) for piece in found] == [READ_SIZE, READ_SIZE, 5]
            assert b"".join(found) == content

    def test_a_growing_file_is_sent_as_declared(self, tmp_path):
        (tmp_path / "f").write_bytes(b"abc")
        with open(tmp_path / "f", "rb") as file:
            length = frame(body=file).length
            (tmp_path / "f").write_bytes(b"abcdef")
            assert b"".join(pieces(file, length)) == b"abc"
            assert file.tell() == 3

    def test_a_shrinking_file_is_an_error(self, tmp_path):
        (tmp_path / "f").write_bytes(b"abcdef")
        with open(tmp_path / "f", "rb") as file:
            source = pieces(file, frame(body=file).length)
            os.truncate(tmp_path / "f", 2)
            assert next(source) == b"ab"
            with pytest.raises(StateError, match="4 bytes less than the 6"):
                next(source)

    @pytest.mark.parametrize("bad", ["text", None, 5])
    def test_a_file_that_gives_no_bytes(self, bad):
        class Odd:
            def read(self, size):
                return bad

        with pytest.raises(TypeError, match=type(bad).__name__):
            next(pieces(Odd(), None))

    def test_a_file_that_gives_more_than_it_was_asked_for(self):
        class Odd:
            def read(self, size):
                return b"x" * (size + 1)

        with pytest.raises((StateError, ExcessBodyData)):
            list(pieces(Odd(), 3))

    def test_empty_pieces_are_left_out(self):
        source = [b"", b"a", bytearray(), memoryview(array("H", [1])), b""]
        assert [bytes(piece) for piece in pieces(source, None)] == [b"a", array("H", [1]).tobytes()]
        assert [len(piece) for piece in pieces(source, 3)] == [1, 2]
        assert list(pieces([], None)) == list(pieces([b""], 0)) == []

    @pytest.mark.parametrize("bad", ["text", 5, None, [b"a"]])
    def test_pieces_of_other_types(self, bad):
        source = pieces([b"a", bad], None)
        next(source)
        with pytest.raises(TypeError, match=type(bad).__name__):
            next(source)

    def test_too_much(self):
        source = pieces([b"ab", b"cd", b"ef"], 3)
        assert next(source) == b"ab"
        with pytest.raises(ExcessBodyData, match="3 bytes"):
            next(source)
        with pytest.raises(ExcessBodyData):
            list(pieces([b"a"], 0))

    def test_too_little(self):
        source = pieces([b"ab"], 3)
        assert next(source) == b"ab"
        with pytest.raises(StateError, match="1 bytes less than the 3"):
            next(source)

    def test_errors_of_the_source_pass_through(self):
        def source():
            yield b"a"
            raise KeyError("mine")

        found = pieces(source(), None)
        next(found)
        with pytest.raises(KeyError):
            next(found)


def test_chunk():
    assert chunk(b"a" * 26) == b"1a\r\n" + b"a" * 26 + b"\r\n"
    assert chunk(memoryview(array("H", [1, 1]))) == b"4\r\n" + array("H", [1, 1]).tobytes() + b"\r\n"
    assert chunk(bytearray(b"x")) == b"1\r\nx\r\n"


# -- many targets at once --

TARGETS = st.one_of(
    st.text("abc/?%~!&=.", max_size=8).map(lambda text: "/" + text),
    st.text("ab/ \n\r#\t\0\x7f\u00e9\u2028*", max_size=6),
    st.just("http://h/x"),
)


@given(st.lists(TARGETS, max_size=6))
def test_joined_targets_are_the_single_heads_joined(targets):
    rest = b" HTTP/1.1\r\nHost: h\r\nAccept-Encoding: identity\r\n\r\n"
    joined = join_targets(targets, rest)
    plain = bool(targets)
    heads = []
    for target in targets:
        try:
            heads.append(frame("GET", target=target, defaults=DEFAULTS).head)
            plain = plain and target.startswith("/")
        except InvalidURL:
            plain = False
        single = encode_get(target, rest)
        assert single is None or single == heads[-1]
        assert (single is not None) or not target.startswith("/") or not plain
    assert joined == (b"".join(heads) if plain else None)


@pytest.mark.parametrize(
    "targets",
    [[], ["/a", 5], ["/a", b"/b"], ["/a", None], ["/a\n/b"], ["/a\n"], ["/a", "/b\nc"], ["/a", "b"], ["b", "/a"]],
)
def test_targets_that_are_not_joined(targets):
    assert join_targets(targets, b" HTTP/1.1\r\n\r\n") is None


@pytest.mark.parametrize("target", [5, b"/b", None, "", "b", "/a b", "/a\n", "/\u00e9"])
def test_targets_that_are_not_plain(target):
    assert encode_get(target, b"") is None


@pytest.mark.parametrize(
    ("method", "target", "host"),
    [
        ("GET", "/a", b"own.example"),
        ("OPTIONS", "*", b"own.example"),
        ("GET", "http://other.example/a", b"other.example"),
        ("GET", "http://other.example:8080/a", b"other.example:8080"),
        ("GET", "https://[2001:db8::1]:443/a", b"[2001:db8::1]"),
        ("CONNECT", "other.example:443", b"other.example:443"),
    ],
)
def test_host_is_what_the_target_names(method, target, host):
    """RFC 9112 section 3.2; the caller's own field wins all the same."""
    defaults = encode_fields({"Host": "own.example"})
    lines = frame_request(method, target, None, None, defaults).head.split(b"\r\n")
    assert [line for line in lines if line.lower().startswith(b"host:")] == [b"Host: " + host]
    lines = frame_request(method, target, {"host": "mine.example"}, None, defaults).head.split(b"\r\n")
    assert [line for line in lines if line.lower().startswith(b"host:")] == [b"host: mine.example"]
