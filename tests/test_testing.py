"""The embedded server, seen by raw sockets and http.client, and its Conversation without sockets."""

import ast
import http.client
import json
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import pytest
import trustme

import httpio.testing
from httpio.testing import Faults, Server, Stats, object_bytes
from httpio.testing.conversation import Conversation
from httpio.testing.objects import PERIOD, object_pieces
from httpio.testing.requests import MAX_HEAD

SIZES = (0, 1, 5, 31, 32, 1024, 65519, 65520, 65536, 65537, 200_000)
ALLOW = {"Server", "Content-Type"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def get(target: str, *fields: str, method: str = "GET", content: bytes = b"") -> bytes:
    return "\r\n".join((f"{method} {target} HTTP/1.1", "Host: a", *fields, "", "")).encode() + content


def connect(server: Server) -> socket.socket:
    return socket.create_connection((server.host, server.port), timeout=20)


def read_response(stream: BinaryIO, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """A small reader, as strict as the tests need it. Raises EOFError at the end."""
    first = stream.readline()
    if not first:
        raise EOFError
    status = int(first.split(b" ", 2)[1])
    fields = {}
    while (line := stream.readline()) != b"\r\n":
        assert line.endswith(b"\r\n")
        name, _, value = line.decode().strip().partition(": ")
        assert name not in fields
        fields[name] = value
    if method == "HEAD" or status < 200 or status in (204, 304):
        return status, fields, b""
    if "Content-Length" in fields:
        content = stream.read(int(fields["Content-Length"]))
        assert len(content) == int(fields["Content-Length"])
        return status, fields, content
    chunks = []
    while size := int(stream.readline(), 16):
        chunks.append(stream.read(size))
        assert stream.readline() == b"\r\n"
    assert stream.readline() == b"\r\n"
    return status, fields, b"".join(chunks)


def environment() -> dict[str, str]:
    """The environment of a child that is to find the same httpio."""
    return {**os.environ, "PYTHONPATH": str(Path(httpio.testing.__file__).parents[2])}


def exchange(server: Server, wire: bytes) -> bytes:
    """Send `wire`, and return everything that comes until the server closes."""
    with connect(server) as sock:
        sock.sendall(wire)
        with sock.makefile("rb") as stream:
            return stream.read()


def converse(wire: bytes, *cuts: int, faults: Faults | None = None) -> bytes:
    """Give `wire` to a conversation, cut at these places, and return what it would send."""
    conversation = Conversation(faults or Faults(), Stats())
    sent = []
    for start, end in zip((0, *cuts), (*cuts, len(wire)), strict=True):
        conversation.receive(wire[start:end])
        for step in conversation.steps:
            if step is None:
                break
            assert isinstance(step, bytes)
            sent.append(step)
    return b"".join(sent)


# Objects


@pytest.mark.parametrize("size", SIZES)
def test_an_object_has_its_size_and_its_own_first_bytes(size: int) -> None:
    objects = [object_bytes(number, size) for number in range(1000, 1500)]
    assert {len(each) for each in objects} == {size}
    assert len(set(objects)) == min(500, 10**size)
    assert all(size == 0 or a[0] != b[0] for a, b in pairwise(objects))


@pytest.mark.parametrize("number", [0, 7, 65521, 10**18 - 1])
def test_pieces_make_the_object(number: int) -> None:
    whole = object_bytes(number, 4 * PERIOD)
    for size in (*SIZES, PERIOD + 19, 3 * PERIOD + 2):
        assert object_bytes(number, size) == b"".join(object_pieces(number, size)) == whole[:size]


def test_a_lost_piece_of_a_large_object_is_seen() -> None:
    content = object_bytes(3, 1 << 20)
    pieces = [content[at : at + 65536] for at in range(0, len(content), 65536)]
    assert len(set(pieces)) == len(pieces)


@pytest.mark.parametrize(("number", "size"), [(-1, 5), (5, -1)])
def test_a_negative_object_is_refused(number: int, size: int) -> None:
    with pytest.raises(ValueError, match="not negative"):
        object_bytes(number, size)


# One request after the other


@pytest.mark.parametrize("query", ["", "&chunked=1", "&chunked=1&chunk=1000", "&status=404"])
def test_objects_on_one_connection(server: Server, query: str) -> None:
    before = server.stats()
    with closing(http.client.HTTPConnection(server.host, server.port, timeout=20)) as client:
        for number, size in enumerate(SIZES):
            client.request("GET", f"/objects/{number}?size={size}{query}")
            response = client.getresponse()
            assert response.read() == object_bytes(number, size)
            assert response.status == (404 if "404" in query else 200)
            assert (response.getheader("Content-Length") is None) == ("chunked" in query)
        client.request("GET", "/objects/12")
        assert client.getresponse().read() == object_bytes(12, 1024)
    after = server.stats()
    assert after.connections - before.connections == 1
    assert after.requests - before.requests == after.responses - before.responses == len(SIZES) + 1


def test_chunks_have_the_size_asked_for() -> None:
    sent = converse(get("/objects/5?size=25&chunked=1&chunk=10"))
    content = object_bytes(5, 25)
    chunks = b"a\r\n%b\r\na\r\n%b\r\n5\r\n%b\r\n0\r\n\r\n" % (content[:10], content[10:20], content[20:])
    assert sent.partition(b"\r\n\r\n")[2] == chunks
    assert b"Content-Length" not in sent


@pytest.mark.parametrize(
    ("wire", "status", "lines"),
    [
        (get("/objects/1?size=77", method="HEAD"), 200, {"Content-Length: 77"}),
        (get("/objects/1?size=77&chunked=1", method="HEAD"), 200, {"Transfer-Encoding: chunked"}),
        (get("/objects/1?size=77&status=204"), 204, set()),
        (get("/objects/1?size=77&status=304"), 304, {"Content-Length: 77"}),
        (get("/objects/1?size=77&status=205"), 205, {"Content-Length: 0"}),
    ],
)
def test_answers_without_content(wire: bytes, status: int, lines: set[str]) -> None:
    head, end, content = converse(wire).partition(b"\r\n\r\n")
    first, *fields = head.decode().split("\r\n")
    assert (end, content) == (b"\r\n\r\n", b"")
    assert first.startswith(f"HTTP/1.1 {status} ")
    assert {line for line in fields if line.split(":")[0] not in ALLOW} == lines


def test_interim_responses_come_first() -> None:
    answers = converse(get("/objects/1?interim=2")).split(b"HTTP/1.1 ")
    assert [each[:3] for each in answers] == [b"", b"103", b"103", b"200"]


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/", 404),
        ("/objects/", 404),
        ("/objects/x", 404),
        ("/objects/1/2", 404),
        ("/objects/" + 19 * "1", 404),
        ("/objects/1?size=-1", 400),
        ("/objects/1?size=", 400),
        ("/objects/1?size=1&size=1", 400),
        ("/objects/1?colour=1", 400),
        ("/objects/1?status=199", 400),
        ("/objects/1?delay=nan", 400),
        ("/objects/1?chunk=0", 400),
    ],
)
def test_a_wrong_address_is_an_answer_and_no_more(target: str, status: int) -> None:
    answers = converse(get(target, "Content-Length: 3", content=b"abc") + get("/objects/8")).split(b"HTTP/1.1 ")
    assert answers[1].startswith(b"%d " % status)
    assert answers[2].endswith(object_bytes(8, 1024))


