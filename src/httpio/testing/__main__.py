"""`python -m httpio.testing`: the server, by hand or under `httpio.testing.Server`."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import ssl
import sys
import threading
from dataclasses import asdict

from httpio.testing.faults import Faults
from httpio.testing.loop import Loop

_BACKLOG = 1024


def main() -> None:
    """Listen, say where in one line of JSON, and serve until stopped."""
    parser = argparse.ArgumentParser(prog="python -m httpio.testing", description="An HTTP/1.1 server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    parser.add_argument("--unix-socket", metavar="PATH", help="listen there instead")
    parser.add_argument("--certificate", metavar="FILE", help="speak TLS, with this certificate chain (PEM)")
    parser.add_argument("--key", metavar="FILE", help="the certificate's key (PEM)")
    parser.add_argument("--until-eof", action="store_true", help="end with stdin; answer its line 'stats'")
    Faults.add_options(parser)
    options = parser.parse_args()

    context = None
    if options.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate, options.key)
    listener = _listen(options.host, options.port, options.unix_socket)
    loop = Loop(listener, context, Faults.from_options(options))
    host, port = ("localhost", 0) if options.unix_socket else listener.getsockname()[:2]
    authority = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    url = f"{'https' if context else 'http'}://{authority}"
    if options.until_eof:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_obey, args=(loop, options.unix_socket), daemon=True).start()
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        print(json.dumps({"url": url, "host": host, "port": port, "pid": os.getpid()}), flush=True)
        loop.run()
    except KeyboardInterrupt:
        pass
    finally:
        _remove(options.unix_socket)


def _listen(host: str, port: int, path: str | None) -> socket.socket:
    if path is None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(_BACKLOG)
    return listener


def _obey(loop: Loop, path: str | None) -> None:
    """Answer the lines on standard input, and end the process with them: the parent has gone."""
    for line in sys.stdin:
        if line == "stats\n":
            print(json.dumps(asdict(loop.stats)), flush=True)
    _remove(path)
    os._exit(0)


def _remove(path: str | None) -> None:
    if path is not None:
        with contextlib.suppress(OSError):
            os.unlink(path)


if __name__ == "__main__":
    main()
