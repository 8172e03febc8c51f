"""Requests, responses, limits and leniency as values."""

import copy
import dataclasses
import io
import pickle

import pytest

from httpio._parser import ResponseParser
from httpio.exceptions import InvalidResponse, UnsupportedResponse
from httpio.messages import BodyFollowing, HTTPResponse, Lenient, Limits, Request


def respond(item, wire, limit=1000):
    parser = ResponseParser(HTTPResponse, InvalidResponse, UnsupportedResponse, None, 0, limit)
    parser.expect(item)
    with memoryview(parser) as free:
        free[: len(wire)] = wire
    [response] = parser.buffer_updated(len(wire))
    return response, parser


WIRE = (
    b"HTTP/1.1 404 Not  Here\r\nX: 1\r\nx: 2\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: v\r\nT: w\r\n\r\n"
)


class TestBodyFollowing:
    def test_length_or_none(self):
        assert (BodyFollowing(5).length, BodyFollowing(0).length, BodyFollowing().length) == (5, 0, None)
        assert (repr(BodyFollowing(5)), repr(BodyFollowing())) == ("BodyFollowing(5)", "BodyFollowing()")

    @pytest.mark.parametrize("length", ["5", 5.0, True, b"5"])
    def test_other_types(self, length):
        with pytest.raises(TypeError, match=type(length).__name__):
            BodyFollowing(length)

    def test_negative(self):
        with pytest.raises(ValueError, match="negative"):
            BodyFollowing(-1)


class TestRequest:
    def test_keeps_what_it_is_given(self):
        headers, body, tag = {"X": "y"}, b"abc", object()
        request = Request("PUT", "/x", headers, body, idempotent=False, tag=tag)
        assert (request.method, request.path, request.idempotent) == ("PUT", "/x", False)
        assert request.headers is headers
        assert request.body is body
        assert request.tag is tag
        assert repr(request) == "<Request PUT /x>"

    def test_headers_from_an_iterator_can_be_read_again(self):
        request = Request("GET", "/", iter([("A", "1")]))
        assert list(request.headers) == list(request.headers) == [("A", "1")]

    def test_trailers(self):
        assert Request("PUT", "/", None, b"x").trailers is None
        for trailers in ({"A": "1"}, [("A", "1")], dict):
            request = Request("PUT", "/", None, b"x", trailers=trailers)
            assert request.trailers is trailers
            assert request.with_path("/b").trailers is trailers
            assert request.repeatable

    def test_trailers_from_an_iterator_can_be_read_again(self):
        request = Request("PUT", "/", None, b"x", trailers=iter([("A", "1")]))
        assert list(request.trailers) == list(request.trailers) == [("A", "1")]

    @pytest.mark.parametrize(
        ("method", "idempotent"),
        [
            ("GET", True),
            ("HEAD", True),
            ("PUT", True),
            ("DELETE", True),
            ("OPTIONS", True),
            ("TRACE", True),
            ("POST", False),
            ("PATCH", False),
            ("CONNECT", False),
            ("BREW", False),
            ("get", False),
        ],
    )
    def test_idempotent_by_method_unless_told(self, method, idempotent):
        assert Request(method, "/").idempotent is idempotent
        assert Request(method, "/", idempotent=True).idempotent
        assert not Request(method, "/", idempotent=False).idempotent

    @pytest.mark.parametrize(
        ("body", "replayable"),
        [
            (None, True),
            (b"", True),
            (b"a", True),
            (bytearray(b"a"), True),
            (memoryview(b"a"), True),
            (io.BytesIO(b"a"), False),
            ([b"a"], False),
            (iter([b"a"]), False),
            (BodyFollowing(1), False),
        ],
    )
    def test_replayable(self, body, replayable):
        assert Request("PUT", "/", None, body).replayable is replayable
        assert Request("PUT", "/", None, body).repeatable is replayable
        assert Request("POST", "/", None, body).repeatable is False
        assert Request("POST", "/", None, body, idempotent=True).repeatable is replayable

    def test_with_path(self):
        request = Request("POST", "/a", {"X": "y"}, b"b", idempotent=True, tag=5)
        other = request.with_path("/b")
        assert (other.path, request.path) == ("/b", "/a")
        assert (other.method, other.headers, other.body, other.idempotent, other.tag) == (
            ("POST", request.headers, b"b", True, 5)
        )
        assert not Request("POST", "/").with_path("/c").idempotent


