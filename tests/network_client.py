"""Connects through the network of the namespace in which it runs; exits with 0 where all is as it should be.

Arguments: the names of functions below, which are called in turn.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from httpio import (
    AsyncHTTPConnection,
    ConnectionTimedOut,
    DNSUnavailable,
    HostnameNotResolvable,
    HTTPConnection,
    fetch,
    is_temp_network_error,
)
from servers.names import REFUSED, SERVFAIL, SILENT, NameServer
from servers.scripted import Scripted, answers

SIX, OTHER_SIX, FOUR, OTHER_FOUR = "2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2"
"""Dead addresses: what is sent there is swallowed."""
HERE = "127.0.0.1"


def get(host: str, port: int, **options: Any) -> str:
    """The address that has answered."""
    with HTTPConnection(host, port, timeout=20, **options) as conn:
        conn.send_request("GET", "/a")
        assert conn.read_response().status == 200
        assert conn.readall() == b"/a"
        return str(conn.peername[0])


def failure(host: str, port: int = 80, limit: float | None = 20, **options: Any) -> Exception:
    """What connecting raises; nothing is left behind."""
    before = len(os.listdir("/proc/self/fd"))
    try:
        HTTPConnection(host, port, connect_timeout=limit, **options).connect()
    except Exception as error:
        for thread in threading.enumerate():
            if thread.name == "httpio name look-up" and not isinstance(error, ConnectionTimedOut):
                thread.join(20)
        assert len(os.listdir("/proc/self/fd")) <= before + 2  # a look-up that goes on has two
        return error
    raise AssertionError("it has connected")


def command(line: str) -> None:
    subprocess.run(line.split(), check=True, timeout=20)


def kernel(name: str, value: str) -> None:
    """Set one of the kernel's options for this namespace."""
    Path("/proc/sys/net", name).write_text(value)


# -- addresses --


def dead_six() -> None:
    """A dead IPv6 address costs at most 300 ms: less than 50 ms beside the delay of RFC 8305, by the best of several
    runs, each beside one of a name that has no dead address, and a wait of that delay by the same clock."""
    costs: list[float] = []
    with NameServer({"both.test": [SIX, HERE], "four.test": [HERE]}), Scripted(answers) as server:
        while len(costs) < 3 or (min(costs) > 0.05 and len(costs) < 20):  # others may use the machine
            times = []
            for name, wait in (("both.test", 0.0), ("four.test", 0.25)):
                began = monotonic()
                assert get(name, server.port) == HERE
                select.select([], [], [], wait)
                times.append(monotonic() - began)
            assert times[0] >= 0.25
            costs.append(times[0] - times[1])
        assert socket.getaddrinfo("both.test", 80)[0][0] == socket.AF_INET6  # which is why it is tried first
    assert min(costs) <= 0.05, costs


def dead_both() -> None:
    """The limit holds, and all that was tried is named."""
    with NameServer({"dead.test": [SIX, OTHER_SIX, FOUR, OTHER_FOUR]}):
        began = monotonic()
        error = failure("dead.test", limit=3)
        assert monotonic() - began >= 3
    assert isinstance(error, ConnectionTimedOut)
    assert error.where == "connecting"
    assert [address for address in (SIX, OTHER_SIX, FOUR, OTHER_FOUR) if address not in str(error)] == []


def no_way() -> None:
    """Where the kernel knows that there is no way, the next address is tried at once."""
    kinds = {"unreachable": "2001:db8:1::1", "prohibit": "2001:db8:2::1", "blackhole": "2001:db8:3::1"}
    for kind, address in kinds.items():
        command(f"ip route add {kind} {address}/128")
    zone: dict[str, Any] = {f"{kind}.test": [address] for kind, address in kinds.items()}
    zone["all.test"] = [*kinds.values(), "2001:db8:4::1", HERE]
    with NameServer(zone), Scripted(answers) as server:
        errors = {kind: failure(f"{kind}.test", server.port) for kind in kinds}
        times = []
        for _ in range(5):
            began = monotonic()
            assert get("all.test", server.port) == HERE
            times.append(monotonic() - began)
        assert min(times) < 0.25
    numbers = {kind: error.errno for kind, error in errors.items() if isinstance(error, OSError)}
    assert numbers == {"unreachable": errno.EHOSTUNREACH, "prohibit": errno.EACCES, "blackhole": errno.EINVAL}
    assert is_temp_network_error(errors["unreachable"])


