"""`httpio.dropin`: who sees httpio.client where http.client was, and that all is undone."""

from __future__ import annotations

import http
import http.client
import importlib
import io
import json
import logging
import logging.handlers
import os
import pickle
import subprocess
import sys
import threading
import urllib.request
import xmlrpc.client
import zipfile
from collections.abc import Iterator
from http.client import HTTPConnection as HELD
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import httpio.client
from httpio import dropin
from servers.scripted import Peer, Scripted

STANDARD = http.client
SOURCE = Path(httpio.__file__).parent.parent
SWITCH = "--legacy-short-reads"
CLASSES = ("HTTPConnection", "HTTPSConnection", "HTTPResponse")


@pytest.fixture
def installed() -> Iterator[None]:
    dropin.install()
    yield
    dropin.uninstall()


def seen() -> list[ModuleType]:
    """What stands for http.client in each place where it is looked up."""
    package: Any = http
    return [
        sys.modules["http.client"],
        package.client,
        importlib.import_module("http.client"),
        urllib.request.http.client,  # type: ignore[attr-defined]
        xmlrpc.client.http.client,  # type: ignore[attr-defined]
    ]


def is_everywhere(module: ModuleType) -> bool:
    return all(found is module for found in seen())


# -- in and out --


def test_nothing_happens_by_importing() -> None:
    code = "import http.client as before, httpio.dropin, httpio.client, http.client; assert http.client is before"
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True)
    assert is_everywhere(STANDARD)


def test_install_and_uninstall() -> None:
    dropin.install()
    assert is_everywhere(httpio.client)
    dropin.uninstall()
    assert is_everywhere(STANDARD)
    assert STANDARD.HTTPConnection.__module__ == "http.client"


def test_each_uninstall_undoes_one_install() -> None:
    dropin.install()
    dropin.install()
    dropin.uninstall()
    assert is_everywhere(httpio.client)
    assert httpio.client.HTTPConnection.__module__ == "http.client"
    dropin.uninstall()
    assert is_everywhere(STANDARD)


def test_uninstall_alone_is_refused() -> None:
    with pytest.raises(RuntimeError, match="not installed"):
        dropin.uninstall()
    assert is_everywhere(STANDARD)


def test_what_was_there_before_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    other = ModuleType("other")
    monkeypatch.setitem(sys.modules, "http.client", other)
    monkeypatch.setattr(http, "client", other)
    dropin.install()
    dropin.uninstall()
    assert is_everywhere(other)


def test_what_others_put_there_since_stays() -> None:
    package: Any = http
    other = ModuleType("other")
    dropin.install()
    sys.modules["http.client"] = other
    dropin.uninstall()
    try:
        assert sys.modules["http.client"] is other
        assert package.client is STANDARD
        assert httpio.client.HTTPConnection.__module__ == "httpio.client"
    finally:
        sys.modules["http.client"] = STANDARD


def test_from_several_threads() -> None:
    start = threading.Barrier(8)

    def use() -> None:
        start.wait()
        for _ in range(50):
            dropin.install()
            found.add(sys.modules["http.client"].__name__)
            dropin.uninstall()

    found: set[str] = set()
    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {"httpio.client"}
    assert is_everywhere(STANDARD)


# -- names --


def test_classes_name_http_client_as_their_module_while_it_is_installed() -> None:
    classes = [getattr(httpio.client, name) for name in CLASSES]
    assert {one.__module__ for one in classes} == {"httpio.client"}
    dropin.install()
    try:
        assert {one.__module__ for one in classes} == {"http.client"}
        assert [pickle.loads(pickle.dumps(one)) for one in classes] == classes
    finally:
        dropin.uninstall()
    assert {one.__module__ for one in classes} == {"httpio.client"}
    assert [pickle.loads(pickle.dumps(one)) for one in classes] == classes


def test_every_name_of_http_client_is_there(installed: None) -> None:
    assert set(STANDARD.__all__) <= set(httpio.client.__all__)
    missing = {name for name in vars(STANDARD) if not hasattr(httpio.client, name) and not name.startswith("__")}
    what_it_imports = {name for name in missing if isinstance(getattr(STANDARD, name), ModuleType)} | {"urlsplit"}
    assert missing - what_it_imports == set()


# -- what was imported before --


