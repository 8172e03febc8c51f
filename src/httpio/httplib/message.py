"""A header section as Python 2 knew it: what rfc822, mimetools and httplib made of one, in one class.

Names are looked up in any case, field lines of one name are joined by ", ", and names are listed in lower case. Values
are text: a response's bytes in Latin-1.

A response's fields come from the parser, by `Message.add_fields`. The lax reading of `Message.readheaders` is for
programs that hand a file of their own to the class, with mail or requests in it; no response is read by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from email.utils import parsedate, parsedate_tz, unquote
from http.client import HTTPException, LineTooLong
from typing import Any

__all__ = ["Message"]

# Up to the next ";" that is not in a quoted string.
_PARAMETER = re.compile(r';((?:[^;"]|"(?:[^"\\]|\\.?)*(?:"|\Z))*)', re.DOTALL)


class Message:
    """The field lines that are read from *fp*, a file of bytes or of text; None: none yet.

    *seekable* is accepted, and without a meaning: nothing is read behind the empty line.
    """

    unixfrom = ""
    status: str = ""
    """What was wrong with the section; "" where nothing was."""

    def __init__(self, fp: Any, seekable: int = 1) -> None:
        self.fp = fp
        self.seekable = seekable
        self.headers: list[str] = []
        """The lines, each with its end."""
        self.dict: dict[str, str] = {}
        """Values by name in lower case."""
        if fp is not None:
            self.readheaders()

    # -- reading --

    def _allowed(self) -> tuple[int, int]:
        """The longest line, and the most lines of a section."""
        return 65536, 100

    def readheaders(self) -> None:
        """Read field lines up to and with the empty line. Lines that are none are left out, and `status` says so.

        Raises LineTooLong, and HTTPException for too many lines.
        """
        self.dict = {}
        self.headers = []
        self.status = ""
        longest, most = self._allowed()
        name: str | None = None
        for _ in range(most + 1):
            line = self.fp.readline(longest + 1)
            if len(line) > longest:
                raise LineTooLong("header line")
            text: str = line.decode("latin-1") if isinstance(line, bytes) else line
            if not text:
                self.status = "EOF in headers"
                return
            if text in ("\r\n", "\n"):
                return
            if text[0] in " \t" and name:
                self.headers.append(text)
                self.addcontinue(name, text.strip())
                continue
            name = self.isheader(text)
            if name:
                self.headers.append(text)
                self.addheader(name, _value([text]))
            elif name is None:
                self.status = "Non-header line where header expected"
        raise HTTPException(f"got more than {most} headers")

    def isheader(self, line: str) -> str | None:
        """The name in a field line, in lower case; None where there is no colon."""
        name, colon, _ = line.partition(":")
        return name.lower() if colon else None

    def addheader(self, key: str, value: str) -> None:
        """Add a value to those of *key*, a name in lower case."""
        before = self.dict.get(key)
        self.dict[key] = value if before is None else f"{before}, {value}"

    def addcontinue(self, key: str, more: str) -> None:
        """Add a continuation line to the value of *key*."""
        self.dict[key] += "\n " + more

    def add_fields(self, fields: Iterable[tuple[str, str]]) -> None:
        """Add field lines that have been parsed already."""
        for name, value in fields:
            self.headers.append(f"{name}: {value}\r\n")
            self.addheader(name.lower(), value)

    # -- lines --

    def _fields(self) -> list[list[str]]:
        """The lines of each field: its first one and those that continue it."""
        fields: list[list[str]] = []
        for line in self.headers:
            if line[:1] in (" ", "\t") and fields:
                fields[-1].append(line)
            else:
                fields.append([line])
        return fields

    def _matching(self, name: str) -> list[list[str]]:
        return [lines for lines in self._fields() if self.isheader(lines[0]) == name.lower()]

    def getallmatchingheaders(self, name: str) -> list[str]:
        """The lines of all fields of a name."""
        return [line for lines in self._matching(name) for line in lines]

    def getfirstmatchingheader(self, name: str) -> list[str]:
        """The lines of the first field of a name."""
        return next(iter(self._matching(name)), [])

    def getrawheader(self, name: str) -> str | None:
        """The text behind the colon of the first field of a name, with its line ends; None where there is none."""
        lines = self.getfirstmatchingheader(name)
        return "".join(lines).partition(":")[2] if lines else None

    def getheaders(self, name: str) -> list[str]:
        """The value of each field of a name."""
        return [_value(lines) for lines in self._matching(name)]

    # -- values --

    def getheader(self, name: str, default: Any = None) -> Any:
        """The values of a name, joined by ", "; *default* where there is none."""
        return self.dict.get(name.lower(), default)

    get = getheader

    def getdate(self, name: str) -> Any:
        """A date as a tuple of nine, as `time.mktime` takes; None where there is none or it cannot be understood."""
        date = parsedate(self.get(name, ""))
        return date and (*date[:8], 0)

    def getdate_tz(self, name: str) -> Any:
        """The same as a tuple of ten, whose last is the offset of the time zone in seconds."""
        date = parsedate_tz(self.get(name, ""))
        return date and (*date[:8], 0, date[9])

    def __getitem__(self, name: str) -> str:
        return self.dict[name.lower()]

    def __setitem__(self, name: str, value: str) -> None:
        del self[name]
        self.dict[name.lower()] = value
        self.headers += [line + "\n" for line in f"{name}: {value}".split("\n")]

    def __delitem__(self, name: str) -> None:
        if self.dict.pop(name.lower(), None) is not None:
            kept = [lines for lines in self._fields() if self.isheader(lines[0]) != name.lower()]
            self.headers[:] = [line for lines in kept for line in lines]

    def setdefault(self, name: str, default: str = "") -> str:
        """The value of a name, which is set to *default* where there is none."""
        if name not in self:
            self[name.lower()] = default
        return self[name]

    def has_key(self, name: str) -> bool:
        """Whether there is a field of this name."""
        return name.lower() in self.dict

    __contains__ = has_key

    def __len__(self) -> int:
        return len(self.dict)

    def __iter__(self) -> Iterator[str]:
        return iter(self.dict)

    def keys(self) -> list[str]:
        """The names in lower case."""
        return list(self.dict)

    def values(self) -> list[str]:
        """The values, those of one name joined."""
        return list(self.dict.values())

    def items(self) -> list[tuple[str, str]]:
        """Name in lower case and value of each."""
        return list(self.dict.items())

    def __str__(self) -> str:
        return "".join(self.headers)

    # -- the content's type (mimetools) --

    @property
    def typeheader(self) -> str | None:
        """Content-Type as it came."""
        return self.dict.get("content-type")

    @property
    def type(self) -> str:
        """The media type in lower case, "text/plain" where none is given."""
        given = self.typeheader
        return "text/plain" if given is None else given.partition(";")[0].strip().lower()

    @property
    def maintype(self) -> str:
        """What stands before the slash of `type`."""
        return self.type.partition("/")[0]

    @property
    def subtype(self) -> str:
        """What stands behind it."""
        return self.type.partition("/")[2]

    @property
    def plist(self) -> list[str]:
        """The parameters of the type as "name=value", names in lower case, values as they came."""
        found = []
        for text in _PARAMETER.findall(self.typeheader or ""):
            name, equals, value = text.partition("=")
            found.append(f"{name.strip().lower()}={value.strip()}" if equals else text.strip())
        return found

    def gettype(self) -> str:
        """`type`."""
        return self.type

    def getmaintype(self) -> str:
        """`maintype`."""
        return self.maintype

    def getsubtype(self) -> str:
        """`subtype`."""
        return self.subtype

    def getplist(self) -> list[str]:
        """`plist`."""
        return self.plist

    def getparam(self, name: str) -> str | None:
        """A parameter of the type, without its quotes; None where there is none."""
        wanted = name.lower() + "="
        for text in self.plist:
            if text.startswith(wanted):
                return unquote(text[len(wanted) :])
        return None

    def getparamnames(self) -> list[str]:
        """The names of the parameters, in lower case."""
        return [text.partition("=")[0] for text in self.plist if "=" in text]


def _value(lines: list[str]) -> str:
    """The value of a field of so many lines."""
    first, *more = lines
    return "\n ".join([first.partition(":")[2].strip(), *(line.strip() for line in more)])
