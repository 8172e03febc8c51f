"""The documentation: what it shows runs, what it names exists, where it points there is something."""

from __future__ import annotations

import gzip
import importlib.util
import logging
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from unittest import mock

import pytest

import httpio
from conftest import Authority
from httpio.states import Send, Sending
from servers.proxy import Proxy, relays, tunnels
from servers.scripted import Peer, Scripted, Seen, server_context

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
DRAW = ROOT / "tools" / "draw_states.py"
PAGES = sorted(DOCS.glob("*.md"))
TEXTS = [ROOT / "README.md", *PAGES]

PUBLIC = {*httpio.__all__, "log"}  # which `import *` leaves out
HAS_A_TEST_OF_ITS_OWN = "deadlocks.md"
NOT_RUN = "<!-- not run -->"
"""In front of a block: it is a fragment, or would leave this machine."""


def of_page(path: Path) -> str:
    return path.name


class Block(NamedTuple):
    """A fenced block of Python."""

    path: Path
    line: int
    source: str
    runs: bool

    def code(self) -> Any:
        """Compiled, with the page's own line numbers in a traceback."""
        return compile("\n" * self.line + self.source, str(self.path), "exec")


def blocks(path: Path) -> Iterator[Block]:
    text = path.read_text(encoding="utf-8")
    for found in re.finditer(r"^( *)```python\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
        before = text[: found.start()].rstrip("\n")
        line = text[: found.start(2)].count("\n")
        yield Block(path, line, textwrap.dedent(found[2]), not before.endswith(NOT_RUN))


def prose(path: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


# -- the examples --


def documented(peer: Peer) -> None:
    """What the examples talk to: a target that stands here gets what it is called, any other gets itself."""
    while (seen := peer.head()) is not None:
        target = seen.target
        if seen.method == "CONNECT" or target == "/upgrade":
            fields = "Connection: upgrade\r\nUpgrade: echo\r\n"
            peer.send(f"HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n".encode()) if target == "/upgrade" else None
            peer.send(b"HTTP/1.1 200 OK\r\n\r\n") if seen.method == "CONNECT" else None
            peer.send(peer.take(4))
            return
        if target == "/too-large":
            peer.answer(b"at most 1 MB", "413 Content Too Large", "Connection: close\r\n")
            peer.finish()
            peer.drain()
            return
        if target == "/refused":
            peer.answer(b"not here", "403 Forbidden")
            continue
        if seen.field("Expect") and target != "/silent":
            peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        receive_body(peer, seen)
        if target == "/cut" and peer.server.targets().count("/cut") == 1:
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this")
            return
        if target == "/not-http":
            peer.send(b"220 mail.example ESMTP\r\n")
            return
        if target == "/hints":
            peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
        if target == "/last":
            peer.answer(b"goodbye", fields="Connection: close\r\n")
            return
        if target.startswith(("/zipped", "/unknown-coding")):
            answer_encoded(peer, seen)
        elif target == "/sums":
            head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Sum\r\n\r\n"
            peer.send(head + b"5\r\nhello\r\n0\r\nSum: 532\r\n\r\n")
        else:
            body = b"" if seen.method == "HEAD" else target.encode() + b"\n"
            peer.answer(body * (100_000 if target.startswith("/large") else 1), fields="Content-Type: text/plain\r\n")


def answer_encoded(peer: Peer, seen: Seen) -> None:
    target = seen.target
    if target == "/unknown-coding":
        peer.answer(b"no one knows", fields="Content-Encoding: x-unknown\r\n")
        return
    content = bytes(10_000_000) if target == "/zipped-zeros" else target.encode() * 20_000
    if "gzip" not in (seen.field("Accept-Encoding") or ""):
        peer.answer(content)
        return
    encoded = gzip.compress(content)
    peer.answer(encoded[:-20] if target == "/zipped-cut" else encoded, fields="Content-Encoding: gzip\r\n")


def proxying(peer: Peer) -> None:
    """The proxy of the examples."""
    while b"\r\n" not in peer.buffer and peer.receive():
        pass
    if peer.buffer.startswith(b"CONNECT secret.example"):
        peer.head()
        peer.answer(b"not this one", "403 Forbidden", "Via: 1.1 proxy.example\r\n")
    elif peer.buffer.startswith(b"CONNECT"):
        tunnels()(peer)
    else:
        relays()(peer)


def receive_body(peer: Peer, seen: Seen) -> None:
    if seen.field("Transfer-Encoding") is None:
        peer.take(int(seen.field("Content-Length") or 0))
    else:
        peer.chunks()


@pytest.mark.parametrize("path", TEXTS, ids=of_page)
def test_every_example_compiles(path: Path) -> None:
    for block in blocks(path):
        block.code()


@pytest.mark.parametrize("path", [page for page in PAGES if page.name != HAS_A_TEST_OF_ITS_OWN], ids=of_page)
def test_examples_run(path: Path, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of a page, from its top to its end, in one namespace."""
    shown = [block for block in blocks(path) if block.runs]
    if not shown:
        return
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(httpio, "DNS_TEST_HOSTNAMES", ())  # a page may set it
    Path("release.tar").write_bytes(bytes(300_000))
    tls = server_context(authority.chain, authority.key)
    with (
        Scripted(documented) as server,
        Scripted(documented, tls) as secure,
        Proxy(proxying) as proxy,
        mock.patch.dict(os.environ),  # a page may set it
    ):
        names = {"host": "localhost", "port": server.port, "tls_port": secure.port, "cafile": authority.ca}
        names["proxy"] = f"localhost:{proxy.port}"
        for block in shown:
            exec(block.code(), names)
        for name in names.values():
            if isinstance(name, httpio.HTTPConnection):
                name.close()


# -- the names --


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    """By the word in front of the dot: what may stand behind it."""
    conn = httpio.HTTPConnection("localhost")
    modules = {path.stem for path in (ROOT / "src" / "httpio").iterdir()}
    loggers = {name.partition(".")[2] for name in logging.root.manager.loggerDict if name.startswith("httpio.")}
    return {
        "httpio": {*PUBLIC, *modules, *loggers},
        "conn": {*dir(conn), *dir(httpio.AsyncHTTPConnection)},
        "response": set(dir(httpio.HTTPResponse)),
    }


@pytest.mark.parametrize("path", TEXTS, ids=of_page)
def test_every_name_exists(path: Path, known: dict[str, set[str]]) -> None:
    text = path.read_text(encoding="utf-8")
    if path.name.startswith("from-"):  # the first column has the names of the other library
        text = re.sub(r"^\|[^|]*\|", "|", text, flags=re.MULTILINE)
    used = re.findall(r"(?<![\w./-])(httpio|conn|response)\.(?!py\b)([A-Za-z_]\w*)", text)
    assert {f"{owner}.{name}" for owner, name in used if name not in known[owner]} == set()


def test_the_reference_has_every_public_name() -> None:
    named = re.findall(r"^\.\. auto\w+:: httpio\.(\w+)$", (DOCS / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(named) == sorted(PUBLIC)


@pytest.mark.parametrize("name", ["client", "httplib", "dropin", "contrib.urllib3", "contrib.requests"])
def test_the_reference_has_every_name_of_a_module(name: str) -> None:
    """Classes and functions by a directive, and exceptions and others by name."""
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    module = pytest.importorskip(f"httpio.{name}")
    for public in module.__all__:
        own = getattr(getattr(module, public), "__module__", "").startswith("httpio")
        pattern = rf"^\.\. auto\w+:: httpio\.{name}\.{public}$" if own else rf"`{public}`"
        assert re.search(pattern, text, re.MULTILINE), public


def test_the_pages_name_every_call_of_a_connection() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in PAGES if path.name != "api.md")
    calls = {*dir(httpio.HTTPConnection), *dir(httpio.AsyncHTTPConnection)}
    shown = [name for name in calls if not name.startswith(("_", "co_"))]
    assert [name for name in shown if not re.search(rf"\b{name}\b", text)] == []


# -- the links --


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and MyST make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("path", TEXTS, ids=of_page)
def test_every_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if target.startswith(("http:", "https:")):
            continue
        name, _, anchor = target.partition("#")
        other = path if not name else (path.parent / name).resolve()
        assert other.is_file(), target
        if anchor:
            assert anchor in {slug(line.lstrip("#")) for line in prose(other).splitlines() if line.startswith("#")}


def test_every_page_is_in_the_index() -> None:
    toctree = re.search(r"^```\{toctree\}\n(.*?)^```$", (DOCS / "index.md").read_text(), re.MULTILINE | re.DOTALL)
    assert toctree is not None
    listed = [line for line in toctree[1].splitlines() if line and not line.startswith(":")]
    assert sorted([*listed, "index"]) == [page.stem for page in PAGES]


@pytest.mark.parametrize("path", TEXTS, ids=of_page)
def test_the_rows_of_a_table_have_as_many_cells_as_its_head(path: Path) -> None:
    cells = 0
    for line in prose(path).splitlines():
        count = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert count == cells or not (count and cells), line
        cells = count


# -- the diagrams --


@pytest.fixture
def drawing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_states", DRAW)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_diagrams_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, DRAW, "--check"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_change_of_a_table_shows(drawing: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = drawing.PAGE.read_text(encoding="utf-8")
    assert drawing.page() == page
    without = {key: state for key, state in drawing.SENDING.items() if key != (Sending.IDLE, Send.REQUEST)}
    monkeypatch.setattr(drawing, "SENDING", without)
    assert drawing.page() != page
    monkeypatch.setattr(sys, "argv", ["draw_states.py", "--check"])
    assert drawing.main() == 1
    monkeypatch.setattr(drawing, "PAGE", tmp_path / "states.md")
    monkeypatch.setattr(sys, "argv", ["draw_states.py"])
    assert drawing.main() == 0
    assert (tmp_path / "states.md").read_text(encoding="utf-8") == drawing.page()


def test_the_diagrams_draw_every_move(drawing: ModuleType) -> None:
    """Each entry of the tables is an arrow, stands in its state, or is part of an arrow from every state."""
    for table, states in ((drawing.SENDING, drawing.Sending), (drawing.RECEIVING, drawing.Receiving)):
        lines = "\n".join(drawing.diagram(table, states))
        for (state, event), target in table.items():
            arrow = rf"({state.name}|any_{event.name}) --> {target.name} : .*\b{event.name}\b"
            inside = rf'"{state.name}<br>stays: .*\b{event.name}\b'
            assert re.search(inside if state is target and not re.search(arrow, lines) else arrow, lines)
