"""What `set_debuglevel` prints, and the audit events: the same as http.client's for the same traffic."""

from __future__ import annotations

import builtins
import http.client as standard
import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import httpio
import httpio.client as ours
from client_ways import Buffered
from servers.proxy import Proxy, tunnels
from servers.scripted import Peer, Scripted

MODULES = [standard, ours]
CHUNKED = b"HTTP/1.1 200 OK\r\nX-Latin: caf\xe9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"


def script(peer: Peer) -> None:
    while (seen := peer.request()) is not None:
        if seen.target == "/chunked":
            peer.send(CHUNKED)
        elif seen.target == "/continue":
            peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            peer.answer(b"body")
        elif seen.target == "/close":
            return peer.answer(b"last", "404 Not Found", "Connection: close\r\n")
        else:
            peer.answer(b"", "204 ", "Set-Cookie: a\r\nSet-Cookie: b\r\n")


def conversation(module: ModuleType, port: int) -> None:
    conn = module.HTTPConnection("127.0.0.1", port, timeout=20)
    conn.set_debuglevel(1)
    for method, target, body in (
        ("GET", "/", None),
        ("POST", "/chunked", b"body"),
        ("PUT", "/", "text"),
        ("PUT", "/", io.BytesIO(b"file")),
        ("PUT", "/", io.StringIO("text file")),
        ("PUT", "/", iter([b"one", b"", b"two"])),
        ("GET", "/close", None),
        ("GET", "/", None),
    ):
        conn.request(method, target, body, {"X": "y"})
        response = conn.getresponse()
        response.read()
    conn.set_debuglevel(0)
    conn.request("GET", "/")
    conn.getresponse().read()
    conn.close()


def printed(module: ModuleType, monkeypatch: pytest.MonkeyPatch, use: Callable[[ModuleType, int], None]) -> list[str]:
    """The lines that a module prints, without what no two runs have in common."""
    lines: list[str] = []

    def print(*words: object, **options: object) -> None:
        lines.append(" ".join(map(str, words)))

    monkeypatch.setattr(module, "print", print, raising=False)
    with Scripted(script) as server:
        use(module, server.port)
        told = [re.sub(rf" at 0x\w+|_iterator|:?{server.port}", "", line) for line in lines]
        return ["reading a readable" if line == "sendIng a read()able" else line for line in told]


def test_the_same_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, found = (printed(module, monkeypatch, conversation) for module in MODULES)
    assert found == expected
    assert any(line.startswith("send: b'GET / HTTP/1.1") for line in found)
    assert "reply: 'HTTP/1.1 200 OK\\r\\n'" in found


def test_interim_responses_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """http.client prints the fields of a 100 in a line of their own, here its status line is enough."""

    def use(module: ModuleType, port: int) -> None:
        conn = module.HTTPConnection("127.0.0.1", port, timeout=20)
        conn.set_debuglevel(1)
        conn.request("GET", "/continue")
        conn.getresponse().read()
        conn.close()

    expected, found = (printed(module, monkeypatch, use) for module in MODULES)
    assert found == [line for line in expected if not line.startswith("headers:")]
    assert found[1].startswith("reply: 'HTTP/1.1 100 Continue")


def test_a_tunnel_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    def use(module: ModuleType, port: int) -> None:
        with Proxy(tunnels()) as proxy:
            conn = module.HTTPConnection("127.0.0.1", proxy.port, timeout=20)
            conn.set_tunnel("127.0.0.1", port, {"Proxy-Authorization": "x"})
            conn.set_debuglevel(1)
            conn.request("GET", "/chunked")
            conn.getresponse().read()
            conn.close()

    expected, found = (printed(module, monkeypatch, use) for module in MODULES)
    assert found[0].startswith("send: b'CONNECT ")
    assert found[-4:] == expected[-4:]
    if sys.version_info >= (3, 12):  # which prints what the proxy has answered
        assert found == expected


def test_a_head_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    for level in (0, 1, 2):
        outputs = []
        for module in MODULES:
            response: Any = module.HTTPResponse(Buffered([CHUNKED]), debuglevel=level)
            response.begin()
            response.read()
            outputs.append(capsys.readouterr().out)
        assert outputs[1] == outputs[0]
        assert bool(outputs[1]) == bool(level)


def test_the_level_of_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many set it there, for all connections."""

    def use(module: ModuleType, port: int) -> None:
        conn = module.HTTPConnection("127.0.0.1", port, timeout=20)
        conn.request("GET", "/")
        conn.getresponse().read()
        conn.close()

    outputs = []
    for module in MODULES:
        monkeypatch.setattr(module.HTTPConnection, "debuglevel", 1)
        outputs.append(printed(module, monkeypatch, use))
    assert outputs[1] == outputs[0] != []


def test_printing_is_the_builtin_unless_it_is_patched(capsys: pytest.CaptureFixture[str]) -> None:
    assert not hasattr(ours, "print") or ours.print is builtins.print
    with Scripted(script) as server:
        conversation(ours, server.port)
    assert capsys.readouterr().out.startswith("send: b'GET / HTTP/1.1")


AUDIT = """
import importlib, io, sys
module = importlib.import_module(sys.argv[1])
port = int(sys.argv[2])
def hook(name, args):
    if name.startswith("http.client."):
        assert isinstance(args[0], module.HTTPConnection)
        print(name, *[port if a == port else a for a in args[1:]])
sys.addaudithook(hook)
conn = module.HTTPConnection("127.0.0.1", port, timeout=20)
for body in (None, b"bytes", "str", io.BytesIO(b"file"), [b"one", b"two"], bytearray(b"x"), io.StringIO("t")):
    conn.request("POST", "/chunked", body)
    conn.getresponse().read()
conn.send(b"")
conn.send(io.BytesIO(b"POST"))
conn.send([b" ", b"/"])
conn.close()
conn.connect()
conn.close()
"""


def test_audit_events() -> None:
    outputs = []
    with Scripted(script) as server:
        for name in ("http.client", "httpio.client"):
            done = subprocess.run(
                [sys.executable, "-c", AUDIT, name, str(server.port)],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
                cwd=Path(httpio.__file__).parent.parent,
            )
            outputs.append(done.stdout.splitlines())
    assert outputs[1] == outputs[0]
    assert sum(line.startswith("http.client.connect 127.0.0.1") for line in outputs[1]) == 2
