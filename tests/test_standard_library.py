"""Every test of CPython's that passes on the standard library passes with httpio.client in the place of http.client."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import corpus
import httpio
import standard_library
import suites
from suites import Difference

REPLACEMENT = "httpio.client"
SWITCH = "legacy_short_reads"
HERE = Path(__file__).parent
SOURCE = Path(httpio.__file__).parent.parent
MOST = 12

# Tests that demand what a row of `cases/` refuses. Not every Python has each of them, nor of those below.
DIFFERENT = [
    Difference(
        "test.test_httplib.BasicTest.test_large_content_length_truncated",
        "BadHead: a Content-Length above 2**63-1",
        "the last of its lengths is 2**64",
        "CL-032",
    ),
    Difference(
        "test.test_httplib.BasicTest.test_negative_content_length",
        "BadHead: Invalid character in Content-Length",
        "a length of -1 is read as none",
        "CL-017",
    ),
    Difference(
        "test.test_httplib.HeaderTests.test_malformed_headers_coped_with",
        "BadHead: Invalid header token",
        "a field line without a name is passed over",
        "FL-023",
    ),
    Difference(
        "test.test_httplib.HeaderTests.test_parse_all_octets",
        "BadHead: Unexpected whitespace after header value",
        "one of the field lines is folded",
        "FL-021",
    ),
    Difference(
        "test.test_httplib.HeaderTests.test_putheader",
        "ValueError: Invalid header value of b'Embedded-Fold-Space'",
        "a folded value is sent",
        "RQ-047",
    ),
    Difference(
        "test.test_httplib.RequestBodyTest.test_manual_content_length",
        "ValueError: the body has 4 bytes and not the 42 of its Content-Length",
        "a body of 4 bytes is sent as one of 42",
        "RQ-082",
    ),
    Difference(
        "test.test_httpservers.BaseHTTPServerTestCase.test_head_via_send_error",
        "BadHead: 101 Switching Protocols that was not asked for",
        "101 is the answer to HEAD without Upgrade",
        "IR-013",
    ),
    Difference(
        "test.test_httpservers.BaseHTTPServerTestCase.test_send_blank",
        "ValueError: the method must be a token",
        "the method is empty",
        "RQ-004",
    ),
    Difference(
        "test.test_httpservers.BaseHTTPServerTestCase.test_send_error",
        "NoAnswer: Remote end closed connection without response",
        "102 and then nothing is an answer",
        "IR-014",
    ),
    Difference(
        "test.test_urllib.urlopen_HttpTests.test_read_0_9",
        "UnknownVersion: HTTP version 0.9",
        "HTTP/0.9 stands in a status line",
        "SL-045",
    ),
    Difference(
        "test.test_urllib2_localnet.TestUrlopen.test_chunked",
        "BadHead: Transfer-Encoding in an HTTP/1.0 response",
        "HTTP/1.0 is chunked, and the last empty line is missing",
        "TE-035",
    ),
    Difference(
        "test.test_xmlrpc.FailingServerTestCase.test_fail_with_info",
        "BadHead: Unexpected whitespace after header value",
        "a traceback's lines are folded into a field",
        "FL-021",
    ),
]
# Tests that demand a short read without an error: they pass with the switch.
SHORT_READS = [
    Difference(
        "test.test_httplib.BasicTest.test_chunked_missing_end",
        "ShortMessage: IncompleteRead(55 bytes read)",
        "the peer closes behind the last chunk, before the empty line",
        "TR-017",
    ),
    Difference(
        "test.test_httplib.BasicTest.test_early_eof",
        "ShortMessage: IncompleteRead(0 bytes read)",
        "it closes in the status line",
        "EO-007",
    ),
    *(
        Difference(test, "IncompleteRead(0 bytes read)", "it closes before the empty line of the head", "EO-015")
        for test in (
            "test.test_httplib.BasicTest.test_epipe",
            "test.test_httplib.HeaderTests.test_headers_debuglevel",
            "test.test_urllib.urlopen_HttpTests.test_invalid_redirect",
            "test.test_urllib.urlopen_HttpTests.test_redirect_limit_independent",
        )
    ),
    *(
        Difference(test, " more expected)", "it closes before the end of the body", "EO-018")
        for test in (
            "test.test_httplib.BasicTest.test_partial_readintos_incomplete_body",
            "test.test_httplib.BasicTest.test_partial_reads_incomplete_body",
            "test.test_urllib.urlretrieve_HttpTests.test_short_content_raises_ContentTooShortError",
            "test.test_urllib.urlretrieve_HttpTests.test_short_content_raises_ContentTooShortError_without_reporthook",
        )
    ),
    *(
        Difference(test, "ShortMessage: IncompleteRead(13 bytes read)", "TLS ends without close_notify", "EO-029")
        for test in (
            "test.test_urllib2_localnet.TestUrlopen.test_https",
            "test.test_urllib2_localnet.TestUrlopen.test_https_sni",
            "test.test_urllib2_localnet.TestUrlopen.test_https_with_cafile",
        )
    ),
]

Runs = tuple[suites.Outcomes, suites.Outcomes]


def module(test: str) -> str:
    return test.split(".")[1]


def unexplained(control: suites.Outcomes, replaced: suites.Outcomes, listed: list[Difference]) -> dict[str, str]:
    """What is lost and not listed, and what is listed and not lost, of the tests that pass in `control`."""
    passed = {test for test, outcome in control.items() if outcome.outcome == suites.PASSED}
    return suites.unexplained(suites.lost(control, replaced), [each for each in listed if each.test in passed])


@pytest.fixture(scope="module", autouse=True)
def _library() -> None:
    if not standard_library.is_there():
        reason = "this Python has no tests in its library"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """On the standard library, and with the replacement; at the same time, for most of it is waiting."""
    folder = tmp_path_factory.mktemp("standard_library")

    def run(name: str, replacement: str) -> suites.Outcomes:
        return standard_library.run(folder / name, replacement, standard_library.MODULES, [SOURCE])

    with ThreadPoolExecutor(2) as pool:
        control = pool.submit(run, "control", "http.client")
        replaced = pool.submit(run, "replaced", REPLACEMENT)
        return control.result(), replaced.result()


def test_the_module_was_in_place(runs: Runs) -> None:
    for outcomes, name in zip(runs, ("http.client", REPLACEMENT), strict=True):
        assert [test for test in outcomes if test.startswith("http.client is ")] == [f"http.client is {name}"]


def test_they_pass_on_the_standard_library(runs: Runs) -> None:
    control, _ = runs
    assert {test: outcome for test, outcome in control.items() if outcome.outcome == suites.FAILED} == {}
    assert len(control) > 700


def test_what_passes_there_passes_here(runs: Runs) -> None:
    assert unexplained(*runs, [*DIFFERENT, *SHORT_READS]) == {}


def test_the_differences_are_few_and_each_has_its_row() -> None:
    rows = {row["id"] for row in (*corpus.responses(), *corpus.requests())}
    assert {difference.row for difference in (*DIFFERENT, *SHORT_READS)} <= rows
    assert len(DIFFERENT) <= MOST


def test_short_reads_pass_with_the_switch(runs: Runs, tmp_path: Path) -> None:
    modules = {module(difference.test): 1 for difference in SHORT_READS}
    switched = standard_library.run(tmp_path / "switched", REPLACEMENT, modules, [SOURCE], SWITCH)
    control = {test: outcome for test, outcome in runs[0].items() if module(test) in modules}
    assert unexplained(control, switched, DIFFERENT) == {}


ALTERED = '''
"""http.client, made again under another name, with a fault: read() leaves out the last byte."""
import importlib.util

spec = importlib.util.find_spec("http.client")
exec(compile(spec.loader.get_data(spec.origin), spec.origin, "exec"), globals())
__name__ = "altered"
whole = HTTPResponse.read
HTTPResponse.read = lambda self, amt=None: whole(self, amt)[:-1]
'''


def test_a_fault_is_seen(tmp_path: Path) -> None:
    """The comparison finds what a wrong module does."""
    (tmp_path / "altered.py").write_text(ALTERED)
    modules = {"test_httplib": 1}
    control = standard_library.run(tmp_path / "control", "http.client", modules, [])
    altered = standard_library.run(tmp_path / "replaced", "altered", modules, [tmp_path])
    found = suites.lost(control, altered)
    assert found["test.test_httplib.BasicTest.test_status_lines"].startswith("failed: AssertionError")
    assert 10 < len(found) < len(control) / 2
