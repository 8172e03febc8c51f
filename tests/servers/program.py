"""Runs a server program in the foreground, with a configuration of its own, and ends it by its process id."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from time import monotonic
from types import TracebackType
from typing import Any, TypeVar

Self = TypeVar("Self", bound="Program")


class Program:
    """`with Program(command) as server:` runs it until `stop`. options: those of `subprocess.Popen`."""

    stops_by: signal.Signals = signal.SIGTERM

    def __init__(self, command: Sequence[str | PathLike[str]], **options: Any) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)

    def wait_until_it_listens(self, port: int, seconds: float = 20.0) -> None:
        """For a program that cannot take over a listening socket. RuntimeError when it ends instead."""
        end = monotonic() + seconds
        while monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=seconds).close()
                return
            except ConnectionRefusedError:
                try:
                    status = self._process.wait(timeout=0.01)
                except subprocess.TimeoutExpired:
                    continue
                raise RuntimeError(f"{self._process.args!r} ended with status {status}") from None
        raise RuntimeError(f"{self._process.args!r} does not listen")

    def stop(self) -> None:
        """Stop it, and wait until it has ended. May be called again."""
        if self._process.poll() is None:
            self._process.send_signal(self.stops_by)
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


@contextmanager
def held_port() -> Iterator[int]:
    """A port for a program that takes no listening socket over: bound, with SO_REUSEADDR and not listening, it is kept
    from all others, while a program that sets that option too may have it."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]