def test_a_class_taken_before_stays_and_its_errors_are_caught(installed: None) -> None:
    import http.client as now

    assert HELD is STANDARD.HTTPConnection
    assert HELD is not now.HTTPConnection  # type: ignore[comparison-overlap]
    for name in STANDARD.__all__:
        one = getattr(STANDARD, name)
        if isinstance(one, type) and issubclass(one, Exception):
            assert getattr(now, name) is one
    assert now.HTTPMessage is STANDARD.HTTPMessage


def served(peer: Peer) -> None:
    while (request := peer.request()) is not None:
        if request.target == "/RPC2":
            body = xmlrpc.client.dumps(("answer",), methodresponse=True).encode()
            peer.answer(body, fields="Content-Type: text/xml\r\n")
        elif request.target == "/cut":
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            return
        else:
            peer.answer(b"body")


def test_urllib_request_imported_before(installed: None) -> None:
    with Scripted(served) as server:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(server.url) as response:
            assert isinstance(response, httpio.client.HTTPResponse)
            assert response.read() == b"body"
        with opener.open(f"{server.url}/cut") as response, pytest.raises(STANDARD.IncompleteRead) as caught:
            response.read1(100), response.read1(100)
        assert isinstance(caught.value, httpio.ConnectionClosed)


def test_an_opener_made_before(monkeypatch: pytest.MonkeyPatch) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with Scripted(served) as server:
        for module in (STANDARD, httpio.client, STANDARD):
            if module is httpio.client:
                dropin.install()
            with opener.open(server.url) as response:
                assert isinstance(response, module.HTTPResponse)
                assert response.read() == b"body"
            if module is httpio.client:
                dropin.uninstall()


def test_xmlrpc_imported_before() -> None:
    with Scripted(served) as server, xmlrpc.client.ServerProxy(f"{server.url}/RPC2") as proxy:
        transport: Any = proxy("transport")
        assert proxy.method() == "answer"
        kept = transport._connection[1]
        dropin.install()
        try:
            assert proxy.method() == "answer"
            assert transport._connection[1] is kept  # an object keeps its class
            assert type(kept) is STANDARD.HTTPConnection
            transport.close()
            assert proxy.method() == "answer"
            assert type(transport._connection[1]) is httpio.client.HTTPConnection
        finally:
            dropin.uninstall()
            transport.close()


def test_logging_handlers_imported_before(installed: None) -> None:
    made = []

    class Handler(logging.handlers.HTTPHandler):
        def getConnection(self, host: str, secure: bool) -> Any:
            made.append(super().getConnection(host, secure))
            return made[-1]

    with Scripted(served) as server:
        handler = Handler(f"127.0.0.1:{server.port}", "/log", "POST")
        handler.handle(logging.makeLogRecord({"msg": "hello"}))
        made[0].close()
    assert type(made[0]) is httpio.client.HTTPConnection
    assert server.targets() == ["/log"]


def test_http_server_reads_requests_as_before(installed: None) -> None:
    from http.server import BaseHTTPRequestHandler

    class Handler(BaseHTTPRequestHandler):
        def __init__(self, data: bytes) -> None:
            self.rfile = io.BufferedReader(io.BytesIO(data))  # type: ignore[arg-type]
            self.raw_requestline = self.rfile.readline()

    handler = Handler(b"GET / HTTP/1.1\r\nHost: a\nOdd : x\r\n\r\n")
    assert handler.parse_request()
    assert handler.headers["Host"] == "a"


# -- as a program --

