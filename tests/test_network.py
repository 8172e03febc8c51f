"""Connecting through a real network with real names: a namespace with dead addresses, and a name server in it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from namespaces import namespaces, run

__all__ = ["namespaces"]

PROGRAM = Path(__file__).with_name("network_client.py")

pytestmark = pytest.mark.usefixtures("namespaces")


@pytest.mark.parametrize(
    "function",
    [
        "dead_six",
        "no_way",
        "no_neighbour",
        "no_ipv6",
        "no_network",
        "full_queues",
        "no_ports",
        "no_name_server",
        "silent_name_server",
        "thousand_addresses",
        "changed_address",
    ],
)
def test_network(function: str, tmp_path: Path) -> None:
    run(PROGRAM, function, folder=tmp_path)


def test_what_takes_long(tmp_path: Path) -> None:
    """All at the same time, since they do no more than wait."""
    functions = ["dead_both", "late_answer", "the_kernels_limit", "names_without_addresses", "silent_about_six"]
    with ThreadPoolExecutor(len(functions)) as pool:
        running = {function: pool.submit(run, PROGRAM, function, folder=tmp_path / function) for function in functions}
    for function, future in running.items():
        print(function, future.result())
