"""Headers of responses, the ancestor's dict, and the caller's fields on their way out."""

import email.message
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

import corpus
from httpio.headers import CaseInsensitiveDict, Headers, encode_fields, is_token

CASES = corpus.requests()
FIELDS = [("Server", "x"), ("Set-Cookie", "a=1"), ("set-cookie", "b=2"), ("ETag", '"e"')]


class TestHeaders:
    def test_answers_as_the_message_of_the_standard_library(self):
        message = email.message.Message()
        for name, value in FIELDS:
            message[name] = value
        headers = Headers(FIELDS)
        for name in ("server", "SERVER", "Set-Cookie", "etag", "Absent", ""):
            assert headers[name] == message[name]
            assert headers.get(name) == message.get(name)
            assert headers.get(name, "other") == message.get(name, "other")
            assert headers.get_all(name) == message.get_all(name)
            assert headers.get_all(name, []) == message.get_all(name, [])
            assert (name in headers) == (name in message)
        assert headers.keys() == message.keys()
        assert headers.values() == message.values()
        assert headers.items() == message.items()
        assert list(headers) == list(message)
        assert len(headers) == len(message)
        assert headers.get("absent", failobj="other") == message.get("absent", failobj="other")

    def test_what_is_not_a_str_is_in_no_headers(self):
        assert 5 not in Headers(FIELDS)
        assert None not in Headers(FIELDS)

    def test_cannot_be_changed(self):
        headers = Headers(FIELDS)
        with pytest.raises(TypeError):
            headers["X"] = "1"
        with pytest.raises(TypeError):
            del headers["Server"]
        headers.items().clear()
        headers.get_all("set-cookie").clear()
        assert headers.items() == FIELDS

    def test_later_changes_of_the_list_do_not_matter(self):
        fields = list(FIELDS)
        headers = Headers(fields)
        fields.clear()
        assert len(headers) == 4

    def test_equal_without_case_and_order_of_different_names(self):
        assert Headers([("A", "1"), ("B", "2")]) == Headers([("b", "2"), ("a", "1")])
        assert Headers([("A", "1"), ("a", "2")]) != Headers([("a", "2"), ("A", "1")])
        assert Headers([("A", "x")]) != Headers([("A", "X")])
        assert Headers([("A", "x")]) != {"A": "x"}

    def test_repr_and_pickle(self):
        headers = Headers(FIELDS)
        assert repr(headers) == f"Headers({FIELDS!r})"
        assert headers["server"] == "x"
        assert pickle.loads(pickle.dumps(headers)) == headers

    def test_empty(self):
        assert len(Headers()) == 0
        assert not Headers()
        assert Headers()["x"] is None


class TestCaseInsensitiveDict:
    def test_finds_keys_without_case_and_keeps_the_last(self):
        d = CaseInsensitiveDict({"Accept": "a"}, Host="h")
        d["ACCEPT"] = "b"
        assert d["accept"] == "b"
        assert dict(d) == {"ACCEPT": "b", "Host": "h"}
        assert list(d.lower_items()) == [("accept", "b"), ("host", "h")]
        assert "HOST" in d
        assert 5 not in d
        assert len(d) == 2
        del d["hOST"]
        assert len(d) == 1
        with pytest.raises(KeyError):
            d["host"]

    def test_equal_to_any_mapping_without_case(self):
        d = CaseInsensitiveDict([("A", 1)])
        assert d == {"a": 1}
        assert d == CaseInsensitiveDict(a=1)
        assert d != {"a": 2}
        assert d != 5

    def test_copy_is_one(self):
        d = CaseInsensitiveDict(A=1)
        other = d.copy()
        other["a"] = 2
        assert d["A"] == 1
        assert type(other) is CaseInsensitiveDict

    def test_repr(self):
        assert repr(CaseInsensitiveDict(A=1)) == "CaseInsensitiveDict({'A': 1})"

    def test_updates_and_pops_as_a_dict(self):
        d = CaseInsensitiveDict()
        d.update({"X": 1}, y=2)
        assert d.setdefault("x", 5) == 1
        assert d.pop("Y") == 2
        assert d.get("y") is None


