"""``httpio get``: a list of URLs becomes files."""

from __future__ import annotations

import os
import ssl
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from http import HTTPStatus

from httpio.bulk.engine import Job, transfer
from httpio.bulk.names import Listing
from httpio.bulk.report import Result, Summary
from httpio.bulk.sinks import FolderSink
from httpio.cli.progress import Progress
from httpio.exceptions import HTTPError, InvalidURL
from httpio.headers import encode_fields
from httpio.proxies import Proxy, environment_proxy
from httpio.tls import default_context, load_certificate
from httpio.tunnel import load_socks

__all__ = ["run"]

# They belong to the message httpio writes, or would change what its answer means.
_OWN_FIELDS = frozenset(
    [b"content-length", b"transfer-encoding", b"trailer", b"te", b"expect", b"upgrade", b"range", b"if-range"]
)


class _UsageError(Exception):
    """Nothing can be transferred; the message says why."""


def run(
    *,
    urls: Sequence[str],
    listing: str | None,
    folder: str,
    headers: Sequence[str],
    cacert: str | None,
    cert: str | None,
    key: str | None,
    proxy: str | None,
    environment: bool,
    compressed: bool,
    timeout: float,
    connect_timeout: float,
    quiet: bool,
    progress: bool,
) -> int:
    """Fetch *urls*, or those in the file *listing*, into *folder*; returns the exit status.

    *headers*: ``Name: value``, or ``@FILE``. *cacert*, *cert*, *key*: PEM files. *proxy*: its URL; *environment*: it is
    named by the environment. *compressed*: ask for content codings, and undo them. Failures go to standard error;
    unless *quiet*, one line of summary goes to standard output.
    """
    try:
        fields = _fields(headers)
        context = _context(cacert, cert, key)
        way = environment_proxy if environment else _proxy(proxy)
        objects = _objects(urls, listing)
        if environment:
            _check_environment(objects)
        sink = _sink(folder)
    except _UsageError as exc:
        _complain(str(exc))
        return 2
    failures = 0
    interrupted = False
    start = time.monotonic()
    with ExitStack() as stack:
        stack.callback(sink.close)
        bar = stack.enter_context(Progress(len(objects), progress))
        try:
            jobs = (Job(*entry) for entry in objects)
            results = transfer(
                jobs,
                sink=sink,
                headers=fields,
                ssl_context=context,
                timeout=timeout,
                connect_timeout=connect_timeout,
                proxy=way,
                decode=compressed,
            )
            # A generator holds connections, which end here and not when it is collected.
            stack.callback(getattr(results, "close", _nothing))
            for result in results:
                if not result.ok:
                    failures += 1
                    bar.say(f"httpio: {_printable(_url(result))}: {_printable(_reason(result))}")
                bar.step()
        except KeyboardInterrupt:
            interrupted = True
    if not quiet:
        _print(str(Summary(sink.objects, sink.bytes, failures, time.monotonic() - start)))
    return 130 if interrupted else 1 if failures else 0


def _fields(headers: Sequence[str]) -> list[tuple[str | bytes, str | bytes | int]]:
    fields: list[tuple[str | bytes, str | bytes | int]] = []
    for line in _field_lines(headers):
        name, colon, value = line.partition(":")
        if not colon:
            # Not shown: it may be a secret whose name was forgotten.
            raise _UsageError("-H: a field is 'Name: value'")
        try:
            lower = encode_fields([(name, value)])[0][1]
        except ValueError as exc:
            raise _UsageError(f"-H: {exc}") from None
        if lower in _OWN_FIELDS:
            raise _UsageError(f"-H: the field {name} cannot be set here")
        fields.append((name, value))
    return fields


def _field_lines(headers: Sequence[str]) -> Iterator[str]:
    for header in headers:
        if not header.startswith("@"):
            yield header
            continue
        try:
            with open(header[1:], encoding="utf-8") as file:
                lines = file.read().split("\n")
        except (OSError, UnicodeDecodeError) as exc:
            raise _UsageError(f"-H: cannot read {header[1:]}: {_plain(exc)}") from None
        yield from filter(None, lines)


