"""Time that passes at the word of a test."""

from __future__ import annotations

import sys
from time import monotonic

import pytest


class Clock:
    """Calling it lets so many seconds pass at once for all of httpio. *still*: none pass but those."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, still: bool = False) -> None:
        self._began = monotonic()
        self._still = still
        self.passed = 0.0
        for name, module in list(sys.modules.items()):
            if name.startswith("httpio.") and getattr(module, "monotonic", None) is monotonic:
                monkeypatch.setattr(module, "monotonic", self.now)

    def now(self) -> float:
        """What `time.monotonic` is for httpio."""
        return self.passed + (self._began if self._still else monotonic())

    def __call__(self, seconds: float) -> None:
        self.passed += seconds