REPORT = """
import http.client, json, sys
print(json.dumps([http.client.__name__, __name__, sys.argv, sys.path[0], globals().get("__file__")]))
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(SOURCE)}


def run(*arguments: str | Path, cwd: Path, options: tuple[str, ...] = ("-m", "httpio.dropin")) -> Any:
    done = subprocess.run(
        [sys.executable, *options, *arguments], cwd=cwd, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """In a folder that is not the working folder; with a module, and a package that runs, beside it."""
    folder = tmp_path / "programs"
    (folder / "package").mkdir(parents=True)
    (folder / "report.py").write_text(REPORT)
    (folder / "plain").write_text(REPORT)
    (folder / "package" / "__init__.py").write_text("")
    (folder / "package" / "__main__.py").write_text(REPORT)
    with zipfile.ZipFile(folder / "archive.pyz", "w") as archive:
        archive.writestr("__main__.py", REPORT)
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ["programs/report.py", "-m", "x"],
        ["programs/plain"],
        ["programs/package", "x"],
        ["programs/archive.pyz", "x"],
        ["-c", REPORT, "-c", "x"],
    ],
)
def test_a_program_finds_what_it_finds_without(program: Path, arguments: list[str]) -> None:
    without = run(*arguments, cwd=program.parent, options=())
    within = run(*arguments, cwd=program.parent)
    assert (without[0], within[0]) == ("http.client", "httpio.client")
    if (program.parent / arguments[0]).is_dir() or arguments[0].endswith(".pyz"):
        without[2][0] = str(program.parent / without[2][0])  # as a whole path: the one difference
    assert within[1:] == without[1:]


def test_a_module_finds_what_it_finds_without(program: Path) -> None:
    for name in ("report", "package"):
        without = run("-m", name, "-x", cwd=program, options=())
        within = run("-m", name, "-x", cwd=program)
        assert (without[0], within[0]) == ("http.client", "httpio.client")
        assert within[1:] == without[1:]


def test_the_status_and_the_errors_of_a_program_are_its_own(tmp_path: Path) -> None:
    for code, status, text in (
        ("raise SystemExit(7)", 7, ""),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("x: int = 1; print(__annotations__['x'].upper)", 1, "AttributeError"),  # no future of ours is inherited
    ):
        command = [sys.executable, "-m", "httpio.dropin", "-c", code]
        done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60)
        assert (done.returncode, text in done.stderr) == (status, True)


@pytest.mark.parametrize("arguments", [[], ["-m"], ["-c"], ["-x", "script.py"], [SWITCH], [SWITCH, SWITCH, "x.py"]])
def test_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="usage"):
        dropin.main(arguments)
    assert is_everywhere(STANDARD)
    assert not httpio.client.HTTPResponse.legacy_short_reads


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    dropin.main([option])
    printed = capsys.readouterr().out
    assert printed.startswith("usage: ")
    assert f"\n  {SWITCH}  " in printed
    assert is_everywhere(STANDARD)


READS = """
import http.client, json, sys
found = []
for how in ("read", "readinto", "read1", "readline"):
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=20)
    connection.request("GET", "/cut")
    response = connection.getresponse()
    read = getattr(response, how)
    try:
        found.append([how, [read(bytearray(9)) if how == "readinto" else len(read(9)) for _ in range(2)]])
    except http.client.IncompleteRead as exc:
        found.append([how, repr(exc)])
    connection.close()
print(json.dumps([found, sys.argv[2:]]))
"""


def test_legacy_short_reads(tmp_path: Path) -> None:
    """A body of 10 bytes of which 4 come: as in http.client with the option, and an error without it."""
    (tmp_path / "reads.py").write_text(READS)
    with Scripted(served) as server:
        arguments = ["reads.py", str(server.port), SWITCH]  # this one is the program's own
        in_http_client = run(*arguments, cwd=tmp_path, options=())
        assert run(SWITCH, *arguments, cwd=tmp_path) == in_http_client
        assert run(SWITCH, "-m", "reads", *arguments[1:], cwd=tmp_path) == in_http_client
        assert [seen for _, seen in in_http_client[0]] == [[4, 0]] * 4
        found, own = run(*arguments, cwd=tmp_path)
    assert own == [SWITCH]
    assert {how: type(seen) for how, seen in found} == dict.fromkeys(("read", "readinto", "read1", "readline"), str)
    assert all(seen.startswith("IncompleteRead(") for _, seen in found)


PROCESSES = """
import http.client, json, multiprocessing, subprocess, sys

def name(queue):
    queue.put(http.client.__name__)

if __name__ == "__main__":
    found = {}
    for way in ("fork", "spawn"):
        if way in multiprocessing.get_all_start_methods():
            context = multiprocessing.get_context(way)
            queue = context.SimpleQueue()
            process = context.Process(target=name, args=(queue,))
            process.start()
            found[way] = queue.get()
            process.join()
    code = "import http.client; print(http.client.__name__, end='')"
    found["new"] = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True).stdout
    import httpio.dropin
    httpio.dropin.uninstall()
    found["uninstalled"] = sys.modules["http.client"].__name__
    print(json.dumps(found))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_other_processes(tmp_path: Path) -> None:
    (tmp_path / "processes.py").write_text(PROCESSES)
    assert run("processes.py", cwd=tmp_path) == {
        "fork": "httpio.client",
        "spawn": "http.client",
        "new": "http.client",
        "uninstalled": "http.client",  # there is one state, though the program was started by it
    }
