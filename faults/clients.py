"""The clients, each as its users use it: responses are read in pieces, requests go through its own session or pool.

Each is given the same limits: so many seconds without progress, and, where it has a setting for the time of a whole
exchange, so many seconds for that. What else is set is said in its `note`. As a program this file plays one client,
in an environment where it is installed: see `main`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import platform
import ssl
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, BinaryIO, NamedTuple, Protocol
from urllib.parse import urlsplit

PIECE = 65536
SHORT = b"once"
"""The body of a POST."""


class Job(NamedTuple):
    """What a client is to do. *steps*: (method, target, most), as `menu.Step`."""

    base: str
    cafile: str | None
    idle: float
    total: float
    upload: int
    pauses: bool
    steps: Sequence[Sequence[Any]]

    @property
    def host(self) -> str:
        return str(urlsplit(self.base).hostname)

    @property
    def port(self) -> int:
        return int(urlsplit(self.base).port or 0)

    def context(self) -> ssl.SSLContext | None:
        """The client's side of TLS; None without TLS."""
        return ssl.create_default_context(cafile=self.cafile) if self.cafile else None

    def file(self) -> BinaryIO:
        """The body of a PUT."""
        file = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the last reference)
        file.truncate(self.upload)
        return file


class Answer(NamedTuple):
    """What was delivered."""

    status: int
    body: bytes


class Failure(NamedTuple):
    """The exception that was raised. *name*: its type; *text*: what it says."""

    name: str
    text: str


Outcome = Answer | Failure
Body = BinaryIO | bytes | None


class Client(Protocol):
    """One client, made for one job.

    `request` sends a request, and reads its answer to the end, or gives it up after *most* bytes of the body.
    """

    note: str

    def __init__(self, job: Job) -> None: ...
    @staticmethod
    def version() -> str: ...
    def request(self, method: str, target: str, body: Body, most: int | None) -> Answer: ...
    def pause(self, wait: Callable[[], object]) -> None: ...
    def close(self) -> None: ...


class _Waits:
    """Nothing happens in the program while it pauses."""

    note = ""

    def pause(self, wait: Callable[[], object]) -> None:
        wait()


class _Loops:
    """A client for asyncio; its loop runs while the program pauses."""

    note = ""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(self.open())

    async def open(self) -> None:
        raise NotImplementedError

    async def exchange(self, method: str, target: str, body: Body, most: int | None) -> Answer:
        raise NotImplementedError

    async def end(self) -> None:
        raise NotImplementedError

    def request(self, method: str, target: str, body: Body, most: int | None) -> Answer:
        return self.loop.run_until_complete(self.exchange(method, target, body, most))

    def pause(self, wait: Callable[[], object]) -> None:
        self.loop.run_until_complete(self.loop.run_in_executor(None, wait))

    def close(self) -> None:
        self.loop.run_until_complete(self.end())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


class Httpio(_Waits):
    """httpio."""

    note = (
        "one connection; `deadline` is set; `Accept-Encoding` is sent, and `read_response(decode=True)` called, without"
        " which it decodes nothing; a response is given up by `discard`"
    )

    def __init__(self, job: Job) -> None:
        import httpio

        self.conn = httpio.HTTPConnection(
            job.host, job.port, job.context(), timeout=job.idle, connect_timeout=job.idle, deadline=job.total
        )
        self.fields = {"Accept-Encoding": httpio.accept_encoding()}

    @staticmethod
    def version() -> str:
        import httpio

        return httpio.__version__

    def request(self, method: str, target: str, body: Body, most: int | None) -> Answer:
        self.conn.send_request(method, target, self.fields, body)
        response = self.conn.read_response(decode=True)
        if most is not None:
            given = self.conn.read(most)
            self.conn.discard()
            return Answer(response.status, given)
        pieces = []
        while piece := self.conn.read(PIECE):
            pieces.append(piece)
        return Answer(response.status, b"".join(pieces))

    def close(self) -> None:
        self.conn.close()


