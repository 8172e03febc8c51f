"""urllib3's own tests have the same results with httpio under urllib3, and without it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import httpio
import suites
import urllib3_suite
from conftest import need
from suites import Difference

SOURCE = Path(httpio.__file__).parent.parent
CACHE = Path(__file__).parent.parent / "build" / "suites"
HOOKS = {
    "injected": "httpio.contrib.urllib3:inject_into_urllib3",
    "dropped in": "httpio.dropin:install",
}
LEAST = 1800
pytestmark = pytest.mark.heavy

CHUNKED = "test/with_dummyserver/test_chunked_transfer.py::TestChunkedTransfer::"
SOCKETS = "test/with_dummyserver/test_socketlevel.py::"
PROXIES = f"{SOCKETS}TestProxyManager::"
BROKEN = f"{SOCKETS}TestBrokenHeaders::test_header_"
OWN_TUNNEL = sys.version_info < (3, 11, 16) or (3, 12) <= sys.version_info < (3, 12, 14)
"""Whether urllib3 has its own in the place of http.client's, since that lacks a fix."""

# Tests that pass without httpio and not with it.
DIFFERENT = [
    Difference(
        f"{CHUNKED}test_preserve_transfer_encoding_header",
        "Transfer-Encoding must end with chunked",
        "it sends a coding that is not chunked, and then chunks",
        "RQ-080",
    ),
    Difference(f"{PROXIES}test_headers", "Invalid header name", "a field name with blanks", "RQ-034"),
    Difference(f"{SOCKETS}TestCookies::test_obsolete_line_folding_is_unfolded", "BadHead", "a folded line", "FL-021"),
    Difference(
        f"{SOCKETS}TestHeaders::test_response_headers_are_returned_in_the_original_order",
        "IncompleteRead",
        "the server closes before the empty line that ends the header section",
        "EO-015",
    ),
    Difference(f"{BROKEN}without_name", "Invalid header token", "a field without a name", "FL-023"),
    Difference(f"{BROKEN}without_name_or_value", "Invalid header token", "a field without a name", "FL-023"),
    Difference(f"{BROKEN}without_colon_or_value", "Invalid header token", "a line without a colon", "FL-022"),
]
LIMIT = f"{PROXIES}test_header_longer_than_maxline"
OF_TUNNEL = [
    Difference(LIMIT, "TooLong'> is", "the error is of a class derived from LineTooLong, and the test asks for itself"),
    Difference(
        f"{PROXIES}test_proxy_status_not_ok",
        "TunnelRefused'> is",
        "the error is of a class derived from OSError, and the test asks for itself",
    ),
]
OTHER_LIMIT = Difference(
    LIMIT,
    "AssertionError",
    "LineTooLong, which is http.client's class, names http.client's limit; the test sets httpio.client's",
)
LOST = {
    "injected": [*DIFFERENT, *([] if OWN_TUNNEL else OF_TUNNEL)],
    "dropped in": [*DIFFERENT, *([OTHER_LIMIT] if OWN_TUNNEL else OF_TUNNEL)],
}


def unpacked(wanted: urllib3_suite.Distribution, folder: Path) -> Path:
    """Its root; skips the test where it cannot be had, and fails it where CI=true."""
    try:
        return urllib3_suite.unpack(wanted, urllib3_suite.fetch(wanted, CACHE), folder)
    except urllib3_suite.SuiteError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked distribution."""
    missing = urllib3_suite.find_missing()
    need(not missing, f"What urllib3's tests need ({', '.join(missing)})")
    return unpacked(urllib3_suite.CURRENT, tmp_path_factory.mktemp("urllib3"))


@pytest.fixture(scope="module")
def control(root: Path) -> suites.Outcomes:
    """The results without httpio."""
    return urllib3_suite.run(root, root.parent / "control", "", [])


def test_they_pass_without(control: suites.Outcomes) -> None:
    assert {test: outcome for test, outcome in control.items() if outcome.outcome == suites.FAILED} == {}
    assert len([outcome for outcome in control.values() if outcome.outcome == suites.PASSED]) > LEAST


@pytest.mark.parametrize("way", HOOKS)
def test_they_have_the_same_results_with(way: str, root: Path, control: suites.Outcomes, tmp_path: Path) -> None:
    with_httpio = urllib3_suite.run(root, tmp_path / "reports", HOOKS[way], [SOURCE])
    assert suites.unexplained(suites.lost(control, with_httpio), LOST[way]) == {}
    gained = suites.lost(with_httpio, control)
    assert gained.keys() == {test for test, outcome in control.items() if is_about_tunnels(outcome)}, gained


def is_about_tunnels(outcome: suites.Outcome) -> bool:
    """Whether urllib3 expects the test to fail since http.client lets control characters into tunnels."""
    return outcome.detail.startswith(f"{urllib3_suite.EXPECTED}Control characters in tunnel")


def test_our_own_tests_pass_with_an_old_urllib3(tmp_path: Path) -> None:
    """They are `test_contrib_*.py`; 1.26 calls its base in other ways."""
    pytest.importorskip("requests")
    source = unpacked(urllib3_suite.OLD, tmp_path) / "src"
    code = f"import pytest, sys, urllib3; assert urllib3.__version__ == '{urllib3_suite.OLD.version}'"
    command = [sys.executable, "-c", f"{code}; raise SystemExit(pytest.main(sys.argv[1:]))", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-q", *Path(__file__).parent.glob("test_contrib_*.py")],
        env={**os.environ, "PYTHONPATH": f"{source}{os.pathsep}{SOURCE}"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]


FAULTY = """
import http.client


def inject():
    putheader = http.client.HTTPConnection.putheader
    http.client.HTTPConnection.putheader = lambda self, name, *values: putheader(self, name.lower() + "-", *values)
"""


def test_a_fault_is_seen(root: Path, control: suites.Outcomes, tmp_path: Path) -> None:
    """The hook is called before urllib3 is imported, and what goes wrong is found."""
    (tmp_path / "faulty.py").write_text(FAULTY)
    part = {"chunked": urllib3_suite.PARTS["chunked"]}
    faulty = urllib3_suite.run(root, tmp_path / "reports", "faulty:inject", [tmp_path], part)
    found = suites.lost({test: control[test] for test in faulty if test in control}, faulty)
    assert any("::TestChunkedTransfer::test_chunks[" in test for test in found)