def test_a_wrong_method_is_an_answer_and_no_more() -> None:
    answers = converse(get("/objects/1", method="DELETE") + get("/stats", method="PUT") + get("/objects/8"))
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"405", b"405", b"200"]
    assert answers.count(b"Allow: GET, HEAD, PUT, POST\r\n") == 2


def test_absolute_form_and_one_empty_line_before_a_request() -> None:
    wire = get("http://a:80/objects/3?size=50") + b"\r\n" + get("/objects/4?size=50")
    assert [each[-50:] for each in converse(wire).split(b"HTTP/1.1 ")[1:]] == [
        object_bytes(3, 50),
        object_bytes(4, 50),
    ]


def test_a_delayed_answer_holds_up_its_connection_only(server: Server) -> None:
    with connect(server) as slow, connect(server) as quick:
        slow.sendall(get("/objects/1?delay=60"))
        quick.sendall(get("/objects/2?delay=0.01") + get("/objects/3"))
        with quick.makefile("rb") as stream:
            assert read_response(stream)[2] == object_bytes(2, 1024)
            assert read_response(stream)[2] == object_bytes(3, 1024)
        assert select.select([slow], [], [], 0)[0] == []


# Pipelining


def mixed(count: int) -> tuple[bytes, list[tuple[str, int, bytes]]]:
    """A pipeline of all sorts: its bytes, and for each request method, status and content expected."""
    kinds = [("GET", "", 200)] * 4 + [
        ("GET", "&chunked=1&chunk=700", 200),
        ("HEAD", "", 200),
        ("GET", "&status=204", 204),
        ("GET", "&status=304", 304),
        ("GET", "&status=503", 503),
    ]
    wire, expected = [], []
    for number in range(count):
        method, query, status = kinds[number * number % 31 % len(kinds)]
        size = number * 7919 % 3000
        wire.append(get(f"/objects/{number}?size={size}{query}", method=method))
        bodiless = method == "HEAD" or status in (204, 304)
        expected.append((method, status, b"" if bodiless else object_bytes(number, size)))
    return b"".join(wire), expected