def no_neighbour() -> None:
    """The kernel learns later that nobody is there: the next address need not wait, and its error is told."""
    for version in ("ipv4", "ipv6"):
        kernel(f"{version}/neigh/cable/retrans_time_ms", "20")
        for kind in ("mcast", "ucast", "app"):
            kernel(f"{version}/neigh/cable/{kind}_solicit", "1" if kind == "mcast" else "0")
    with NameServer({"gone.test": ["2001:db8::77", "192.0.2.77"], "half.test": ["2001:db8::78", HERE]}):
        error = failure("gone.test")
        with Scripted(answers) as server:
            assert get("half.test", server.port) == HERE
    assert isinstance(error, OSError)
    assert error.errno == errno.EHOSTUNREACH, error
    assert "2001:db8::77" in str(error)
    assert "192.0.2.77" in str(error)
    assert is_temp_network_error(error)


def no_ipv6() -> None:
    """The name has addresses that this system cannot use."""
    kernel("ipv6/conf/all/disable_ipv6", "1")
    with NameServer({"both.test": [SIX, HERE], "six.test": [SIX]}), Scripted(answers) as server:
        assert get("both.test", server.port) == HERE
        error = failure("six.test", server.port)
    assert isinstance(error, OSError)
    assert error.errno in (errno.EADDRNOTAVAIL, errno.ENETUNREACH), error


def no_network() -> None:
    """Nothing leads out of this machine."""
    command("ip link set cable down")
    for host in (FOUR, SIX):
        error = failure(host)
        assert isinstance(error, OSError)
        assert error.errno == errno.ENETUNREACH, error
        assert is_temp_network_error(error)


@contextmanager
def full_queue(address: str) -> Iterator[tuple[socket.socket, list[socket.socket]]]:
    """A listener that drops connects, and those that it has not accepted."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), backlog=0, family=family) as listener:
        waiting = [socket.socket(family) for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield listener, waiting
        for sock in waiting:
            sock.close()


def late_answer() -> None:
    """A peer takes a second to answer, since the first packet was dropped: that is no failure."""
    with full_queue(HERE) as (listener, waiting), NameServer({"busy.test": [HERE, FOUR]}):

        def accept() -> None:
            for sock in waiting:
                sock.close()
            while select.select([listener], [], [], 0)[0]:
                listener.accept()[0].close()

        threading.Timer(0.5, accept).start()
        with HTTPConnection("busy.test", listener.getsockname()[1], connect_timeout=20) as conn:
            conn.connect()
            assert conn.peername[0] == HERE


def full_queues() -> None:
    """F38: where a listener's queue is full, another address is used."""
    with full_queue("::1") as (full, _), NameServer({"full.test": ["::1", HERE]}):
        port = full.getsockname()[1]
        with socket.create_server((HERE, port)) as listener, HTTPConnection("full.test", port) as conn:
            conn.connect()
            assert conn.peername[0] == HERE
            listener.accept()[0].close()


def the_kernels_limit() -> None:
    """Its own ETIMEDOUT, at the last address."""
    kernel("ipv4/tcp_syn_retries", "1")
    with NameServer({"dead.test": [SIX, FOUR]}):
        error = failure("dead.test", limit=None)
    assert isinstance(error, ConnectionTimedOut), error
    assert isinstance(error.__cause__, OSError)
    assert error.__cause__.errno == errno.ETIMEDOUT
    assert SIX in str(error)
    assert FOUR in str(error)


def no_ports() -> None:
    """F38: all ports of this side are in use."""
    kernel("ipv4/ip_local_port_range", "40000 40003")
    reset = struct.pack("ii", 1, 0)  # with which a port is free as soon as it is closed
    with Scripted(answers) as server:
        taken = []
        error: Exception | None = None
        while error is None:
            try:
                sock = socket.create_connection((HERE, server.port))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                taken.append(sock)
            except OSError:
                server.accepted(len(taken))  # else its descriptors would come while those of the client are counted
                error = failure(HERE, server.port)
        [result] = fetch([f"{server.url}/a"], timeout=20)
        for met in (error, result.error):
            assert isinstance(met, OSError)
            assert met.errno == errno.EADDRNOTAVAIL, met
        for sock in taken:
            sock.close()
        assert get(HERE, server.port) == HERE