class HttpioAsync(_Loops):
    """httpio's face for asyncio."""

    note = "the same calls, awaited"

    @staticmethod
    def version() -> str:
        import httpio

        httpio.AsyncHTTPConnection  # noqa: B018  (there may be none)
        return httpio.__version__

    async def open(self) -> None:
        import httpio

        job = self.job
        self.conn = httpio.AsyncHTTPConnection(
            job.host, job.port, job.context(), timeout=job.idle, connect_timeout=job.idle, deadline=job.total
        )
        self.fields = {"Accept-Encoding": httpio.accept_encoding()}

    async def exchange(self, method: str, target: str, body: Body, most: int | None) -> Answer:
        await self.conn.send_request(method, target, self.fields, body)
        response = await self.conn.read_response(decode=True)
        if most is not None:
            given = await self.conn.read(most)
            await self.conn.discard()
            return Answer(response.status, given)
        pieces = []
        while piece := await self.conn.read(PIECE):
            pieces.append(piece)
        return Answer(response.status, b"".join(pieces))

    async def end(self) -> None:
        await self.conn.aclose()


class StandardLibrary(_Waits):
    """http.client."""

    note = (
        "one connection, `read(n)`; its documentation says that a response must have been read whole before the next"
        " request, and the one that is given up is closed. `read()` without a size raises IncompleteRead where a"
        " Content-Length is not reached"
    )

    module = "http.client"

    def __init__(self, job: Job) -> None:
        module = importlib.import_module(self.module)
        if job.cafile:
            self.conn = module.HTTPSConnection(job.host, job.port, timeout=job.idle, context=job.context())
        else:
            self.conn = module.HTTPConnection(job.host, job.port, timeout=job.idle)

    @staticmethod
    def version() -> str:
        return f"of Python {platform.python_version()}"

    def request(self, method: str, target: str, body: Body, most: int | None) -> Answer:
        self.conn.request(method, target, body)
        response = self.conn.getresponse()
        if most is not None:
            given = response.read(most)
            response.close()
            return Answer(response.status, given)
        pieces = []
        while piece := response.read(PIECE):
            pieces.append(piece)
        return Answer(response.status, b"".join(pieces))

    def close(self) -> None:
        self.conn.close()


class DropIn(StandardLibrary):
    """httpio.client, in the place of http.client."""

    note = (
        "as http.client, and nothing else: the program is the same; the limit for an exchange is not among its settings"
    )
    module = "httpio.client"

    @staticmethod
    def version() -> str:
        import httpio

        return httpio.__version__


class Urllib3(_Waits):
    """urllib3."""

    note = (
        "`PoolManager` with its default of three retries; `Timeout(total=...)` is set, and counts connecting and each"
        " wait; `preload_content=False` and `stream`; a response is given up by `drain_conn` and `release_conn`."
        " With `retries=False` ProtocolError and SSLError come in the place of MaxRetryError"
    )

    def __init__(self, job: Job) -> None:
        import urllib3

        self.base = job.base
        timeout = urllib3.Timeout(connect=job.idle, read=job.idle, total=job.total)
        self.pool = urllib3.PoolManager(timeout=timeout, ca_certs=job.cafile)

    @staticmethod
    def version() -> str:
        return version("urllib3")

    def request(self, method: str, target: str, body: Body, most: int | None) -> Answer:
        response = self.pool.request(method, self.base + target, body=body, preload_content=False)
        if most is not None:
            given = response.read(most)
            response.drain_conn()
        else:
            given = b"".join(response.stream(PIECE))
        response.release_conn()
        return Answer(response.status, given)

    def close(self) -> None:
        self.pool.clear()


class Requests(_Waits):
    """requests."""

    note = "`Session`, `stream=True` and `iter_content`; a response is given up by the end of its `with`"

    def __init__(self, job: Job) -> None:
        import requests

        self.base = job.base
        self.options: dict[str, Any] = {"timeout": job.idle, "verify": job.cafile or True}
        self.session: Any = requests.Session()

    @staticmethod
    def version() -> str:
        return version("requests")

    def request(self, method: str, target: str, body: Body, most: int | None) -> Answer:
        with self.session.request(method, self.base + target, data=body, stream=True, **self.options) as response:
            pieces = response.iter_content(most or PIECE)
            return Answer(response.status_code, next(pieces) if most is not None else b"".join(pieces))

    def close(self) -> None:
        self.session.close()