def test_a_mixed_pipeline_is_answered_in_order(server: Server) -> None:
    wire, expected = mixed(3000)
    before = server.stats()
    with connect(server) as sock, sock.makefile("rb") as stream:
        sender = threading.Thread(target=sock.sendall, args=(wire,))
        sender.start()
        for method, status, content in expected:
            answer = read_response(stream, method)
            assert (answer[0], answer[2]) == (status, content)
        sender.join()
    after = server.stats()
    assert after.requests - before.requests == after.responses - before.responses == 3000
    assert after.connections - before.connections == 1


def test_the_cuts_of_the_input_do_not_matter() -> None:
    wire = mixed(12)[0]
    wire += get("/objects/1", "Content-Length: 5", method="PUT", content=b"hello")
    chunks = b"3;x=y\r\nabc\r\n1\r\n\r\r\n0\r\nT: 1\r\n\r\n"
    wire += get("/objects/2", "Transfer-Encoding: chunked", method="POST", content=chunks)
    wire += get("/objects/3", "Accept: */*") + get("/objects/4", "Accept: */*")
    wire += get("/objects/05?size=40", "Accept: */*")
    whole = converse(wire)
    assert whole.count(b"HTTP/1.1 ") == 17
    assert whole.endswith(object_bytes(5, 40))
    assert converse(wire, *range(1, len(wire))) == whole
    for cut in range(1, len(wire)):
        assert converse(wire, cut) == whole


def test_a_head_that_differs_is_read_anew() -> None:
    wire = get("/objects/1") + get("/objects/2") + b"GET /objects/3 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"
    answers = converse(wire + get("/objects/4")).split(b"HTTP/1.1 ")
    assert [each[:3] for each in answers] == [b"", b"200", b"200", b"400"]


def test_one_send_for_a_batch() -> None:
    conversation = Conversation(Faults(), Stats())
    conversation.receive(b"".join(get(f"/objects/{number}") for number in range(1, 66)))
    sizes = [len(step) for step in iter(conversation.steps.__next__, None) if isinstance(step, bytes)]
    assert len(sizes) == 2  # the first request is read in full, the others on the fast path
    assert sizes[1] == 64 * sizes[0]


@pytest.mark.parametrize("query", ["size=999999999999999999", "size=60000", "size=60000&chunked=1"])
def test_output_is_made_only_as_it_is_taken(query: str) -> None:
    conversation = Conversation(Faults(), Stats())
    conversation.receive(get(f"/objects/1?{query}") * 1000)
    for _, step in zip(range(50), conversation.steps, strict=False):
        assert isinstance(step, bytes)
        assert len(step) < 1 << 20


