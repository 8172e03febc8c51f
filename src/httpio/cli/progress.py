"""A progress bar on a terminal, through tqdm (the extra ``progress``)."""

from __future__ import annotations

import sys
from importlib import import_module
from types import TracebackType
from typing import Any

__all__ = ["Progress"]


class Progress:
    """A bar on standard error while it is a terminal, *wanted*, and tqdm is installed; nothing otherwise."""

    def __init__(self, total: int, wanted: bool) -> None:
        self._bar: Any = None
        if wanted and sys.stderr is not None and sys.stderr.isatty():
            try:
                tqdm = import_module("tqdm").tqdm
            except ImportError:
                self.say("httpio: pip install 'httpio[progress]' gives a progress bar here")
            else:
                self._bar = tqdm(total=total, unit=" objects", dynamic_ncols=True)

    def step(self) -> None:
        """One object more is done."""
        if self._bar is not None:
            self._bar.update()

    def say(self, line: str) -> None:
        """Print *line* on standard error, above the bar."""
        if self._bar is None:
            print(line, file=sys.stderr)
        else:
            self._bar.write(line, file=sys.stderr)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
