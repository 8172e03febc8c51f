"""`httpio.client` in the place of http.client, for programs that stay as they are.

    python -m httpio.dropin SCRIPT [ARGUMENT ...]
    python -m httpio.dropin -m MODULE [ARGUMENT ...]
    python -m httpio.dropin -c CODE [ARGUMENT ...]

``--legacy-short-reads`` before these sets `HTTPResponse.legacy_short_reads`.

`install` does the same inside a program. It changes two names, ``sys.modules["http.client"]`` and the attribute
``client`` of the package ``http``: nothing in http.client itself is changed. So this is who sees httpio's module:

- every import from then on, in all threads;
- modules that hold the package and look the name up when they use it (``import http.client``, then
  ``http.client.HTTPConnection``), whenever they were imported: urllib.request, xmlrpc.client, http.server and
  logging.handlers do;
- processes that are forked from this one. A new interpreter, as of subprocess, begins without it.

Who took a name out of the module before (``from http.client import HTTPConnection``, a class derived from it, ``import
http.client as http_client``) keeps what it has; so do objects. Both can live in one program, for the exceptions and
HTTPMessage are the same classes. For urllib3 that is imported already there is `httpio.contrib.urllib3`.
"""

from __future__ import annotations

import http
import os
import pkgutil
import runpy
import sys
import threading
from io import open_code
from types import ModuleType
from typing import Any

import httpio.client as ours

__all__ = ["install", "main", "uninstall"]

_NAME = "http.client"
_NAMED = (ours.HTTPConnection, ours.HTTPSConnection, ours.HTTPResponse)

_package: Any = http
_lock = threading.Lock()
_found: list[ModuleType] = []
"""What each `install` that was not undone has found."""


def install() -> None:
    """Let `httpio.client` be http.client for everything that is imported after this.

    It may be called again: each call is undone by one `uninstall`. While it is in place, ``__module__`` of the three
    public classes is "http.client", as pickles and the library's own tests expect.
    """
    with _lock:
        _found.append(sys.modules[_NAME])
        sys.modules[_NAME] = _package.client = ours
        _name(_NAME)


def uninstall() -> None:
    """Undo one `install`: what stood there before the first comes back with the last of them.

    What was imported in between keeps httpio's names. Where somebody else has put another module there since, it stays.
    RuntimeError: nothing is installed.
    """
    with _lock:
        if not _found:
            raise RuntimeError("httpio.dropin is not installed")
        before = _found.pop()
        if sys.modules.get(_NAME) is ours:
            sys.modules[_NAME] = before
        if _package.client is ours:
            _package.client = before
        if not _found:
            _name(ours.__name__)


def _name(module: str) -> None:
    for one in _NAMED:
        one.__module__ = module


_SWITCH = "--legacy-short-reads"
USAGE = f"usage: python -m httpio.dropin [{_SWITCH}] SCRIPT | -m MODULE | -c CODE  [ARGUMENT ...]"
HELP = f"""{USAGE}

Run a program with httpio.client in the place of http.client.

  {_SWITCH}  where the peer cuts a body or a header section short, it ends there, as in http.client
"""


def main(arguments: list[str] | None = None) -> None:
    """Install, and run a program as ``__main__`` as the interpreter would; *arguments*: None for those of the process.

    SystemExit: with USAGE where they name no program; and whatever the program raises.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] in (["-h"], ["--help"]):
        print(HELP, end="")
        return
    short_reads = given[:1] == [_SWITCH]
    if short_reads:
        del given[0]
    option = given[0] if given and given[0] in ("-m", "-c") else ""
    rest = given[1:] if option else given
    if not rest or (not option and rest[0].startswith("-")):
        raise SystemExit(USAGE)
    if short_reads:
        ours.HTTPResponse.legacy_short_reads = True
    what = rest[0]
    sys.argv[:] = [option or what, *rest[1:]]
    install()
    if option == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    elif option == "-c":
        _begin_path("")
        _run(what, "<string>", {})
    elif pkgutil.get_importer(what) is None:
        _begin_path(os.path.dirname(os.path.realpath(what)))
        with open_code(os.path.abspath(what)) as file:
            _run(file.read(), file.name, {"__file__": file.name})
    else:  # a folder or an archive with a __main__.py
        _begin_path(None)
        runpy.run_path(os.path.abspath(what), run_name="__main__")


def _begin_path(entry: str | None) -> None:
    """Put in sys.path what belongs first, None for nothing, where ``-m httpio.dropin`` has put the working folder."""
    if not getattr(sys.flags, "safe_path", False):
        sys.path[:1] = [] if entry is None else [entry]


def _run(source: str | bytes, name: str, known: dict[str, str]) -> None:
    module = sys.modules["__main__"] = ModuleType("__main__")
    vars(module).update(known)
    exec(compile(source, name, "exec", dont_inherit=True), vars(module))


if __name__ == "__main__":
    from httpio.dropin import main as run  # not this copy of the module: there is one state

    run()
