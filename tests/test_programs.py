"""Real programs, unchanged, see the same under `python -m httpio.dropin` as without it; and what is built on urllib3
the same with `httpio.contrib`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import httpio
from conftest import Authority, need
from servers.process import ServerProcess
from servers.proxy import Proxy, relays, socks, tunnels

PROGRAMS = Path(__file__).with_name("programs")
SOURCE = Path(httpio.__file__).parent.parent
WITHOUT: list[str] = []
DROPIN = ["-m", "httpio.dropin"]
BEFORE = "import runpy, sys; del sys.argv[0]; {}; runpy.run_path(sys.argv[0], run_name='__main__')"
INJECTED = ["-c", BEFORE.format("import httpio.contrib.urllib3; httpio.contrib.urllib3.inject_into_urllib3()")]
WITH_THE_ADAPTER = [
    "-c",
    BEFORE.format(
        "import httpio.contrib.requests, requests.sessions; "
        "requests.sessions.HTTPAdapter = httpio.contrib.requests.HTTPAdapter"  # what each session mounts
    ),
]


def run(options: list[str], program: str, *arguments: str) -> dict[str, Any]:
    """What the program prints; AssertionError with its traceback when it fails."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        [sys.executable, *options, str(PROGRAMS / f"{program}.py"), *arguments],
        env=environment | {"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def assert_same(without: dict[str, Any], within: dict[str, Any]) -> None:
    assert without.keys() == within.keys()
    assert {key: value for key, value in within.items() if value != without[key]} == {}, without


@pytest.fixture(scope="module")
def places(authority: Authority) -> Iterator[list[str]]:
    """An origin, one over TLS, its authority, a proxy, and one for tunnels."""
    with (
        ServerProcess("echo") as origin,
        ServerProcess("echo", str(authority.chain), str(authority.key)) as secure,
        Proxy(relays()) as proxy,
        Proxy(tunnels()) as tunnel,
    ):
        addresses = [origin.url, f"https://127.0.0.1:{secure.port}", str(authority.ca)]
        yield [*addresses, *(f"http://127.0.0.1:{one.port}" for one in (proxy, tunnel))]


def test_the_drop_in_is_in_place() -> None:
    assert run(WITHOUT, "which") != run(DROPIN, "which")


def test_urllib(places: list[str]) -> None:
    assert_same(run(WITHOUT, "with_urllib", *places), run(DROPIN, "with_urllib", *places))


def test_xmlrpc() -> None:
    assert_same(run(WITHOUT, "with_xmlrpc"), run(DROPIN, "with_xmlrpc"))


@pytest.fixture(scope="module")
def requests_places(places: list[str]) -> Iterator[list[str]]:
    need(find_spec("requests") is not None, "The Python package requests")
    with Proxy(socks()) as proxy:
        yield [*places, f"127.0.0.1:{proxy.port}"]


@pytest.fixture(scope="module")
def requests_without(requests_places: list[str]) -> dict[str, Any]:
    return run(WITHOUT, "with_requests", *requests_places, "without")


@pytest.mark.parametrize("way", ["dropped in", "injected", "with the adapter"])
def test_requests(way: str, requests_places: list[str], requests_without: dict[str, Any]) -> None:
    options = {"dropped in": DROPIN, "injected": INJECTED, "with the adapter": WITH_THE_ADAPTER}[way]
    assert_same(requests_without, run(options, "with_requests", *requests_places, way.replace(" ", "-")))


def test_boto3() -> None:
    for name in ("boto3", "moto", "flask", "flask_cors"):
        need(find_spec(name) is not None, f"The Python package {name}")
    with ServerProcess("moto") as server:
        without = run(WITHOUT, "with_boto3", server.url)
        assert_same(without, run(DROPIN, "with_boto3", server.url))
        assert_same(without, run(INJECTED, "with_boto3", server.url))
