"""What does httpio.client cost where http.client was?

Small GETs one at a time on a kept connection, 1 GiB by `readinto` of 64 KiB, and every item of a head of 20 fields;
beside them bare socket calls that send and receive the same bytes. The same code runs with either module. urllib3 and
requests are measured as they come, and with httpio injected.
"""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from importlib import import_module
from statistics import median
from typing import Any

from harness import Go, Rival, ask_again, interleave, main, rival
from report import Goal, Table, costs_of
from servers import HOST, canned
from wires import GIB, WIRES

WIRE = "8 fields"
HEAD = "20 fields"
TARGET = "/objects/000001"
REQUEST = f"GET {TARGET} HTTP/1.1\r\nHost: {HOST}:%d\r\nAccept-Encoding: identity\r\n\r\n"
BUFFER = 64 << 10
GETS, HEADS = 500, 2000
ROUNDS = 20
DOWNLOADS = 4  # of the rounds: each takes a GiB
LEFT = 0.40
FASTER = 8
BARE, OLD, NEW = "bare calls", "http.client", "httpio.client"


def _check(found: int, expected: int) -> None:
    if found != expected:
        raise RuntimeError(f"the responses add up to {found}, not to {expected}")


def bare(options: dict[str, Any]) -> Go:
    """Send the request that http.client sends, and receive until the known number of bytes is there."""
    sock = socket.create_connection((HOST, options["port"]))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = (REQUEST % options["port"]).encode()
    size = WIRES[options["wire"]]().size
    buffer = bytearray(BUFFER)
    return ask_again(sock, request, size, buffer)


def gets(options: dict[str, Any]) -> Go:
    """`request`, `getresponse`, `read` of a module's HTTPConnection."""
    module = import_module(options["module"])
    conn = module.HTTPConnection(HOST, options["port"])
    conn.connect()
    each = 200 + WIRES[options["wire"]]().content

    def go(count: int) -> None:
        found = 0
        for _ in range(count):
            conn.request("GET", TARGET)
            response = conn.getresponse()
            found += response.status + len(response.read())
        _check(found, count * each)

    return go


def download(options: dict[str, Any]) -> Go:
    """`readinto` of a module's HTTPResponse, thrown away."""
    module = import_module(options["module"])
    conn = module.HTTPConnection(HOST, options["port"])
    conn.connect()
    buffer = memoryview(bytearray(BUFFER))

    def go(count: int) -> None:
        found = 0
        for _ in range(count):
            conn.request("GET", TARGET)
            response = conn.getresponse()
            while length := response.readinto(buffer):
                found += length
        _check(found, count * GIB)

    return go


def fields_of_a_file(options: dict[str, Any]) -> Go:
    """A module's `parse_headers`, and every name and value of what it returns."""
    module = import_module(options["module"])
    fields = WIRES[HEAD]().head.partition(b"\r\n")[2]
    each = sum(len(line) - 2 for line in fields.decode("latin-1").split("\r\n") if line)

    def go(count: int) -> None:
        found = 0
        for _ in range(count):
            for name, value in module.parse_headers(io.BytesIO(fields)).items():
                found += len(name) + len(value)
        _check(found, count * each)

    return go


class _File:
    """What a response needs of a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(io.BytesIO(self._data))  # type: ignore[arg-type]


def heads(options: dict[str, Any]) -> Go:
    """`HTTPResponse.begin` from a file, and with the option `items` every name and value of its `headers`."""
    module = import_module(options["module"])
    wire = WIRES[HEAD]()
    fields = wire.head.partition(b"\r\n")[2]
    each = sum(len(line) - 2 for line in fields.decode("latin-1").split("\r\n") if line)
    file = _File(wire.whole)

    def go(count: int) -> None:
        found = 0
        for _ in range(count):
            response = module.HTTPResponse(file, method="GET")
            response.begin()
            for name, value in response.headers.items():
                found += len(name) + len(value)
        _check(found, count * each)

    def without(count: int) -> None:
        for _ in range(count):
            module.HTTPResponse(file, method="GET").begin()

    return go if options["items"] else without


def _inject(options: dict[str, Any]) -> None:
    if options["inject"]:
        import_module("httpio.contrib.urllib3").inject_into_urllib3()


def urllib3_pool(options: dict[str, Any]) -> Go:
    """urllib3's pool."""
    import urllib3

    _inject(options)
    pool = urllib3.HTTPConnectionPool(HOST, options["port"], maxsize=1)
    each = 200 + WIRES[options["wire"]]().content

    def go(count: int) -> None:
        found = 0
        for _ in range(count):
            response = pool.request("GET", TARGET)
            found += response.status + len(response.data)
        _check(found, count * each)

    return go


