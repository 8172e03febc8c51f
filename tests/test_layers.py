"""Imports inside httpio go one way: each file imports only from rows above its own."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src"
PACKAGE = SOURCE / "httpio"

# A name ending in a dot is a package whose modules share the row.
ROWS = [
    "_parser",
    # values: know nothing above them
    "version",  # of the distribution: for User-Agent
    "exceptions",
    "headers",
    "messages",
    "urls",
    "proxies",  # what is said of a proxy: by the caller, and by the environment
    # protocol: no sockets, no clocks, no threads
    "framing",
    "content",  # content codings, undone piece by piece
    "decoding",  # those of one response
    "states",
    "receiving",
    "protocol",
    "window",
    # wire: the only code that touches a socket
    "dial",
    "transport",
    "trace",  # a transport that writes down what passes
    "tls",  # a transport whose stream is TLS, in the place of one
    "tunnel",  # the talk with a proxy
    "reaching",  # all of the way to a peer
    # faces: one flow, several ways to wait
    "waiting",
    "watching",  # waiting in an event loop
    "endpoint",  # a protocol on a transport: how a connection is made and lost, its deadlines
    "sending",  # what sends on it
    "link",  # what sends and receives: all steps on a connection
    "pipelining",  # the loop over a link and a window, which `pipeline` and `fetch` share
    "face",  # what a connection is for all ways of waiting: settings, ends, what is known
    "steps",  # what it does, as steps
    "connection",
    "aio",
    "future",
    "client.errors",  # of both families
    "client.file",  # what a response is read from, over a socket
    "client.message",  # its header section as an email.message.Message
    "client.body",  # its body
    "client.response",  # its head
    "client.request",  # a request in bytes
    "client.connection",  # its states
    "client",  # all names of http.client
    "httplib.message",  # a header section as Python 2 knew it
    "httplib",  # Python 2's names
    "dropin",
    # uses
    "bulk.",
    "testing.",
    "contrib.",
    "cli.",
    "__main__",
    "__init__",
]
# What the table does not allow and is done all the same, and why.
EXCEPTIONS = {
    "dial imports waiting": "connecting is a step, and yields PollNeeded",
    "transport imports waiting": "it says what it waits for by the names of poll",
    "tls imports waiting": "a handshake is a step",
    "tunnel imports waiting": "the talk with a proxy is a step",
    "reaching imports waiting": "reaching a peer is a step",
    "dropin imports dropin": "run as a program it is __main__, and its state is to be the imported module's",
}
PROTOCOL = {"framing", "content", "decoding", "states", "receiving", "protocol", "window"}
FORBIDDEN_IN_PROTOCOL = {"socket", "ssl", "select", "selectors", "time", "threading", "asyncio", "subprocess"}


def module_name(path: Path) -> str:
    """The dotted name below httpio: "headers", "bulk.engine"; a package is "bulk", the facade "__init__"."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if len(parts) > 1 and parts[-1] == "__init__":
        parts = parts[:-1]
    return ".".join(parts)


def row_of(module: str) -> int:
    """The number of the row in which a module stands; a ValueError where it stands in none."""
    if module in ROWS:
        return ROWS.index(module)
    return ROWS.index(module.partition(".")[0] + ".")


def exists(module: str) -> bool:
    path = PACKAGE.joinpath(*module.split("."))
    return path.is_dir() or any(path.with_suffix(suffix).exists() for suffix in (".py", ".pyi"))


def imports(text: str, module: str, is_package: bool = False) -> set[str]:
    """The dotted names that a module's text imports, wherever in it: "socket", "httpio", "httpio.headers".

    `from httpio.bulk import engine` counts as httpio.bulk.engine where that is a module, `import httpio.urls`
    without an `as` as the facade too, for that is the name which it binds.
    """
    here = ["httpio", *module.split(".")]
    if not is_package:
        here.pop()
    if module == "__init__":
        here = ["httpio"]
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.add(alias.name)
                if alias.asname is None:
                    found.add(alias.name.partition(".")[0])
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            found.add(origin)
            inside = origin.removeprefix("httpio").lstrip(".")
            if origin.startswith("httpio."):
                names = [alias.name for alias in node.names if exists(f"{inside}.{alias.name}")]
                found |= {f"{origin}.{name}" for name in names}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            if called in ("__import__", "import_module"):
                texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
                found |= {text for text in texts if isinstance(text, str)}
    return found