def _context(cacert: str | None, cert: str | None, key: str | None) -> ssl.SSLContext | None:
    if key is not None and cert is None:
        raise _UsageError("--key: it goes with a --cert")
    if cacert is None and cert is None:
        return None
    try:
        context = default_context(cacert)
    except OSError as exc:
        # ssl.SSLError is an OSError: a file that holds no certificate.
        reason = f"{cacert} holds no PEM certificate" if isinstance(exc, ssl.SSLError) else _plain(exc)
        raise _UsageError(f"--cacert: {reason}") from None
    if cert is None:
        return context
    try:
        load_certificate(context, cert, key)
    except (OSError, ValueError) as exc:
        reason = _plain(exc)
        if isinstance(exc, ssl.SSLError):
            reason = f"{cert} and {key} are no certificate and its key, in PEM"
            if key is None:
                reason = f"{cert} holds no certificate and its key, in PEM; a key in a file of its own goes with --key"
        elif isinstance(exc, ValueError):
            reason = "the key has a password; give one without, which only you can read"
        raise _UsageError(f"--cert: {reason}") from None
    return context


def _proxy(url: str | None) -> Proxy | None:
    try:
        return None if url is None else _usable(Proxy(url))
    except (InvalidURL, RuntimeError) as exc:
        raise _UsageError(f"--proxy: {exc}") from None


def _usable(proxy: Proxy) -> Proxy:
    if proxy.is_socks:
        load_socks()
    return proxy


def _check_environment(objects: Listing) -> None:
    """What is wrong with the environment is wrong before anything is transferred."""
    try:
        for origin in {entry[0] for entry in objects}:
            proxy = environment_proxy(str(origin))
            if proxy is not None:
                _usable(proxy)
    except (InvalidURL, RuntimeError) as exc:
        raise _UsageError(f"--proxy-from-environment: {exc}") from None


def _objects(urls: Sequence[str], listing: str | None) -> Listing:
    objects = Listing()
    what = "URL"
    if listing is None:
        for number, url in enumerate(urls, 1):
            objects.add(number, url)
    else:
        what = "line"
        try:
            if listing == "-":
                objects.read(sys.stdin.buffer)
            else:
                with open(listing, "rb") as file:
                    objects.read(file)
        except OSError as exc:
            raise _UsageError(f"cannot read {listing}: {_plain(exc)}") from None
    bad = objects.finish()
    if bad:
        for number, reason in bad:
            _complain(f"{what} {number}: {reason}")
        raise _UsageError(f"nothing was transferred: {len(bad)} of the {what}s cannot be used")
    return objects


def _sink(folder: str) -> FolderSink:
    try:
        return FolderSink(folder)
    except OSError as exc:
        raise _UsageError(f"cannot write to the folder {folder}: {exc.strerror or exc}") from None


def _url(result: Result) -> str:
    job = result.request
    request = job.request
    return f"{job.origin}{request if isinstance(request, str) else request.path}"


def _reason(result: Result) -> str:
    if result.error is not None:
        return _plain(result.error)
    status = result.status
    try:
        return f"{status} {HTTPStatus(status).phrase}" if status is not None else "no response"
    except ValueError:
        return f"status {status}"


def _plain(error: Exception) -> str:
    """One sentence for *error*, without Python's "[Errno 2]"."""
    if isinstance(error, OSError) and not isinstance(error, HTTPError) and error.strerror:
        return f"{error.strerror}: {os.fsdecode(error.filename)}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def _printable(text: str) -> str:
    """*text* with whatever could steer a terminal, or end the line, as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _print(line: str) -> None:
    try:
        print(line, flush=True)
    except BrokenPipeError:
        # Whoever read our output has gone. What is still buffered must not fail again when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(text: str) -> None:
    print("httpio:", _printable(text), file=sys.stderr)


def _nothing() -> None:
    pass