class TestHTTPResponse:
    def test_what_it_shows(self):
        request = Request("POST", "/x")
        response, _ = respond(request, WIRE)
        assert (response.status, response.reason, response.version) == (404, "Not  Here", 11)
        assert (response.length, response.framing, response.complete_by) == (None, "chunked", "last chunk")
        assert response.headers.get_all("X") == ["1", "2"]
        assert response.headers is response.headers
        assert response.trailers.get_all("t") == ["v", "w"]
        assert response.trailers is response.trailers
        assert response.body == b"abc"
        assert response.informational == ()
        assert response.request is request
        assert (response.method, response.path) == ("POST", "/x")
        assert response.persistent
        assert response.request_complete
        assert repr(response) == "<HTTPResponse 404 Not  Here to POST /x>"

    def test_trailers_are_empty_before_the_end(self):
        response, parser = respond(Request("GET", "/"), WIRE, limit=-1)
        assert response.body is None
        assert len(response.trailers) == 0
        while parser.read(10):
            pass
        assert response.trailers["T"] == "v"

    def test_the_request_of_a_target_is_made_when_someone_looks(self):
        target = "".join(("/a", "/b"))
        response, _ = respond(target, WIRE)
        assert (response.method, response.path) == ("GET", "/a/b")
        assert response.answers(target)
        request = response.request
        assert (request.method, request.path) == ("GET", "/a/b")
        assert response.request is request
        assert (response.method, response.path) == ("GET", "/a/b")

    def test_the_item_is_what_was_handed_in(self):
        target = "".join(("/a", "/b"))
        request = Request("GET", "/")
        for item in (target, request):
            response, _ = respond(item, WIRE)
            assert response.item is item
            assert response.answers(response.item)
            assert response.path == response.request.path
        assert request is response.item
        with pytest.raises(AttributeError):
            response.item = "/x"

    def test_answers(self):
        request = Request("GET", "/")
        response, _ = respond(request, WIRE)
        assert response.answers(request)
        assert not response.answers(Request("GET", "/"))

    def test_is_read_only_and_one_object(self):
        response, _ = respond("/", WIRE)
        for name in ("status", "body", "headers", "complete_by", "other", "persistent"):
            with pytest.raises(AttributeError):
                setattr(response, name, 5)

    def test_copies(self):
        response, _ = respond("/", WIRE)
        for other in (copy.copy(response), pickle.loads(pickle.dumps(response))):
            assert (other.status, other.body, other.headers["x"]) == (404, b"abc", "1")

    def test_reason_may_be_empty_or_any_octets(self):
        for reason, wanted in ((b"", ""), (b" ", ""), (b" \xe9\xff", "\xe9\xff"), (b" a\tb", "a\tb")):
            response, _ = respond("/", b"HTTP/1.1 200" + reason + b"\r\nContent-Length: 0\r\n\r\n")
            assert response.reason == wanted


def test_limits():
    assert dataclasses.asdict(Limits()) == {
        "max_line_size": 65536,
        "max_headers": 100,
        "max_field_size": 256 * 1024,
        "max_interim": 100,
        "max_chunk_line": 4096,
        "max_chunk_ext": 16 * 1024,
        "max_trailers": 100,
        "max_leading": 64 * 1024,
        "max_codings": 5,
        "max_decoded": 64 * 1024 * 1024,
        "max_ratio": 1000,
    }
    with pytest.raises(dataclasses.FrozenInstanceError):
        Limits().max_headers = 5
    assert Limits(max_headers=5) == Limits(max_headers=5) != Limits()


def test_lenient():
    assert [(flag.name, int(flag)) for flag in Lenient] == [
        ("LF", 1),
        ("CTL", 2),
        ("CHUNK_SPACE", 4),
        ("UNTIL_CLOSE", 8),
    ]
    assert Lenient.LF | Lenient.CTL == 3
    assert not Lenient(0)