def test_a_client_that_does_not_read_is_not_read_from(server: Server) -> None:
    wire = get("/objects/1?size=60000") * 500
    with connect(server) as sock:
        sock.setblocking(False)
        sent = 0
        while sent < 64 << 20 and select.select([], [sock], [], 2)[1]:
            sent += sock.send(wire)
    assert sent < 64 << 20
    with connect(server) as sock, sock.makefile("rb") as stream:
        sock.sendall(get("/objects/1"))
        assert read_response(stream)[2] == object_bytes(1, 1024)


# Requests with content


def test_uploads_are_digested(server: Server) -> None:
    before = server.stats()
    pieces = [object_bytes(1, 100_000), b"", object_bytes(2, 3)]
    whole = b"".join(pieces)
    with closing(http.client.HTTPConnection(server.host, server.port, timeout=20)) as client:
        for method in ("PUT", "POST"):
            client.request(method, "/objects/1", whole)
            assert client.getresponse().read().decode() == sha256(whole).hexdigest()
            client.request(method, "/objects/1", iter(pieces), {"Transfer-Encoding": "chunked"}, encode_chunked=True)
            assert client.getresponse().read().decode() == sha256(whole).hexdigest()
    assert server.stats().content - before.content == 4 * len(whole)


@pytest.mark.parametrize("framing", ["Content-Length: 5", "Transfer-Encoding: chunked"])
def test_expect_continue(server: Server, framing: str) -> None:
    with connect(server) as sock, sock.makefile("rb") as stream:
        sock.sendall(get("/objects/1", framing, "Expect: 100-continue", method="PUT"))
        assert read_response(stream)[0] == 100
        sock.sendall(b"hello" if "5" in framing else b"5\r\nhello\r\n0\r\n\r\n")
        assert read_response(stream)[2].decode() == sha256(b"hello").hexdigest()


def test_expect_continue_is_not_answered_when_the_content_is_here() -> None:
    wire = get("/objects/1", "Content-Length: 5", "Expect: 100-continue", method="PUT", content=b"hello")
    assert converse(wire).startswith(b"HTTP/1.1 200 ")


def test_expect_continue_for_nothing_is_declined_with_a_close(server: Server) -> None:
    sent = exchange(server, get("/nothing", "Content-Length: 5", "Expect: 100-continue", method="PUT"))
    assert sent.startswith(b"HTTP/1.1 404 ")
    assert b"\r\nConnection: close\r\n" in sent


# The end of a connection, and malformed requests