# -- names --


ZONE: dict[str, Any] = {
    "good.test": [HERE],
    "nodata.test": [],
    "servfail.test": SERVFAIL,
    "refused.test": REFUSED,
    "silent.test": SILENT,
}
ENDS: dict[str, type[Exception]] = {
    "unknown.test": HostnameNotResolvable,
    "nodata.test": HostnameNotResolvable,
    "servfail.test": DNSUnavailable,
    "refused.test": DNSUnavailable,
    "silent.test": DNSUnavailable,
}


def names_without_addresses() -> None:
    """NXDOMAIN, no data, SERVFAIL, a resolver that refuses, one that does not answer: by themselves, and in a fetch,
    where the objects of another name are not touched."""
    with NameServer(ZONE), Scripted(answers) as server:
        for name, kind in ENDS.items():
            error = failure(name)
            assert type(error) is kind, (name, error)
            assert isinstance(error.__cause__, socket.gaierror)
            assert is_temp_network_error(error) == (kind is DNSUnavailable)
        ends: Counter[str] = Counter()
        names = [*ENDS, "good.test"]
        for result in fetch(f"http://{name}:{server.port}/{n}" for n in range(10) for name in names):
            name = result.request.split("/")[2].partition(":")[0]
            assert result.ok if name == "good.test" else type(result.error) is ENDS[name], result
            ends[name] += 1
        assert ends == dict.fromkeys(names, 10)


def no_name_server() -> None:
    """Nobody listens there."""
    assert isinstance(failure("good.test"), DNSUnavailable)


def silent_name_server() -> None:
    """Nothing waits longer than it may: the program ends while the look-up goes on."""
    with NameServer(ZONE):
        error = failure("silent.test", limit=0.2)
        assert isinstance(error, ConnectionTimedOut)
        assert "looking up silent.test" in str(error)
        asyncio.run(in_a_loop())
    print("over")


async def in_a_loop() -> None:
    with Scripted(answers) as server:
        silent = asyncio.ensure_future(AsyncHTTPConnection("silent.test", connect_timeout=20).connect())
        async with AsyncHTTPConnection(HERE, server.port, timeout=20) as conn:
            for number in range(100):
                await conn.send_request("GET", f"/{number}")
                assert (await conn.read_response()).path == f"/{number}"
                await conn.discard()
        assert not silent.done()  # which takes a second at least
        silent.cancel()
        try:
            await silent
        except asyncio.CancelledError:
            return
        raise AssertionError("it was not cancelled")


def thousand_addresses() -> None:
    """The answer needs TCP. All but one refuse, and cost next to nothing."""
    addresses = [f"127.0.{number // 200}.{number % 200 + 2}" for number in range(999)]
    with NameServer({"many.test": [*addresses, HERE], "none.test": addresses}) as names, Scripted(answers) as server:
        assert get("many.test", server.port) == HERE
        error = failure("none.test", server.port)
        assert isinstance(error, ConnectionRefusedError)
        assert [address for address in addresses if address not in str(error)] == []
        assert set(names.asked) == {"many.test", "none.test"}


def changed_address() -> None:
    """A connection that replaces another asks anew."""
    zone = {"moved.test": [HERE]}
    with NameServer(zone), Scripted(answers) as server, socket.create_server(("127.0.0.2", server.port)) as other:
        with HTTPConnection("moved.test", server.port, timeout=20) as conn:
            conn.connect()
            assert conn.peername[0] == HERE
            zone["moved.test"] = ["127.0.0.2"]
            conn.close()
            conn.connect()
            assert conn.peername[0] == "127.0.0.2"
        other.accept()[0].close()


def silent_about_six() -> None:
    """The resolver never says whether there are IPv6 addresses: its limit is waited for, and then the other is used."""
    with NameServer({"good.test": [HERE]}, silent_types=[6]), Scripted(answers) as server:
        assert get("good.test", server.port, connect_timeout=20) == HERE


if __name__ == "__main__":
    for function in sys.argv[1:]:
        globals()[function]()
