"""The client of test_flat, a process because its memory is measured: `flat_client.py PORT COUNT`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from httpio import HTTPConnection, Request
from servers.flat import plan
from servers.objects import content

BODY_LIMIT = 100 * 1024


def peak() -> int:
    """The most memory that was resident, in bytes. (getrusage would count the parent's, too.)"""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) * 1024


def requests(count: int) -> Iterator[str | Request]:
    for number in range(count):
        yield f"/{number}" if plan(number).method == "GET" else Request("HEAD", f"/{number}", tag=number)


def main(port: int, count: int) -> None:
    seen = dict.fromkeys(("answered", "bytes", "streamed", "interim", "trailers", "first_peak"), 0)
    with HTTPConnection("127.0.0.1", port, timeout=60) as conn:
        for number, response in enumerate(conn.pipeline(requests(count), body_limit=BODY_LIMIT)):
            method, status, size, chunked, interim = plan(number)
            has_body = method == "GET" and status == 200
            body = response.body
            assert (body is None) == (has_body and size > BODY_LIMIT), (number, body and len(body))
            if body is None:
                seen["streamed"] += 1
                body = b"".join(iter(lambda: conn.read(65536), b""))
            assert (response.method, response.path, response.status) == (method, f"/{number}", status)
            assert response.request.tag == (number if method == "HEAD" else None)
            assert response.headers["X-Number"] == str(number)
            assert [early.status for early in response.informational] == [103] * interim
            assert body == (content(number, size) if has_body else b""), number
            if has_body and chunked:
                assert response.trailers["X-Size"] == str(size)
                seen["trailers"] += 1
            seen["answered"] += 1
            seen["bytes"] += len(body)
            seen["interim"] += interim
            if number == count // 10:
                seen["first_peak"] = peak()
    seen["last_peak"] = peak()
    print(json.dumps(seen))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