@pytest.mark.parametrize(
    ("wire", "says_close"),
    [
        (get("/objects/1", "Connection: close"), True),
        (get("/objects/1", "Connection: x, Close"), True),
        (b"GET /objects/1 HTTP/1.0\r\n\r\n", True),
        (b"GET /objects/1?chunked=1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
    ],
)
def test_the_last_request_of_a_connection(server: Server, wire: bytes, says_close: bool) -> None:
    head, _, content = exchange(server, wire + get("/objects/2")).partition(b"\r\n\r\n")
    assert (b"\r\nConnection: close" in head) == says_close
    assert content == object_bytes(1, 1024)


MALFORMED = [
    (b"GET /objects/1\r\n\r\n", 400),
    (b"GET  /objects/1 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /objects/1 HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
    (b"G@T /objects/1 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /objects/\xe9 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /objects/1 HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    (b"GET /objects/1 HTTP/1.1\r\n\r\n", 400),
    (b"GET /objects/1 HTTP/1.1\nHost: a\n\n", 400),
    (b"\r\n\r\nGET /objects/1 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (get("/objects/1", "Host: b"), 400),
    (get("/objects/1", "X : 1"), 400),
    (get("/objects/1", "X: 1", " folded"), 400),
    (get("/objects/1", "X: a\x00b"), 400),
    (get("/objects/1", "X: a\rb"), 400),
    (get("/objects/1", "Nothing"), 400),
    (get("/objects/1", "Content-Length: 1", "Content-Length: 1"), 400),
    (get("/objects/1", "Content-Length: +1"), 400),
    (get("/objects/1", "Content-Length: 1, 1"), 400),
    (get("/objects/1", "Content-Length:"), 400),
    (get("/objects/1", "Content-Length: 3", "Transfer-Encoding: chunked"), 400),
    (get("/objects/1", "Transfer-Encoding: gzip, chunked"), 501),
    (b"PUT /objects/1 HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    (get("/objects/1", "Expect: more"), 417),
    (get("/objects/1", "Transfer-Encoding: chunked", method="PUT", content=b"0x1\r\na\r\n0\r\n\r\n"), 400),
    (get("/objects/1", "Transfer-Encoding: chunked", method="PUT", content=b"1\r\nab\r\n0\r\n\r\n"), 400),
    (get("/objects/1", "Transfer-Encoding: chunked", method="PUT", content=5000 * b"1"), 400),
    (b"GET /objects/1 HTTP/1.1\r\nHost: a\r\nX: " + MAX_HEAD * b"x", 431),
]


@pytest.mark.parametrize(("wire", "status"), MALFORMED)
def test_a_malformed_request_gets_an_error_and_a_close(server: Server, wire: bytes, status: int) -> None:
    before = server.stats()
    sent = exchange(server, get("/objects/7") + wire)
    good, _, bad = sent.rpartition(b"HTTP/1.1 ")
    assert good.endswith(object_bytes(7, 1024))
    assert bad.startswith(b"%d " % status)
    assert b"\r\nConnection: close\r\n" in bad
    assert server.stats().refused - before.refused == 1


# Faults


@pytest.mark.parametrize("announce", [False, True])
@pytest.mark.parametrize("close_after", [1, 10])
def test_close_after_some_responses(close_after: int, announce: bool) -> None:
    with Server(faults=Faults(close_after=close_after, announce=announce)) as server:
        sent = exchange(server, b"".join(get(f"/objects/{number}") for number in range(1000)))
        stats = server.stats()
    answers = sent.split(b"HTTP/1.1 ")[1:]
    assert [each[-1024:] for each in answers] == [object_bytes(number, 1024) for number in range(close_after)]
    says = [b"Connection: close" in each for each in answers]
    assert says == [False] * (close_after - 1) + [announce]
    assert (stats.connections, stats.requests, stats.responses) == (1, close_after, close_after)


def test_only_the_first_of_some_pipelined_requests_is_answered() -> None:
    with Server(faults=Faults(answer_first_of=3)) as server:
        with connect(server) as sock, sock.makefile("rb") as stream:
            sock.sendall(b"".join(get(f"/objects/{number}") for number in range(8)))
            for number in (0, 3, 6):
                assert read_response(stream)[2] == object_bytes(number, 1024)
            for number in (20, 21, 22):
                sock.sendall(get(f"/objects/{number}"))
                assert read_response(stream)[2] == object_bytes(number, 1024)
        stats = server.stats()
    assert (stats.connections, stats.requests, stats.responses, stats.dropped) == (1, 11, 6, 5)


def test_a_dropped_upload_does_not_shift_what_follows() -> None:
    upload = get("/objects/2", "Content-Length: 18", method="PUT", content=b"GET / HTTP/1.1\r\n\r\n")
    sent = converse(get("/objects/1") + upload + get("/objects/3"), faults=Faults(answer_first_of=2))
    assert [each[-1024:] for each in sent.split(b"HTTP/1.1 ")[1:]] == [
        object_bytes(1, 1024),
        object_bytes(3, 1024),
    ]


def test_a_negative_fault_is_refused() -> None:
    with pytest.raises(ValueError, match="close_after"):
        Faults(close_after=-1)


# The process


def test_stats_over_http_and_by_the_handle() -> None:
    with Server() as server, connect(server) as sock, sock.makefile("rb") as stream:
        sock.sendall(get("/objects/1") + get("/stats") + get("/missing"))
        read_response(stream)
        seen = json.loads(read_response(stream)[2])
        assert Stats(**seen) == Stats(connections=1, requests=1, responses=1)
        assert read_response(stream)[0] == 404
        assert server.stats() == Stats(connections=1, requests=2, responses=2)


def test_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    certificate.private_key_pem.write_to_path(key)
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with Server(tls=(chain, key)) as server:
        assert server.url == f"https://127.0.0.1:{server.port}"
        with closing(http.client.HTTPSConnection(server.host, server.port, timeout=20, context=context)) as client:
            for number, size in enumerate((*SIZES, 5_000_000)):
                client.request("GET", f"/objects/{number}?size={size}")
                assert client.getresponse().read() == object_bytes(number, size)
            client.request("PUT", "/objects/1", bytes(1 << 20))
            assert client.getresponse().read().decode() == sha256(bytes(1 << 20)).hexdigest()
        with suppress(ConnectionResetError):
            assert b"HTTP" not in exchange(server, get("/objects/1"))
        with context.wrap_socket(connect(server), server_hostname="127.0.0.1", suppress_ragged_eofs=False) as sock:
            wire, expected = mixed(300)
            sock.sendall(wire + get("/objects/1", "Connection: close"))
            stream = sock.makefile("rb")
            for method, status, content in expected:
                answer = read_response(stream, method)
                assert (answer[0], answer[2]) == (status, content)
            assert read_response(stream)[2] == object_bytes(1, 1024)
            assert stream.read() == b""  # an end without close_notify would be an SSLEOFError here
        assert server.stats().requests == len(SIZES) + 3 + 300


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")
def test_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with Server(unix_socket=path) as server:
        assert (server.url, server.port) == ("http://localhost", 0)
        with socket.socket(socket.AF_UNIX) as sock, sock.makefile("rb") as stream:
            sock.connect(os.fspath(path))
            sock.sendall(get("/objects/1"))
            assert read_response(stream)[2] == object_bytes(1, 1024)
    assert not path.exists()


def test_the_handle_over_its_life() -> None:
    server = Server()
    server.stop()
    with pytest.raises(ValueError, match="not running"):
        server.stats()
    with server:
        assert server.url == f"http://127.0.0.1:{server.port}"
        with pytest.raises(ValueError, match="is running"):
            server.start()
        address = (server.host, server.port)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=20).close()


def test_a_server_that_cannot_start_is_an_error(tmp_path: Path, server: Server) -> None:
    with pytest.raises(TypeError, match="tls"):
        Server(tls=ssl.create_default_context())  # type: ignore[arg-type]
    for bad in (Server(tls=(tmp_path / "none", tmp_path / "none")), Server(port=server.port)):
        with pytest.raises(OSError, match="has ended"):
            bad.start()
        with pytest.raises(ValueError, match="not running"):
            bad.stats()


def test_a_killed_server_is_an_error() -> None:
    with Server() as server:
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(OSError, match=r"has ended|Broken pipe"):
            server.stats()


def test_the_server_ends_with_its_parent() -> None:
    code = "import httpio.testing as t; s = t.Server(); s.start(); print(s.port, flush=True); input()"
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    with parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), timeout=20) as sock, sock.makefile("rb") as stream:
            sock.sendall(get("/objects/1"))
            read_response(stream)
            parent.kill()
            assert stream.read() == b""


def test_by_hand() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "httpio.testing", "--port", "0", "--close-after", "1", "--announce"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    with process:
        assert process.stdout is not None
        where = json.loads(process.stdout.readline())
        assert where["pid"] == process.pid
        with socket.create_connection((where["host"], where["port"]), timeout=20) as sock:
            sock.sendall(get("/objects/1"))
            sent = sock.makefile("rb").read()
        assert b"\r\nConnection: close\r\n" in sent
        process.terminate()
    assert process.returncode == 0


def test_the_server_shares_no_code_with_the_client() -> None:
    for file in Path(httpio.testing.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0
                names = [f"{node.module}"]
            assert [name for name in names if f"{name}.".startswith("httpio.")] == [
                name for name in names if f"{name}.".startswith("httpio.testing.")
            ]
