"""Which file each object goes to: the list of URLs, read and checked before anything is transferred.

A list has one object a line: ``URL``, or ``URL NAME`` with spaces or tabs between, where NAME reaches to the
end of the line, less the spaces and tabs there. It is UTF-8, with or without a byte order mark, and its lines
end in LF or CRLF. Blank lines and lines that start with ``#`` are passed over.

Without a NAME an object is named by the path of its URL: percent-decoded once, then checked as any name is;
the query is no part of it. When the URLs lead to more than one origin, these names get a first folder for the
host: ``example.com``, with another port than the default ``example.com+8080``, ``[2001-db8--1]`` for an IPv6
address. ``+`` and brackets cannot be in a host name, and file names may have them on every system. http and
https of one host, each on its default port, share a folder. Names from the list stay as they are. The server
has no say in any name.

Whether there are several origins, and whether a name is taken, is known at the end of the list only. So the
list is read once, whole, and kept in a compact form of about its own size: standard input and files are
alike, and a list that is edited meanwhile does no harm.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple
from urllib.parse import unquote_to_bytes

from httpio.exceptions import quote
from httpio.urls import DEFAULT_PORTS, Origin, split_url

__all__ = ["BadLine", "Listing", "Named", "check_name", "folder_for"]

MAX_LINE = 128 << 10
"""Bytes in a line of the list."""

MAX_COMPONENT = 255
"""Bytes in one component of a name: NAME_MAX of common file systems."""

MAX_NAME = 3840
"""Bytes in a whole name: PATH_MAX of Linux (4096), with room for the folder it is put below."""

_WINDOWS = os.name == "nt"
_FOLDS_CASE = _WINDOWS or sys.platform == "darwin"
_NO_NAMES = frozenset(("", ".", ".."))
_WINDOWS_REFUSED = frozenset('\\:*?"<>|')
_WINDOWS_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", *(p + n for p in ("com", "lpt") for n in "123456789\u00b9\u00b2\u00b3")]
)
_BATCH = 1024


class Named(NamedTuple):
    """One object of the list."""

    origin: Origin
    target: str
    """The request target, in origin-form."""
    name: str
    """The relative file name, with ``/`` between its components."""


class BadLine(NamedTuple):
    """One refused line."""

    number: int
    """Counted from 1."""
    reason: str


class Listing:
    """The objects of one transfer: filled by `read` or `add`, checked by `finish`, handed out by iteration.

    ``len()`` counts the objects. Iteration gives a `Named` for each, in order, and may be repeated.
    """

    def __init__(self) -> None:
        self.bad: list[BadLine] = []
        """What was refused so far; complete, and ordered by line, after `finish`."""
        self._count = 0
        self._origins: dict[Origin, int] = {}
        # Records "line TAB origin TAB target TAB name": the open batch, and closed ones joined and encoded. A
        # million of them take about the room of the list; as tuples they would take four times that.
        self._open: list[str] = []
        self._closed: list[bytes] = []

    def read(self, file: BinaryIO) -> None:
        """Take in every line of *file*, opened in binary mode."""
        number = 0
        while line := file.readline(MAX_LINE + 2):
            number += 1
            if len(line) > MAX_LINE and not line.endswith(b"\n"):
                self.bad.append(BadLine(number, f"the line is longer than {MAX_LINE} bytes"))
                while line and not line.endswith(b"\n"):
                    line = file.readline(MAX_LINE)
                continue
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            try:
                text = line.decode("utf-8").rstrip("\r\n").strip(" \t")
            except UnicodeDecodeError:
                self.bad.append(BadLine(number, "the line is not UTF-8"))
                continue
            if text and text[0] != "#":
                url, _, name = text.partition(" ")
                if "\t" in url:
                    url, _, name = text.partition("\t")
                self.add(number, url, name.lstrip(" \t"))

    def add(self, number: int, url: str, name: str = "") -> None:
        """Take in one object; *number* is what `bad` calls it by when it is refused."""
        try:
            origin, target = split_url(url)
            check_name(name or _name_by_path(target))
        except ValueError as exc:
            self.bad.append(BadLine(number, str(exc)))
            return
        index = self._origins.setdefault(origin, len(self._origins))
        self._count += 1
        self._open.append(f"{number}\t{index}\t{target}\t{name}")
        if len(self._open) == _BATCH:
            self._closed.append("\n".join(self._open).encode())
            self._open.clear()

    def finish(self) -> list[BadLine]:
        """Look for names that cannot stand beside each other, and return everything refused, ordered by
        line."""
        names: set[int] = set()
        folders: set[int] = set()
        suspects: set[int] = set()
        several = len(self._origins) > 1
        for number, entry in self._entries():
            if several:
                # The folder of the host may have made it too long.
                self._check(number, entry.name)
            name = _folded(entry.name)
            key = hash(name)
            if key in names:
                suspects.add(key)
            names.add(key)
            while "/" in name:
                name = name.rpartition("/")[0]
                key = hash(name)
                if key in folders:
                    break
                folders.add(key)
        suspects |= names & folders
        if suspects:
            # Equal hashes, which need not be equal names: now with the names themselves, for these few.
            self._find_clashes(suspects)
        self.bad.sort()
        return self.bad

    def _check(self, number: int, name: str) -> None:
        try:
            check_name(name)
        except ValueError as exc:
            self.bad.append(BadLine(number, str(exc)))

    def _find_clashes(self, suspects: set[int]) -> None:
        taken: dict[str, int] = {}
        folders: dict[str, int] = {}
        for number, entry in self._entries():
            name = folder = _folded(entry.name)
            while "/" in folder:
                folder = folder.rpartition("/")[0]
                if hash(folder) in suspects:
                    folders.setdefault(folder, number)
            if hash(name) in suspects:
                first = taken.setdefault(name, number)
                if first != number:
                    reason = f"the name {quote(entry.name)} is already taken by line {first}"
                    self.bad.append(BadLine(number, reason))
        for name, number in taken.items():
            if name in folders:
                reason = f"the name {quote(name)} is that of a folder in line {folders[name]}"
                self.bad.append(BadLine(number, reason))

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Named]:
        return (entry for _, entry in self._entries())

    def _entries(self) -> Iterator[tuple[int, Named]]:
        origins = list(self._origins)
        several = len(origins) > 1
        prefixes = [folder_for(origin) + "/" if several else "" for origin in origins]
        for record in self._records():
            number, index, target, name = record.split("\t", 3)
            which = int(index)
            yield (
                int(number),
                Named(origins[which], target, name or prefixes[which] + _name_by_path(target)),
            )

    def _records(self) -> Iterator[str]:
        for batch in self._closed:
            yield from batch.decode().split("\n")
        yield from self._open


def folder_for(origin: Origin) -> str:
    """The folder for the objects of *origin*, where there are several."""
    host = origin.host
    if ":" in host:
        host = "[" + host.replace(":", "-") + "]"
    return host if origin.port == DEFAULT_PORTS[origin.scheme] else f"{host}+{origin.port}"


def check_name(name: str, *, windows: bool = _WINDOWS) -> None:
    """Refuse, with ValueError, a *name* that could lead out of the folder it is put below or that no file can
    have.

    *windows*: also what is special there: backslashes, drives, streams, devices, dots and spaces at the end.
    """
    components = name.split("/")
    if not _NO_NAMES.isdisjoint(components):
        if not name:
            raise ValueError("the name is empty")
        if name[0] == "/":
            raise ValueError(f"the name {quote(name)} is an absolute path")
        raise ValueError(f"the name {quote(name)} has an empty component, '.' or '..'")
    if not name.isprintable():
        if any(c < " " or c == "\x7f" for c in name):
            raise ValueError(f"the name {quote(name)} holds a control character")
        if any("\ud800" <= c <= "\udfff" for c in name):
            raise ValueError(f"the name {quote(name)} is not Unicode text")
    # No character takes more than four bytes.
    if len(name) * 4 > MAX_COMPONENT:
        if max(len(component.encode()) for component in components) > MAX_COMPONENT:
            raise ValueError(f"the name {quote(name)} has a component of more than {MAX_COMPONENT} bytes")
        if len(name.encode()) > MAX_NAME:
            raise ValueError(f"the name {quote(name)} is longer than {MAX_NAME} bytes")
    if windows:
        _check_windows(name, components)


def _check_windows(name: str, components: list[str]) -> None:
    if not _WINDOWS_REFUSED.isdisjoint(name):
        raise ValueError(f"the name {quote(name)} holds a character that Windows does not allow")
    for component in components:
        if component[-1] in " ." or component.partition(".")[0].rstrip(" ").lower() in _WINDOWS_DEVICES:
            raise ValueError(f"the name {quote(name)} has a component that is special on Windows")


def _name_by_path(target: str) -> str:
    path = target.partition("?")[0][1:]
    if not path or path[-1] == "/":
        raise ValueError("the path of the URL ends in '/': it needs a name in the list")
    if "%" not in path:
        return path
    try:
        return unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("the path of the URL is not UTF-8: it needs a name in the list") from None


def _folded(name: str) -> str:
    return name.casefold() if _FOLDS_CASE else name
