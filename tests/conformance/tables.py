"""All scenarios: each of these modules adds its own."""

from __future__ import annotations

from conformance import calls, continues, decoding, losses, responses, runs, together, undecodable, uploads
from conformance.scenario import SCENARIOS

__all__ = ["SCENARIOS", "TABLES"]

TABLES = (responses, uploads, continues, calls, losses, together, runs, decoding, undecodable)
