"""CPython's own tests, from the library of the Python that runs this, with another module in the place of http.client.

    python tests/standard_library.py MODULE REPLACEMENT REPORT [--part N/M] [--switch NAME]

MODULE is one of MODULES. REPLACEMENT is a module's name; `http.client` leaves all as it is. Every M-th test is run,
from the N-th. `--switch` sets that attribute of the replacement's HTTPResponse to True first. REPORT gets the outcomes,
see `suites.py`.
"""

from __future__ import annotations

import argparse
import http
import sys
import unittest
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Any

import suites

# In how many parts each is run: what takes long in them is waiting, for the server's timeouts and for the clock.
MODULES = {
    "test_httplib": 1,
    "test_urllib": 1,
    "test_urllib2": 1,
    "test_urllib2_localnet": 1,
    "test_xmlrpc": 5,
    "test_httpservers": 1,  # root skips the 14 of CGI
    "test_robotparser": 1,
    "test_logging": 6,
}
# Of what the tests may ask for: time, and nothing else; "network" would leave this machine.
RESOURCES = ["walltime"]
SECONDS_FOR_A_TEST = 40
SECONDS = 150
AT_ONCE = 12
WITNESSES = {
    "http": "client",
    "test.test_httplib": "client",
    "urllib.request": "http.client",
    "xmlrpc.client": "http.client",
}
"""Where the module is looked for when all is imported."""

Error = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


class Result(unittest.TestResult):
    """Writes the outcome of each test to a report."""

    def __init__(self, report: suites.Report) -> None:
        super().__init__()
        self._report = report
        self._outcome: tuple[str, str] = (suites.PASSED, "")

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._outcome = (suites.PASSED, "")
        self._report.add(test.id(), suites.STARTED)

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        self._report.add(test.id(), *self._outcome)

    def _fail(self, test: unittest.TestCase, error: Error) -> None:
        lines = f"{error[0].__name__ if error[0] else 'failure'}: {error[1]}".strip().splitlines()
        self._outcome = (suites.FAILED, lines[0][:300])
        if not isinstance(test, unittest.TestCase) or type(test).__name__ == "_ErrorHolder":
            self._report.add(test.id(), *self._outcome)  # of a class or module: no test starts

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        self._fail(test, err)

    addFailure = addError

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        if err is not None:
            self._fail(test, err)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self._outcome = (suites.SKIPPED, reason)

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self._outcome = (suites.FAILED, "an unexpected success")


def replace(name: str) -> None:
    """Put the module `name` in the place of http.client for what is imported after this."""
    if name == "httpio.client":
        import_module("httpio.dropin").install()
    elif name != "http.client":
        sys.modules["http.client"] = import_module(name)
        http.client = sys.modules[name]


def close_first(test: unittest.TestCase) -> None:
    """Have the connections of `test` closed before its server is stopped.

    A test that fails between requests leaves one open. A server of one thread reads from it, and is waited for.
    """
    tear_down = test.tearDown

    def close_and_tear_down() -> None:
        for value in list(vars(test).values()):
            if isinstance(value, sys.modules["http.client"].HTTPConnection):
                value.close()
        tear_down()

    test.tearDown = close_and_tear_down  # type: ignore[method-assign]


def witnesses() -> set[str]:
    """The names of the modules that are found where http.client is expected."""
    found = {sys.modules["http.client"].__name__}
    for name, attributes in WITNESSES.items():
        if name in sys.modules:
            found.add(attrgetter(attributes)(sys.modules[name]).__name__)
    return found


def flat(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for one in suite:
        if isinstance(one, unittest.TestSuite):
            yield from flat(one)
        else:
            yield one


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("module", choices=MODULES)
    parser.add_argument("replacement")
    parser.add_argument("report", type=Path)
    parser.add_argument("--part", default="1/1")
    parser.add_argument("--switch")
    options = parser.parse_args()
    sys.path.remove(str(Path(__file__).resolve().parent))  # the tests have files named like those of the library
    replace(options.replacement)
    if options.switch:
        setattr(sys.modules["http.client"].HTTPResponse, options.switch, True)
    support = import_module("test.support")
    support.use_resources = RESOURCES
    tests = list(flat(unittest.defaultTestLoader.loadTestsFromName(f"test.{options.module}")))
    for test in tests:
        close_first(test)
    number, parts = map(int, options.part.split("/"))
    report = suites.Report(options.report, SECONDS_FOR_A_TEST)
    for name in sorted(witnesses()):
        report.add(f"http.client is {name}", suites.NOTE)
    unittest.TestSuite(tests[number - 1 :: parts]).run(Result(report))


def is_there() -> bool:
    """Tell whether this Python's library has its tests: a distribution may leave them out, in part too."""
    try:
        return all(find_spec(f"test.{name}") for name in MODULES)
    except ModuleNotFoundError:
        return False


def run(folder: Path, replacement: str, modules: dict[str, int], path: list[Path], switch: str = "") -> suites.Outcomes:
    """Run `modules` with `replacement`, in processes with `path` to import from, each in a new folder in `folder`."""

    def one(name: str, part: str) -> suites.Outcomes:
        own = folder / f"{name}.{part.replace('/', '.')}"  # the tests leave files where they are run
        own.mkdir(parents=True)
        command: list[str | Path] = [Path(__file__).resolve(), name, replacement, own / "report", "--part", part]
        return suites.run([*command, *(["--switch", switch] if switch else [])], own / "report", SECONDS, own, path)

    parts = [(name, f"{number + 1}/{count}") for name, count in modules.items() for number in range(count)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda pair: one(*pair), parts))
    return {test: outcome for outcomes in found for test, outcome in outcomes.items()}


if __name__ == "__main__":
    main()