@pytest.mark.parametrize("case", [c for c in CASES if c["group"].startswith("header-")], ids=lambda c: c["id"])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_cases(case, as_bytes):
    headers = case["call"]["headers"]
    if as_bytes:
        # What Latin-1 has no room for arrives as UTF-8 bytes, which are allowed in a value.
        if not all(ord(c) < 256 for text in headers.items() for c in "".join(text)):
            return
        headers = {name.encode("latin-1"): value.encode("latin-1") for name, value in headers.items()}
    if case["expect"] == "ok":
        assert len(encode_fields(headers)) == len(headers)
    else:
        with pytest.raises(ValueError, match="header field") as caught:
            encode_fields(headers)
        assert str(caught.value).isprintable()


class TestEncodeFields:
    def test_every_shape(self):
        wanted = [(b"X-a", b"x-a", b"1"), (b"Y", b"y", b"caf\xe9")]
        for headers in (
            {"X-a": 1, "Y": "caf\u00e9"},
            {b"X-a": b"1", b"Y": b"caf\xe9"},
            [("X-a", "1"), ("Y", "caf\u00e9")],
            iter([("X-a", "1"), [b"Y", "caf\u00e9"]]),
            Headers([("X-a", "1"), ("Y", "caf\u00e9")]),
            CaseInsensitiveDict({"X-a": "1", "Y": "caf\u00e9"}),
        ):
            assert encode_fields(headers) == wanted
        assert encode_fields(None) == []
        assert encode_fields({}) == []

    def test_repeated_fields_stay_and_keep_their_order(self):
        assert [name for name, _, _ in encode_fields([("B", "1"), ("A", "2"), ("b", "3")])] == [
            b"B",
            b"A",
            b"b",
        ]

    def test_whitespace_around_a_value_is_no_part_of_it(self):
        assert encode_fields({"X": " \ta b\t "}) == [(b"X", b"x", b"a b")]
        assert encode_fields({"X": ""}) == [(b"X", b"x", b"")]

    @pytest.mark.parametrize("value", [None, 1.5, True, ["a"], bytearray(b"a"), object()])
    def test_other_values_are_named_by_type(self, value):
        with pytest.raises(TypeError, match=f"'X'.*{type(value).__name__}"):
            encode_fields({"X": value})

    @pytest.mark.parametrize(
        "headers", ["X: y", b"X: y", [("X",)], ["XY"], [("X", "y", "z")], [5], {5: "x"}, {None: "x"}]
    )
    def test_other_shapes_are_refused(self, headers):
        with pytest.raises(TypeError):
            encode_fields(headers)

    @pytest.mark.parametrize("value", ["Bearer s3cret\r\n", "s3cret\u2028", b"s3cret\x00", "s3cret" * 50 + "\x7f"])
    def test_the_value_is_never_shown(self, value):
        with pytest.raises(ValueError, match="'Authorization'") as caught:
            encode_fields({"Authorization": value})
        assert "s3cret" not in str(caught.value)
        assert caught.value.__context__ is None

    def test_what_is_wrong_is_told(self):
        with pytest.raises(ValueError, match="'X': the value holds LF at position 1"):
            encode_fields({"X": "a\nb"})
        with pytest.raises(ValueError, match="control byte 0x1f at position 0"):
            encode_fields({"X": b"\x1f"})

    @given(st.one_of(st.text(max_size=20), st.binary(max_size=20)), st.one_of(st.text(), st.binary()))
    def test_what_passes_cannot_end_a_line(self, name, value):
        try:
            [(given_name, lower, data)] = encode_fields([(name, value)])
        except ValueError:
            return
        assert is_token(given_name)
        assert lower == given_name.lower()
        assert all(byte == 9 or 32 <= byte <= 126 or byte >= 128 for byte in data)


def test_tokens():
    allowed = set(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
    assert {byte for byte in range(256) if is_token(bytes([byte]))} == allowed
    assert not is_token(b"")
    assert not is_token(b"GET ")