def requests_session(options: dict[str, Any]) -> Go:
    """requests' session."""
    import requests

    _inject(options)
    session = requests.Session()
    session.trust_env = False
    url = f"http://{HOST}:{options['port']}{TARGET}"
    each = 200 + WIRES[options["wire"]]().content

    def go(count: int) -> None:
        found = 0
        for _ in range(count):
            response = session.get(url)
            found += response.status_code + len(response.content)
        _check(found, count * each)

    return go


RIVALS = {
    "bare": bare,
    "gets": gets,
    "download": download,
    "parse_headers": fields_of_a_file,
    "heads": heads,
    "urllib3": urllib3_pool,
    "requests": requests_session,
}


def measure(rounds: int) -> Iterator[Table]:
    """The tables, one for each question."""
    with canned(WIRE) as port:
        yield _gets(port, rounds)
        yield _above(port, rounds)
    with canned("length") as port:
        yield _download(port, max(1, rounds * DOWNLOADS // ROUNDS))
    yield _heads(rounds)


def _both(name: str, count: int, options: dict[str, Any]) -> list[Rival]:
    return [rival(__file__, name, count, {**options, "module": module}, module) for module in (OLD, NEW)]


def _gets(port: int, rounds: int) -> Table:
    options = {"port": port, "wire": WIRE}
    rivals = [rival(__file__, "bare", GETS, options, BARE), *_both("gets", GETS, options)]
    table = Table("drop-in: GETs of 1 KiB, one at a time", interleave(rivals, rounds), BARE)
    text = f"{NEW}: at most {LEFT:.0%} of what {OLD} adds to the {BARE}"
    left = share(*(table.find(label) for label in (NEW, OLD, BARE)))
    table.goals.append(_goal(text, left, LEFT))
    return table


def _goal(text: str, value: float | None, most: float) -> Goal:
    return Goal(text, None, "not measured") if value is None else Goal(text, value <= most, f"{value:.1%}")


def share(new: Rival, old: Rival, base: Rival) -> float | None:
    """The median over the rounds of what `new` adds to `base`, divided by what `old` adds; None: not measured."""
    rounds = zip(costs_of(new), costs_of(old), costs_of(base), strict=False)
    shares = [(one - least) / (two - least) for one, two, least in rounds if two > least]
    return median(shares) if shares else None


def _heads(rounds: int) -> Table:
    rivals = []
    for module in (OLD, NEW):
        options = {"module": module}
        rivals.append(rival(__file__, "parse_headers", HEADS, options, f"{module}.parse_headers, items"))
        rivals.append(rival(__file__, "heads", HEADS, {**options, "items": False}, f"{module}, begin"))
        rivals.append(rival(__file__, "heads", HEADS, {**options, "items": True}, f"{module}, begin, items"))
    old, parsed, without, items = rivals[0], *rivals[3:]
    table = Table("drop-in: a head of 20 fields from a file", interleave(rivals, rounds), old.label)
    costs = zip(costs_of(items), costs_of(without), costs_of(old), strict=False)
    parts = [(one - less) / other for one, less, other in costs]
    text = f"{NEW}: every item of a head that was received, at most 1/{FASTER} of {old.label}"
    table.goals.append(_goal(text, median(parts) if parts else None, 1 / FASTER))
    for rival_ in (parsed, items):
        shares = [one / other for one, other in zip(costs_of(rival_), costs_of(old), strict=False)]
        if shares:
            table.notes.append(f"from the file to the items, {rival_.label}: {median(shares):.1%} of {old.label}")
    return table


def _above(port: int, rounds: int) -> Table:
    rivals = []
    for name in ("urllib3", "requests"):
        for inject in (False, True):
            options = {"port": port, "wire": WIRE, "inject": inject}
            rivals.append(rival(__file__, name, GETS // 2, options, f"{name}, injected" if inject else name))
    return Table("drop-in: the same through urllib3 and requests", interleave(rivals, rounds), "urllib3")


def _download(port: int, rounds: int) -> Table:
    options = {"port": port, "wire": "length"}
    rivals = [rival(__file__, "bare", 1, options, BARE), *_both("download", 1, options)]
    table = Table("drop-in: 1 GiB by readinto", interleave(rivals, rounds), BARE, scale=1e3, unit="ms")
    table.require_ratio(NEW, OLD, 1.0)
    return table


if __name__ == "__main__":
    main(measure, ROUNDS, RIVALS, __doc__)
