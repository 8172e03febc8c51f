"""urllib3's own tests, from its source distribution, with a hook called before urllib3 is imported.

    python tests/urllib3_suite.py REPORT HOOK [pytest's arguments]

HOOK is MODULE:FUNCTION, or "" for none. REPORT gets the outcomes, see `suites.py`. It is run where the distribution has
been unpacked, with its `src` on PYTHONPATH.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import suites


class Distribution(NamedTuple):
    """A source distribution of urllib3."""

    version: str
    sha256: str

    @property
    def root(self) -> str:
        """The folder that it consists of."""
        return f"urllib3-{self.version}"

    @property
    def archive(self) -> str:
        return f"{self.root}.tar.gz"

    def is_at(self, path: Path) -> bool:
        return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == self.sha256


CURRENT = Distribution("2.8.0", "63bf2ead4c879426ebf22ef2a781eeb4aa3b4ae798a0435506f8687fd5bb9b63")
OLD = Distribution("1.26.20", "40c2dc0c681e47eb8f90e7e27bf6ff7df2e677421fd46756da1161c39ca70d32")
PIP_OPTIONS = ["--no-deps", "--disable-pip-version-check", "--no-input", "--require-hashes"]
NEEDED = [
    "anyio",
    "cryptography",
    "h2",
    "httpx",
    "hypercorn",
    "pytest_timeout",
    "quart",
    "quart_trio",
    "socks",
    "trio",
    "trustme",
]
"""What its tests import, beside pytest."""

# Each part is a process; they are run at the same time. What is named nowhere speaks no HTTP/1.1: fields, waiting.
PARTS = {
    "units": [
        "test_collections.py", "test_connection.py", "test_connectionpool.py", "test_exceptions.py", "test_response.py",
        "test_poolmanager.py", "test_proxymanager.py", "test_retry.py", "test_ssltransport.py", "test_util.py",
    ],
    "socks": ["contrib/test_socks.py"],
    "chunked": ["with_dummyserver/test_chunked_transfer.py", "with_dummyserver/test_connection.py"],
    "pool": ["with_dummyserver/test_connectionpool.py"],
    "https": ["with_dummyserver/test_https.py"],
    "manager": ["with_dummyserver/test_poolmanager.py"],
    "sockets": ["with_dummyserver/test_socketlevel.py"],
}  # fmt: skip
# Its proxies and what the server says of TLS need a Hypercorn that was changed for these tests, and is on no index.
NOT_RUN = "not (alpn_default or client_intermediate or client_key_password or http2_probe)"
# Whether these pass is the network's matter: they call where nobody must answer, or from an address not their own.
ELSEWHERE = [
    f"test/with_dummyserver/test_connectionpool.py::{name}"
    for name in (
        "TestConnectionPoolTimeouts::test_connect_timeout",
        "TestConnectionPoolTimeouts::test_total_applies_connect",
        "TestConnectionPool::test_source_address_error",
    )
]
EXPECTED = "expected to fail: "
"""The detail of the outcome of such a test begins with this. One that passes all the same has passed."""
SECONDS_FOR_A_TEST = 30
SECONDS = 200
FEW = 20


class SuiteError(Exception):
    """One sentence that says why the tests could not be had."""


class Plugin:
    """Writes the outcome of each test to a report."""

    def __init__(self, report: suites.Report) -> None:
        self._report = report
        self._outcome = (suites.PASSED, "")

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._outcome = (suites.PASSED, "")
        self._report.add(nodeid, suites.STARTED)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and self._outcome[0] != suites.FAILED:  # what fails first says why
            crash = getattr(report.longrepr, "reprcrash", None)
            lines = str(crash.message if crash else report.longrepr).strip().splitlines()
            self._outcome = (suites.FAILED, f"{report.when}: {lines[0][:300] if lines else ''}")
        elif report.skipped and self._outcome[0] == suites.PASSED:
            reason = getattr(report, "wasxfail", None)
            self._outcome = (suites.SKIPPED, str(report.longrepr)[:300] if reason is None else EXPECTED + reason)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._report.add(nodeid, *self._outcome)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self._report.add(report.nodeid, suites.FAILED, str(report.longrepr)[-300:])


def main() -> None:
    _, report, hook, *arguments = sys.argv
    sys.path.remove(str(Path(__file__).resolve().parent))
    if hook:
        module, _, function = hook.partition(":")
        getattr(import_module(module), function)()
    import pytest

    status = pytest.main(arguments, plugins=[Plugin(suites.Report(Path(report)))])
    sys.stdout.flush()
    os._exit(status)  # a test that failed may have left a thread that never ends


def fetch(wanted: Distribution, cache: Path) -> Path:
    """Its archive, in `cache`; pip downloads it when it is not there. SuiteError."""
    archive = cache / wanted.archive
    if wanted.is_at(archive):
        return archive
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as name:
        requirements = Path(name, "requirements.txt")
        requirements.write_text(f"urllib3=={wanted.version} --hash=sha256:{wanted.sha256}\n", encoding="utf-8")
        where = ["--no-binary", "urllib3", "-r", requirements, "-d", name]
        done = subprocess.run(
            [sys.executable, "-m", "pip", "download", *PIP_OPTIONS, *where],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        if done.returncode or not wanted.is_at(Path(name, wanted.archive)):
            said = (done.stdout.strip().splitlines() or ["nothing"])[-1]
            raise SuiteError(f"pip does not get urllib3 {wanted.version}: {said}")
        os.replace(Path(name, wanted.archive), archive)  # another run may have put it there too
    return archive


def unpack(wanted: Distribution, archive: Path, folder: Path) -> Path:
    """Unpack it into `folder`, and return its root."""
    with tarfile.open(archive) as opened:
        safe: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        opened.extractall(folder, **safe)
    return folder / wanted.root


def find_missing() -> list[str]:
    """What the tests need and this environment lacks."""
    return [name for name in NEEDED if find_spec(name) is None]


def run(
    root: Path, folder: Path, hook: str, path: Sequence[Path], parts: dict[str, list[str]] = PARTS
) -> suites.Outcomes:
    """Run parts of the unpacked suite with `hook`, which is found on `path`; the reports go to `folder`.

    A part is a list of files below `test`, or of the ids of tests. Where only few fail they are run once more: some
    wait for half a second, and a busy machine may need more.
    """
    folder.mkdir()

    def one(part: str) -> suites.Outcomes:
        report = folder / part
        files = [name if "::" in name else f"test/{name}" for name in parts[part]]
        options = [
            "-q",
            "-p",
            "no:cacheprovider",
            "-o",
            "xfail_strict=false",
            f"--timeout={SECONDS_FOR_A_TEST}",
            "-k",
            NOT_RUN,
        ]
        options += [f"--basetemp={folder / part}.tmp", *(f"--deselect={name}" for name in ELSEWHERE)]
        command = [Path(__file__).resolve(), report, hook, *options, *files]
        return suites.run(command, report, SECONDS, root, [root / "src", *path], CI="true")  # it is patient then

    with ThreadPoolExecutor(len(parts)) as pool:
        found = list(pool.map(one, parts))
    results = {test: outcome for outcomes in found for test, outcome in outcomes.items()}
    failed = [test for test, outcome in results.items() if outcome.outcome == suites.FAILED]
    if "again" not in parts and 0 < len(failed) <= FEW:
        results |= run(root, folder / "again", hook, path, {"again": failed})
    return results


if __name__ == "__main__":
    main()