class Niquests(Requests):
    """niquests, whose names are those of requests."""

    note = "as requests; the third member of `timeout` is the limit for the exchange"

    def __init__(self, job: Job) -> None:
        import niquests

        self.base = job.base
        self.options = {"timeout": (job.idle, job.idle, job.total), "verify": job.cafile or True}
        self.session = niquests.Session()

    @staticmethod
    def version() -> str:
        return f"{version('niquests')} (urllib3-future {version('urllib3-future')})"


class Httpx(_Waits):
    """httpx."""

    note = "`Client`, `stream` and `iter_bytes`; a response is given up by the end of its `with`"

    def __init__(self, job: Job) -> None:
        import httpx

        self.client = httpx.Client(base_url=job.base, timeout=job.idle, verify=job.context() or True)

    @staticmethod
    def version() -> str:
        return f"{version('httpx')} (httpcore {version('httpcore')}, h11 {version('h11')})"

    def request(self, method: str, target: str, body: Body, most: int | None) -> Answer:
        with self.client.stream(method, target, content=body) as response:
            pieces = response.iter_bytes(most or PIECE)
            return Answer(response.status_code, next(pieces) if most is not None else b"".join(pieces))

    def close(self) -> None:
        self.client.close()


class Aiohttp(_Loops):
    """aiohttp."""

    note = (
        "`ClientSession`, `ClientTimeout(total=..., sock_connect=..., sock_read=...)` and `iter_chunked`; a response is"
        " given up by the end of its `async with`. In Python's development mode (`-X dev`) it parses more strictly:"
        " bare LF is refused"
    )

    @staticmethod
    def version() -> str:
        return version("aiohttp")

    async def open(self) -> None:
        import aiohttp

        job = self.job
        timeout = aiohttp.ClientTimeout(total=job.total, sock_connect=job.idle, sock_read=job.idle)
        connector = aiohttp.TCPConnector(ssl=job.context() or True)
        self.session = aiohttp.ClientSession(job.base, timeout=timeout, connector=connector)

    async def exchange(self, method: str, target: str, body: Body, most: int | None) -> Answer:
        async with self.session.request(method, target, data=body) as response:
            if most is not None:
                return Answer(response.status, await response.content.read(most))
            pieces = [piece async for piece in response.content.iter_chunked(PIECE)]
            return Answer(response.status, b"".join(pieces))

    async def end(self) -> None:
        await self.session.close()


class Pycurl(_Waits):
    """pycurl."""

    note = (
        'one handle for all requests; `TIMEOUT_MS` and `LOW_SPEED_TIME` are set, and `ACCEPT_ENCODING` to `""`, without'
        " which it decodes nothing; a response is given up by its `WRITEFUNCTION`"
    )

    def __init__(self, job: Job) -> None:
        import pycurl

        self.pycurl = pycurl
        self.job = job
        self.handle = pycurl.Curl()

    @staticmethod
    def version() -> str:
        import pycurl

        return f"{version('pycurl')} (libcurl {pycurl.version_info()[1]}, {pycurl.version_info()[5]})"

    def request(self, method: str, target: str, body: Body, most: int | None) -> Answer:
        curl, handle, job = self.pycurl, self.handle, self.job
        handle.reset()  # the options; the connections stay
        handle.setopt(curl.URL, job.base + target)
        handle.setopt(curl.ACCEPT_ENCODING, "")
        handle.setopt(curl.CONNECTTIMEOUT_MS, int(job.idle * 1000))
        handle.setopt(curl.TIMEOUT_MS, int(job.total * 1000))
        handle.setopt(curl.LOW_SPEED_LIMIT, 1)
        handle.setopt(curl.LOW_SPEED_TIME, max(1, round(job.idle)))
        if job.cafile:
            handle.setopt(curl.CAINFO, job.cafile)
        if method == "HEAD":
            handle.setopt(curl.NOBODY, True)
        elif isinstance(body, bytes):
            handle.setopt(curl.POSTFIELDS, body)
        elif body is not None:
            handle.setopt(curl.UPLOAD, True)
            handle.setopt(curl.INFILESIZE_LARGE, job.upload)
            handle.setopt(curl.READDATA, body)
        given = bytearray()

        def write(piece: bytes) -> int:
            given.extend(piece)
            return len(piece) if most is None or len(given) < most else 0

        handle.setopt(curl.WRITEFUNCTION, write)
        try:
            handle.perform()
        except curl.error as error:
            if most is None or error.args[0] != curl.E_WRITE_ERROR:
                raise
        return Answer(handle.getinfo(curl.RESPONSE_CODE), bytes(given[:most]))

    def close(self) -> None:
        self.handle.close()


