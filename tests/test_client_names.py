"""The names of http.client in `httpio.client`: each is there, and is called in the same way."""

from __future__ import annotations

import http.client as standard
import inspect
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import httpio.client as ours

# What http.client has imported for itself, and a step of its parser.
INTERNAL = {"urlsplit", "_get_chunk_left"}
# Modules that others reach, and patch, through it.
REACHED = {"email", "socket", "ssl", "sys"}
# Parameters that come with later versions of Python.
LATER = {"max_response_headers", "_max_headers", "max_headers"}
CLASSES = ("HTTPConnection", "HTTPSConnection", "HTTPResponse")

# Attributes that a class of http.client has only in instances, and that others use.
OF_INSTANCES = {
    "HTTPConnection": {
        "host", "port", "timeout", "source_address", "blocksize", "sock", "_buffer", "_method", "_tunnel_host",
        "_tunnel_port", "_tunnel_headers", "_create_connection", "_HTTPConnection__state",
        "_HTTPConnection__response",
    },
    "HTTPResponse": {
        "fp", "debuglevel", "_method", "headers", "msg", "version", "status", "reason", "chunked", "chunk_left",
        "length", "will_close",
    },
}  # fmt: skip

# What later versions add, which is here on all.
ADDED = {
    "_read_headers", "_parse_header_lines", "_create_https_context", "_MAXINTERIMRESPONSES", "_MIN_READ_BUF_SIZE",
}  # fmt: skip


def modules_own(module: ModuleType) -> Iterator[str]:
    """What a module defines: its names without the modules that it imports."""
    for name, value in vars(module).items():
        if not inspect.ismodule(value) and not (name.startswith("__") and name != "__all__"):
            yield name


def missing(theirs: Any, found: Any) -> list[str]:
    return [name for name in theirs if not hasattr(found, name)]


def test_all() -> None:
    assert sorted(ours.__all__) == sorted(standard.__all__)
    for name in standard.__all__:
        assert hasattr(ours, name)


def test_no_name_is_missing() -> None:
    assert missing([name for name in modules_own(standard) if name not in INTERNAL], ours) == []
    assert missing({*ADDED, *REACHED}, ours) == []


def test_constants_are_equal() -> None:
    for name in modules_own(standard):
        value = getattr(standard, name)
        if name != "__all__" and not callable(value):
            assert_equal(value, getattr(ours, name))


def assert_equal(value: Any, found: Any) -> None:
    if hasattr(value, "pattern"):  # which may be another: what it refuses is tested elsewhere
        assert type(found.pattern) is type(value.pattern)
    else:
        assert (type(found), found) == (type(value), value)


def test_exceptions_and_the_message_are_the_same_objects() -> None:
    for name in modules_own(standard):
        value = getattr(standard, name)
        if inspect.isclass(value) and name not in CLASSES and name in {*standard.__all__, "HTTPMessage"}:
            assert getattr(ours, name) is value


@pytest.mark.parametrize("name", CLASSES)
def test_no_member_of_a_class_is_missing(name: str) -> None:
    theirs, found = getattr(standard, name), getattr(ours, name)
    assert set(missing(dir(theirs), found)) <= INTERNAL
    for member in dir(theirs):
        if not member.startswith("__") and member not in INTERNAL:
            assert callable(getattr(theirs, member)) == callable(getattr(found, member)), member


@pytest.mark.parametrize("name", CLASSES)
def test_class_attributes_are_equal(name: str) -> None:
    theirs, found = getattr(standard, name), getattr(ours, name)
    for member in dir(theirs):
        value = getattr(theirs, member)
        if not member.startswith("__") and isinstance(value, int | str | type(None)):
            assert getattr(found, member) == value, member


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    found = inspect.signature(function).parameters.values()
    return [(each.name, each.kind, each.default) for each in found if each.name not in {*LATER, "self"}]


def plain(value: Any) -> Any:
    """A default that is to be compared by what it is called."""
    return getattr(value, "__name__", value)


def assert_same_call(theirs: Any, found: Any, name: str) -> None:
    try:
        expected = parameters(theirs)
    except ValueError:  # of C, without a signature
        return
    given = parameters(found)
    assert [(key, kind) for key, kind, _ in given] == [(key, kind) for key, kind, _ in expected], name
    assert [plain(default) for *_, default in given] == [plain(default) for *_, default in expected], name


def test_functions_are_called_in_the_same_way() -> None:
    for name in modules_own(standard):
        value = getattr(standard, name)
        if inspect.isfunction(value) and name not in INTERNAL:
            assert_same_call(value, getattr(ours, name), name)


@pytest.mark.parametrize("name", CLASSES)
def test_methods_are_called_in_the_same_way(name: str) -> None:
    theirs, found = getattr(standard, name), getattr(ours, name)
    assert_same_call(theirs, found, name)
    for member in dir(theirs):
        raw = inspect.getattr_static(theirs, member)
        function = getattr(raw, "__func__", raw)
        if member in INTERNAL or (member.startswith("__") and member != "__init__"):
            continue
        if inspect.isfunction(function):
            assert_same_call(getattr(theirs, member), getattr(found, member), f"{name}.{member}")
            mine = inspect.getattr_static(found, member)
            assert isinstance(mine, staticmethod) == isinstance(raw, staticmethod), member


def test_what_instances_have() -> None:
    made: dict[str, Any] = {"HTTPConnection": ours.HTTPConnection("h")}

    class Nothing:
        def makefile(self, mode: str) -> Any:
            return None

    made["HTTPResponse"] = ours.HTTPResponse(Nothing())
    for name, members in OF_INSTANCES.items():
        assert missing(members, made[name]) == [], name
    theirs = vars(standard.HTTPConnection("h"))
    assert missing(theirs, made["HTTPConnection"]) == []
    assert missing(vars(standard.HTTPResponse(Nothing())), made["HTTPResponse"]) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CLASSES)
def test_what_stands_in_every_new_object_is_equal(name: str) -> None:
    if name == "HTTPResponse":
        pytest.skip("its values come from `begin`")
    theirs, found = getattr(standard, name)("h", 81), getattr(ours, name)("h", 81)
    for key, value in vars(theirs).items():
        if isinstance(value, int | str | list | dict | type(None)):
            assert getattr(found, key) == value, key


def test_later_parameters() -> None:
    for kind in (ours.HTTPConnection, ours.HTTPSConnection):
        last = list(inspect.signature(kind).parameters.values())[-1]
        assert (last.name, last.default) == ("max_response_headers", None)
    assert "_max_headers" in inspect.signature(ours.HTTPResponse.begin).parameters
    assert "_max_headers" in inspect.signature(ours.parse_headers).parameters


def test_bases() -> None:
    assert ours.HTTPResponse.__mro__[-4:] == standard.HTTPResponse.__mro__[-4:]
    assert issubclass(ours.HTTPSConnection, ours.HTTPConnection)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="they came with Python 3.12")
def test_what_has_gone_has_gone() -> None:
    gone = {"key_file", "cert_file", "check_hostname"}
    assert not gone & set(inspect.signature(ours.HTTPSConnection).parameters)
