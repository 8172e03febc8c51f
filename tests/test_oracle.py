"""The oracle agrees with the cases: else it could not be one."""

from __future__ import annotations

import pytest

import corpus
import oracle

# What is sent in the middle of something else is not a matter of framing.
TIMING = {"second_request_after_wire"}


@pytest.mark.parametrize("row", corpus.responses(), ids=lambda row: str(row["id"]))
def test_row(row: corpus.Row) -> None:
    methods = corpus.methods(row)
    if row.get("deliver") in TIMING:
        methods = methods[:1]
    clean = row.get("transport") != "tls-no-close-notify"
    answers = oracle.responses(corpus.wire(row), methods, eof=row["eof"], clean=clean)
    for wanted, answer in zip(corpus.results(row), answers, strict=row.get("deliver") not in TIMING):
        assert answer.verdict == wanted["expect"], answer.why
        if answer.verdict == "ok":
            assert answer.status == wanted["status"]
            assert corpus.is_body(wanted, answer.body)
    last = answers[-1]
    if "reuse" in row:
        assert last.reuse == row["reuse"]
    for name, value in row.get("headers", []):
        assert (name, value) in last.headers
    for name in row.get("headers_absent", []):
        assert not oracle.values(last.headers, name.lower())
    if "trailers" in row:
        assert last.trailers == [tuple(pair) for pair in row["trailers"]]
    if "tunnel" in row:
        assert last.tunnel == row["tunnel"].encode("latin-1")


def test_every_group_is_there() -> None:
    assert {row["group"] for row in corpus.responses()} == {
        "status-line", "field-lines", "content-length", "transfer-encoding", "chunked", "trailers", "interim",
        "no-body", "pipelining", "truncation", "limits",
    }  # fmt: skip
    assert len(corpus.responses()) == 263
