"""What a bulk transfer tells: one `Result` per object, and one `Summary` for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from httpio.headers import Headers

__all__ = ["Result", "Summary"]


class Result(NamedTuple):
    """How one object ended."""

    request: Any
    """The item as it was handed in: for `fetch` a URL or a Request, for `transfer` a Job."""

    status: int | None = None
    """The status code of the final response; None when there was none."""

    headers: Headers | None = None
    """The header section of the final response; None when there was none."""

    content: bytes | None = None
    """The whole body. None after an error, and where the body went to a sink."""

    path: Path | None = None
    """Where the sink put the object; None without a sink, after an error, and for a status outside 200 to
    299."""

    error: Exception | None = None
    """Why there is no complete response, or why it could not be stored; None otherwise. A status outside 200
    to 299 is no error here."""

    attempts: int = 1
    """How often the request was sent, as far as is known; 0 when it never was."""

    @property
    def ok(self) -> bool:
        """True when the object is complete: no error, and a status from 200 to 299."""
        return self.error is None and self.status is not None and 200 <= self.status <= 299


class Summary(NamedTuple):
    """The totals of a transfer."""

    objects: int
    """Objects complete."""

    bytes: int
    """Bytes of content in these."""

    failures: int
    """Objects that failed."""

    seconds: float
    """Wall-clock time from the first request to the last result."""

    @property
    def rate(self) -> float:
        """Complete objects per second."""
        return self.objects / self.seconds if self.seconds > 0 else 0.0

    def __str__(self) -> str:
        return (
            f"{self.objects} object{'' if self.objects == 1 else 's'}, {self.bytes} bytes, "
            f"{self.failures} failure{'' if self.failures == 1 else 's'}, "
            f"{self.seconds:.2f} s, {self.rate:.0f} objects/s"
        )