class Geventhttpclient(_Waits):
    """geventhttpclient."""

    note = "`HTTPClient`, `read` in pieces; a response is given up by the end of its `with`"

    def __init__(self, job: Job) -> None:
        from geventhttpclient import HTTPClient

        self.client = HTTPClient.from_url(
            job.base,
            connection_timeout=job.idle,
            network_timeout=job.idle,
            ssl_options={"ca_certs": job.cafile} if job.cafile else None,
        )

    @staticmethod
    def version() -> str:
        return f"{version('geventhttpclient')} (gevent {version('gevent')})"

    def request(self, method: str, target: str, body: Body, most: int | None) -> Answer:
        with self.client.request(method, target, body=body or b"") as response:
            if most is not None:
                return Answer(response.status_code, response.read(most))
            pieces = []
            while piece := response.read(PIECE):
                pieces.append(piece)
            return Answer(response.status_code, b"".join(pieces))

    def close(self) -> None:
        self.client.close()


CLIENTS: dict[str, type[Client]] = {
    "httpio": Httpio,
    "httpio asyncio": HttpioAsync,
    "httpio.client": DropIn,
    "http.client": StandardLibrary,
    "urllib3": Urllib3,
    "requests": Requests,
    "httpx": Httpx,
    "aiohttp": Aiohttp,
    "pycurl": Pycurl,
    "geventhttpclient": Geventhttpclient,
    "niquests": Niquests,
}
"""The columns of the table."""


def failure(error: BaseException) -> Failure:
    """How the table calls an exception; libcurl's have one type, and a number each. Those of httpio.client have the
    names of http.client, from which they are derived."""
    kind = type(error)
    name = next(base.__name__ for base in kind.__mro__ if base.__module__ != "httpio.client.errors")
    if kind.__module__ == "pycurl":
        name = f"{name} {error.args[0]}"
    return Failure(name, str(error)[:300])


def play(kind: type[Client], job: Job, wait: Callable[[], object]) -> list[Outcome]:
    """Do a job, up to its first error. *wait* returns when the server has done what the client pauses for."""
    outcomes: list[Outcome] = []
    client = kind(job)
    try:
        for number, (method, target, most) in enumerate(job.steps):
            if number and job.pauses:
                client.pause(wait)
            body = SHORT if method == "POST" else job.file() if method == "PUT" else None
            outcomes.append(client.request(method, target, body, most))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # gevent's time-outs are no `Exception`
        outcomes.append(failure(error))
    with contextlib.suppress(Exception):
        client.close()
    return outcomes


def main() -> None:
    """`python clients.py NAME`: say the client's version in a line; for a line with a job, say its outcomes in one.

    In between, "pause" asks for an empty line when the client may go on. All lines are JSON. An empty line for the
    job: there is none.
    """

    def say(what: object) -> None:
        print(json.dumps(what), flush=True)

    kind = CLIENTS[sys.argv[1]]
    say(kind.version())
    line = sys.stdin.readline().strip()
    if not line:
        return

    def wait() -> None:
        say("pause")
        sys.stdin.readline()

    outcomes = play(kind, Job(*json.loads(line)), wait)
    say([[*one[:-1], one.body.hex()] if isinstance(one, Answer) else one for one in outcomes])


if __name__ == "__main__":
    main()
