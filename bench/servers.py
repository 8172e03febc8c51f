"""Servers for the measurements, each a process of its own on the server's core."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import HERE, SERVER_CORE, find_httpio, pin
from wires import END_OF_HEAD, WIRES

HOST = "127.0.0.1"
NGINX_CONF = """\
daemon off;
master_process off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    default_type application/octet-stream;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
    uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
    server {{ listen {host}:{port}; location / {{ root {folder}; try_files /object =404; }} }}
}}
"""


@contextmanager
def canned(wire: str) -> Iterator[int]:
    """Run `canned.py` for the response named `wire`; the value is its port."""
    process = subprocess.Popen([sys.executable, str(HERE / "canned.py"), wire],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        # The line lets it start its threads, which inherit the core that the process has by then.
        pin(process.pid, SERVER_CORE)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def nginx_program() -> str | None:
    """Where nginx is, or None."""
    return shutil.which("nginx", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")


@contextmanager
def nginx() -> Iterator[int]:
    """Run nginx (one process, `tcp_nopush on`) with 1 KiB at every target; the value is its port."""
    program = nginx_program()
    if program is None:
        raise FileNotFoundError("nginx is not installed")
    with tempfile.TemporaryDirectory(prefix="bench-nginx-") as name:
        folder = Path(name)
        with socket.create_server((HOST, 0)) as probe:
            port = probe.getsockname()[1]
        (folder / "object").write_bytes(WIRES["8 fields"]().piece)
        (folder / "conf").write_text(NGINX_CONF.format(folder=folder, host=HOST, port=port))
        process = subprocess.Popen([program, "-p", name, "-c", f"{name}/conf", "-e", f"{name}/error.log"])
        try:
            pin(process.pid, SERVER_CORE)
            wait_for(port, process)
            yield port
        finally:
            process.kill()
            process.wait()


def wait_for(port: int, process: subprocess.Popen[bytes], seconds: float = 10.0) -> None:
    """Return once `port` accepts connections; RuntimeError when the process has ended or the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection((HOST, port), timeout=seconds).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.01)
    raise RuntimeError(f"the server did not start on port {port}")


def request_bytes(port: int, target: str) -> bytes:
    """What httpio sends for a GET of `target` at `port`, recorded from it; without httpio, made by hand."""
    try:
        find_httpio()
        from httpio import HTTPConnection
    except ImportError:
        return f"GET {target} HTTP/1.1\r\nHost: {HOST}:{port}\r\nAccept-Encoding: identity\r\n\r\n".encode()
    with socket.create_server((HOST, 0)) as listener:
        recorder = listener.getsockname()[1]
        conn = HTTPConnection(HOST, recorder, timeout=10)
        conn.send_request("GET", target)
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(10)
            data = b""
            while END_OF_HEAD not in data and (more := connection.recv(65536)):
                data += more
        conn.close()
    return data.replace(b"%s:%d" % (HOST.encode(), recorder), b"%s:%d" % (HOST.encode(), port))
