"""Forks with a connection in its hands; exits with 0 where all is as it should be, in the child and in the parent.

Arguments: one of the functions below, a port on 127.0.0.1, and a file with the certificate authority (empty: plain
TCP).
"""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Callable

from httpio import BodyFollowing, ConnectionClosed, HTTPConnection, StateError

Child = Callable[[], None]


def fork(child: Child) -> None:
    """Run *child* in a process of its own, which exits as any other, and wait for it."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        child()
        sys.exit(0)
    assert os.waitpid(pid, 0) == (pid, 0)


def ask(conn: HTTPConnection, path: str) -> None:
    """A request and its answer."""
    conn.send_request("GET", path)
    assert conn.read_response().path == path
    assert conn.readall() == path.encode()


def lost(call: Callable[[], object], *paths: str) -> None:
    """The call raises ConnectionClosed, and names what was outstanding."""
    try:
        call()
    except ConnectionClosed as error:
        found = [fact.request.path for fact in error.outstanding]
    else:
        raise AssertionError("it does not raise")
    assert found == list(paths), found


def anew(conn: HTTPConnection) -> None:
    """The child's own connection."""
    ask(conn, "/release")
    ask(conn, "/child")
    assert conn.outstanding == ()


def untouched(conn: HTTPConnection) -> None:
    ask(conn, "/1")
    fork(lambda: None)


def idle(conn: HTTPConnection) -> None:
    ask(conn, "/1")

    def child() -> None:
        assert conn.peername is None
        anew(conn)
        conn.close()

    fork(child)


def outstanding(conn: HTTPConnection) -> None:
    for path in ("/1", "/2", "/held"):
        conn.send_request("GET", path)
    assert conn.read_response().path == "/1"
    conn.readall()

    def child() -> None:
        for _ in range(2):
            lost(conn.read_response, "/2", "/held")
        assert [request.path for request in conn.outstanding] == ["/2", "/held"]
        anew(conn)

    fork(child)
    for path in ("/2", "/held"):
        assert conn.read_response().path == path
        assert conn.readall() == path.encode()


def reading(conn: HTTPConnection) -> None:
    conn.send_request("GET", "/data")
    length = conn.read_response().length
    assert length is not None
    conn.read(10)

    def child() -> None:
        def read() -> None:
            while conn.read(1000):
                pass

        lost(read, "/data")
        lost(conn.readall, "/data")
        anew(conn)

    fork(child)
    assert len(conn.readall()) == length - 10


def writing(conn: HTTPConnection) -> None:
    conn.send_request("PUT", "/put", body=BodyFollowing(10))
    conn.write(b"01234")

    def child() -> None:
        lost(lambda: conn.write(b"56789"), "/put")
        lost(conn.read_response, "/put")
        anew(conn)

    fork(child)
    conn.write(b"56789")
    assert conn.read_response().path == "/put"
    assert conn.readall() == b"/put0123456789"


def piping(conn: HTTPConnection) -> None:
    paths = [f"/{number}" for number in range(100)]
    responses = conn.pipeline(paths, 10)
    assert next(responses).path == "/0"

    def child() -> None:
        answered = 1
        try:
            for _ in responses:  # what was here already may still come
                answered += 1
        except ConnectionClosed:
            assert answered < 100
        else:
            raise AssertionError("the pipeline goes on")

    fork(child)
    assert [response.path for response in responses] == paths[1:]


def left(conn: HTTPConnection) -> None:
    """The child leaves the block of the parent's connection, with a body half read and a request outstanding."""
    conn.send_request("GET", "/data")
    conn.send_request("GET", "/held")
    conn.read_response()

    def child() -> None:
        with conn:
            pass
        try:
            conn.read_response()
        except (ConnectionClosed, StateError):
            anew(conn)

    fork(child)
    conn.discard()
    assert conn.read_response().path == "/held"
    conn.discard()


def main(kind: str, port: str, ca: str) -> None:
    context = ssl.create_default_context(cafile=ca) if ca else None
    with HTTPConnection("127.0.0.1", int(port), context, timeout=20) as conn:
        globals()[kind](conn)
        ask(conn, "/last")


if __name__ == "__main__":
    main(*sys.argv[1:])
