"""Every scenario that can be told in http.client's words, through `httpio.client`: the outcome of the other faces."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.drop_in import play
from conformance.scenario import PLAIN
from conformance.tables import SCENARIOS
from conftest import Contexts

# The others ask for what http.client has no word for: requests sent ahead, steps, deadlines, decoding, trailers.
NAMES = """
a plain exchange; a body of no bytes; 204 has no body; 304 has no body whatever length it tells; a reason may be missing
chunks; no chunks but the last; a large body; a large body in small chunks; a body that the close ends; byte by byte
HTTP 1.0 is read to the close; HTTP 1.0 with a length; Connection close behind a whole body; readinto; discard
HEAD tells a length and has no body; a FIN without close_notify ends no body; a RST ends no body
a RST ends no body over TLS; repeated and odd fields; read gives no more than asked for
read of nothing of some and of all; write to a file; write to memory; a whole body stands whatever follows it
fields of the callers win; a CONNECT that is refused; no status line; HTTP 2; a bare CR; two lengths
a length and chunks; a negative length; a fold; a chunk of no size; a chunk that is too long; a coding that nobody knows
a body of bytes; a body of no bytes goes out; a bytearray; a memoryview; a body of one MiB; a file; a file in memory
an iterable; an iterable with empty pieces; an iterable of nothing; an iterable whose length is declared
"""
CASES = [(name, way) for name in NAMES.strip().replace("\n", "; ").split("; ") for way in SCENARIOS[name].over]


@pytest.mark.parametrize(("name", "way"), CASES)
def test_the_outcome_of_the_other_faces(name: str, way: str, secured: Contexts, tmp_path: Path) -> None:
    play(SCENARIOS[name], (None, None) if way == PLAIN else secured, tmp_path)
