"""dugong's own tests, as they stand in its source distribution, run against httpio.

`DIFFERENT` says which of them fail, all of them on purpose; no other may.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import pytest

import httpio

VERSION = "3.8.2"
SHA256 = "f46ab34d74207445f268e3d9537a72e648c2c81a74e40d5d0e32306d24ff81bb"
PIP_OPTIONS = ["--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--disable-pip-version-check"]

# What `import dugong` gets in that process. Its limit for a wait is for the tests that would hang.
SHIM = '''
import socket
import sys
from http.server import BaseHTTPRequestHandler
from socketserver import BaseServer

import httpio

httpio._join = b"".join  # the tests use these two private names of dugong's
httpio._Buffer = lambda size: None
httpio.HTTPConnection.__init__.__kwdefaults__["timeout"] = 4
sys.modules["dugong"] = httpio

parse_request = BaseHTTPRequestHandler.parse_request
handle_error = BaseServer.handle_error
getaddrinfo = socket.getaddrinfo


def parse_with_length(self):
    """The server of the tests needs the Content-Length: 0 that dugong sends with a GET."""
    parsed = parse_request(self)
    if parsed and "Content-Length" not in self.headers:
        self.headers["Content-Length"] = "0"
    return parsed


def handle_what_is_no_loss(self, request, client_address):
    """The tests fail where the server prints a traceback, as it does over TLS when the client has gone."""
    if not isinstance(sys.exc_info()[1], OSError):
        handle_error(self, request, client_address)


def look_up_here(host, *args, **kwargs):
    """No name server is asked: names that end in .invalid do not exist."""
    if host.endswith(".invalid"):
        raise socket.gaierror(socket.EAI_NONAME, "no such name")
    return getaddrinfo(host, *args, **kwargs)


BaseHTTPRequestHandler.parse_request = parse_with_length
BaseServer.handle_error = handle_what_is_no_loss
socket.getaddrinfo = look_up_here
'''

NOT_RUN = {
    "test_aio.py": "asyncio.coroutine, which it is written with, has gone in Python 3.11",
    "test_dugong.py::test_connect_ssl": "it leaves this machine",
    "test_dugong.py::test_invalid_ssl": "it leaves this machine",
    "test_dugong.py::test_send_timeout": (
        "the server answers two seconds after a timeout of one: which comes first depends on how much the socket takes"
    ),
}


class Difference(NamedTuple):
    """Tests that fail, with what in their error, and why that is meant."""

    tests: list[str]
    error: str
    reason: str


DIFFERENT = [
    Difference(
        ["test_connect_proxy[plain-None]", "test_connect_proxy[plain-8080]"],
        "FakeSSLContext|match_hostname",  # the latter has gone in Python 3.12
        "it has no TLS, but a context of its own that is none of ssl's, and needs ssl.match_hostname; what it is about"
        " is in test_dugong_proxy.py",
    ),
    Difference(
        ["test_exhaust_buffer[plain]", "test_full_buffer[plain]"],
        "NoneType",
        "it looks into dugong's receive buffer",
    ),
    Difference(
        ["test_mutable_read[plain]", "test_mutable_read[ssl]"],
        "NoneType",
        "the same; and what is read is bytes, which nobody can change",
    ),
    Difference(
        ["test_conn_close_1[ssl]", "test_conn_close_2[ssl]"],
        "ConnectionClosed",
        "the server ends a body without length and without TLS's close_notify: anybody could have cut it",
    ),
    Difference(
        ["test_conn_close_3[plain]", "test_conn_close_3[ssl]"],
        "ConnectionClosed",
        "a request after Connection: close is refused at once, and not sent for its answer to fail",
    ),
    Difference(
        [f"test_write_toolittle{number}[{kind}]" for number in (2, 3) for kind in ("plain", "ssl")],
        "ConnectionTimedOut",
        "a response may come before its request is complete: read_response waits for it",
    ),
    Difference(
        ["test_put[plain]", "test_put[ssl]"],
        "no MD5",
        "no MD5 is computed",
    ),
]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source distribution, with the shim in place of the package."""
    folder = tmp_path_factory.mktemp("dugong")
    wanted = folder / "requirements.txt"
    wanted.write_text(f"dugong=={VERSION} --hash=sha256:{SHA256}\n")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *PIP_OPTIONS, "--requirement", wanted, "--dest", folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        if os.environ.get("CI") == "true":
            pytest.fail(done.stdout)
        pytest.skip(f"pip does not get dugong {VERSION}: {done.stdout.strip().splitlines()[-1]}")
    with tarfile.open(folder / f"dugong-{VERSION}.tar.gz") as archive:
        safe: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(folder, **safe)
    root = folder / f"dugong-{VERSION}"
    shutil.rmtree(root / "dugong")
    (root / "dugong").mkdir()
    (root / "dugong" / "__init__.py").write_text(SHIM)
    return root


@pytest.fixture(scope="module")
def outcomes(suite: Path) -> dict[str, str | None]:
    """By test: its error, or None where it passes."""
    result = suite / "outcomes.xml"
    options = ["-p", "no:cacheprovider", "--timeout", "60", f"--junitxml={result}", "--ignore=test_aio.py"]
    options += [f"--deselect={name}" for name in NOT_RUN if "::" in name]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=suite / "test",
        env=os.environ | {"PYTHONPATH": str(Path(httpio.__file__).resolve().parent.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=250,
    )
    assert result.exists(), done.stdout
    found: dict[str, str | None] = {}
    for case in ElementTree.parse(result).iter("testcase"):
        failure = next((part for part in case if part.tag in ("failure", "error", "skipped")), None)
        name = case.attrib["name"]
        found[name] = found.get(name) or (None if failure is None else failure.attrib["message"])
    return found


@pytest.mark.heavy
def test_all_but_what_differs_on_purpose(outcomes: dict[str, str | None]) -> None:
    expected = {name for difference in DIFFERENT for name in difference.tests}
    assert {name: error for name, error in outcomes.items() if error is not None and name not in expected} == {}
    assert len(outcomes) > 100


@pytest.mark.heavy
@pytest.mark.parametrize("difference", DIFFERENT, ids=lambda difference: difference.tests[0])
def test_what_differs(difference: Difference, outcomes: dict[str, str | None]) -> None:
    """What is said of it is still true: it fails, and by that error."""
    for name in difference.tests:
        assert re.search(difference.error, outcomes[name] or "passed"), (name, outcomes[name])