def own(names: set[str]) -> set[str]:
    """Of some imported names, the modules of httpio, without the prefix; the facade is "__init__"."""
    inside = {name.removeprefix("httpio.") for name in names if name.startswith("httpio.")}
    return inside | ({"__init__"} if "httpio" in names else set())


def breaches(module: str, names: set[str]) -> list[str]:
    """What a module imports against the table."""
    found = []
    for name in sorted(own(names)):
        package = module.partition(".")[0]
        sibling = f"{package}." in ROWS and name.partition(".")[0] == package
        if name == "__init__":
            found.append(f"{module} imports the facade")
        elif package == "testing" and not sibling:
            found.append(f"{module} imports {name}: the embedded server shares no code with the client")
        elif not sibling and row_of(name) >= row_of(module):
            found.append(f"{module} imports {name}, which stands below it")
    roots = {name.partition(".")[0] for name in names}
    if module in PROTOCOL:
        found += [f"{module} imports {name}" for name in sorted(roots & FORBIDDEN_IN_PROTOCOL)]
    return found


def sources() -> list[Path]:
    return sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyi")])


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_imports_go_upwards(path: Path) -> None:
    module = module_name(path)
    row_of(module)
    text = path.read_text(encoding="utf-8")
    found = breaches(module, imports(text, module, path.stem == "__init__"))
    excepted = {name for name in EXCEPTIONS if name.startswith(f"{module} ")}
    assert {breach.partition(",")[0] for breach in found} == excepted, found


def test_no_cycles() -> None:
    graph: dict[str, set[str]] = {}
    for path in sources():
        module = module_name(path)
        graph.setdefault(module, set())
        found = imports(path.read_text(encoding="utf-8"), module, path.stem == "__init__")
        graph[module] |= own(found) - {module}
    done: set[str] = set()
    while len(done) < len(graph):
        left = graph.keys() - done
        ready = {module for module in left if not graph[module] & left}
        assert ready, f"these import each other: {sorted(left)}"
        done |= ready


def test_the_extension_imports_nothing_of_httpio() -> None:
    text = (SOURCE / "_parser.pyx").read_text(encoding="utf-8")
    assert not re.search(r"^\s*(from|c?import)\s+\.?httpio\b", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("headers", "import httpio"),
        ("headers", "import httpio.exceptions"),
        ("headers", "from httpio import exceptions"),
        ("headers", "from . import exceptions"),
        ("headers", "from httpio.messages import Request"),
        ("headers", "def f():\n    from .messages import Request"),
        ("headers", "if TYPE_CHECKING:\n    import httpio.messages as m"),
        ("headers", "import importlib\nimportlib.import_module('httpio.messages')"),
        ("bulk.engine", "from ..cli import main"),
        ("protocol", "import time"),
        ("testing.server", "from httpio.exceptions import HTTPError"),
        ("__init__", "from httpio import exceptions"),
    ],
)
def test_a_breach_is_seen(module: str, text: str) -> None:
    assert breaches(module, imports(text, module))


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("messages", "from httpio.headers import Headers\nfrom httpio._parser import ResponseHead"),
        ("bulk.engine", "from httpio.bulk.report import Result\nfrom .sinks import FolderSink"),
        ("testing.__main__", "from httpio.testing.server import main"),
        ("__main__", "from httpio.cli.main import main"),
        ("__init__", "from httpio.connection import HTTPConnection\nfrom httpio.bulk.engine import fetch"),
    ],
)
def test_no_breach_is_seen_where_none_is(module: str, text: str) -> None:
    assert breaches(module, imports(text, module)) == []


def test_a_module_needs_a_row() -> None:
    with pytest.raises(ValueError, match="not in list"):
        row_of("helpers")
