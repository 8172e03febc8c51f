"""TLS: what a context is to hold, the handshake as a step, and sessions that are resumed."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import ssl
import traceback
from collections.abc import Callable
from time import monotonic
from typing import Any

from httpio.dial import Attempt
from httpio.exceptions import ConnectionClosed, ConnectionTimedOut, HTTPError, UnsupportedResponse
from httpio.transport import NestedTLSTransport, TLSTransport, Transport
from httpio.waiting import POLLIN, POLLOUT, Step

__all__ = ["Resumption", "check_context", "co_secure", "default_context", "load_certificate"]

log = logging.getLogger("httpio.dial")

PROTOCOL = "http/1.1"
"""The name of HTTP/1.1 for ALPN (RFC 7301 section 6)."""

_TLS_ENDS = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)


def default_context(
    cafile: str | os.PathLike[str] | None = None,
    certfile: str | os.PathLike[str] | None = None,
    keyfile: str | os.PathLike[str] | None = None,
    password: str | bytes | Callable[[], str | bytes] | None = None,
) -> ssl.SSLContext:
    """A context for a client that verifies its peer, as `ssl.create_default_context` makes it, with TLS 1.2 at least,
    ALPN ``http/1.1`` (RFC 7301), and no fallback to a certificate's common name (RFC 9110 section 4.3.4).

    *cafile*: certificate authorities to trust (PEM) in place of the system's. *certfile*, *keyfile*, *password*: the
    client's own certificate, as for `ssl.SSLContext.load_cert_chain`. Raises OSError, of which ssl.SSLError is one, for
    a file that cannot be read or used; ValueError for a key that has a password which is not given, or no certificate.
    """
    if keyfile is not None and certfile is None:
        raise ValueError("a keyfile goes with a certfile")
    _name_unreadable(cafile, certfile, keyfile)
    try:
        context = ssl.create_default_context(cafile=cafile)
    except ssl.SSLError as exc:
        raise _named(exc, cafile) from None
    context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
    if ssl.HAS_ALPN:
        context.set_alpn_protocols([PROTOCOL])
    if ssl.HAS_NEVER_CHECK_COMMON_NAME:
        context.hostname_checks_common_name = False
    if certfile is not None:
        load_certificate(context, certfile, keyfile, password)
    return context


def load_certificate(
    context: ssl.SSLContext,
    certfile: str | os.PathLike[str],
    keyfile: str | os.PathLike[str] | None,
    password: str | bytes | Callable[[], str | bytes] | None = None,
) -> None:
    """`ssl.SSLContext.load_cert_chain`; ValueError where the key has a password and none is given."""
    _name_unreadable(certfile, keyfile)
    try:
        context.load_cert_chain(certfile, keyfile, _no_password if password is None else password)
    except ssl.SSLError as exc:
        raise _named(exc, certfile, keyfile) from None


def _name_unreadable(*files: str | os.PathLike[str] | None) -> None:
    """OSError that says which file cannot be read, and why, as OpenSSL's do not."""
    for file in files:
        if file is not None and (os.path.isdir(file) or not os.access(file, os.R_OK)):
            open(file, "rb").close()


def _named(exc: ssl.SSLError, *files: str | os.PathLike[str] | None) -> ssl.SSLError:
    """The same error, which says of which files it is."""
    exc.strerror = f"{' and '.join(os.fsdecode(name) for name in files if name is not None)}: {exc.strerror}"
    exc.args = (exc.errno, exc.strerror)
    return exc


def _no_password() -> str:
    """In the place of OpenSSL's question on the terminal."""
    raise ValueError("the key has a password, and none is given")


def check_context(given: ssl.SSLContext | None) -> ssl.SSLContext | None:
    """What a caller passes as a context; TypeError for what cannot be one."""
    if given is not None and not hasattr(given, "wrap_socket"):
        raise TypeError("ssl_context must be an ssl.SSLContext or None, not " + type(given).__name__)
    return given


class Resumption:
    """What is kept of a connection's TLS for the connection that replaces it (RFC 8446 section 2.2).

    A resumed session is not verified anew. So it is offered only while the context asks for no other verification than
    when the session was made.
    """

    def __init__(self) -> None:
        self._session: ssl.SSLSession | None = None
        self._offered: ssl.SSLSession | None = None  # to the connection that is there
        self._verification: tuple[object, ...] = ()

    def keep(self, transport: Transport) -> None:
        """The connection is about to be closed: keep its session, if it has one."""
        session, offered = transport.session, self._offered
        cipher = transport.cipher()
        if session is None or cipher is None:
            return
        if cipher[1] == "TLSv1.3" and offered is not None and session.id == offered.id:
            return  # no new ticket came, and each is offered once (RFC 8446 appendix C.4)
        self._session = session

    def begin(self, context: ssl.SSLContext) -> ssl.SSLSession | None:
        """The session to offer in a handshake that begins now; None: none."""
        verification = (
            context.verify_mode,
            context.check_hostname,
            context.verify_flags,
            getattr(context, "hostname_checks_common_name", None),
            context.cert_store_stats()["crl"],
        )
        session, self._session = self._session, None
        self._offered = session if verification == self._verification else None
        self._verification = verification
        return self._offered


def co_secure(
    transport: Transport, context: ssl.SSLContext, host: str, attempt: Attempt, resumption: Resumption | None = None
) -> Step[Transport]:
    """TLS with *host* over *transport*, which is closed where that fails; returns the transport to use in its place.

    Raises ConnectionTimedOut, ConnectionClosed where the peer goes away or the attempt is aborted, UnsupportedResponse
    where it chooses another protocol than HTTP/1.1, and ssl's own errors as they are.
    """
    began = monotonic()
    secured = transport
    try:
        # SNI has a name without its final dot (RFC 6066 section 3), and an address without its zone.
        name = host.partition("%")[0].removesuffix(".")
        session = None if resumption is None else resumption.begin(context)
        secured, tls = _wrap(transport, context, name, session)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                mask = POLLIN
            except ssl.SSLWantWriteError:
                mask = POLLOUT
            else:
                break
            if isinstance(secured, NestedTLSTransport):
                mask = secured.shake()
                if not mask:
                    continue
            yield from attempt.co_wait(secured.socket, mask, f"shaking hands with {host}")
        if isinstance(secured, NestedTLSTransport):
            yield from _co_send_rest(secured, attempt, host)
        chosen = tls.selected_alpn_protocol()
        if chosen not in (None, PROTOCOL):
            raise UnsupportedResponse(f"the peer chose to speak {chosen} (ALPN), not {PROTOCOL}", where="connecting")
        attempt.check()
    except BaseException as exc:
        if isinstance(secured, NestedTLSTransport):
            with contextlib.suppress(OSError):
                secured.push()  # the alert that says why
        secured.drop()
        transport.drop()
        _close_lost(exc)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("no TLS with %a: %r (%.3f s)", host, exc, monotonic() - began)
        if not isinstance(exc, OSError) or isinstance(exc, HTTPError):
            raise
        if exc.errno == errno.ETIMEDOUT:
            raise ConnectionTimedOut(f"the TLS handshake with {host} timed out", where="connecting") from exc
        # Python says ENOTCONN as an SSLError where the peer had sent something and gone before the handshake began.
        if isinstance(exc, ssl.SSLError) and not isinstance(exc, _TLS_ENDS) and exc.errno != errno.ENOTCONN:
            raise
        raise ConnectionClosed(f"{host} closed the connection in the TLS handshake", where="connecting") from exc
    if log.isEnabledFor(logging.DEBUG):
        resumed = ", resumed" if tls.session_reused else ""
        cipher = (tls.cipher() or ("",))[0]
        log.debug("TLS with %a: %s, %s%s (%.3f s)", host, tls.version(), cipher, resumed, monotonic() - began)
    return secured


def _wrap(
    transport: Transport, context: ssl.SSLContext, name: str, session: ssl.SSLSession | None
) -> tuple[Transport, ssl.SSLSocket | ssl.SSLObject]:
    if isinstance(transport, TLSTransport):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        inner = context.wrap_bio(incoming, outgoing, server_hostname=name, session=session)
        return NestedTLSTransport(transport, inner, incoming, outgoing), inner
    tls = context.wrap_socket(
        transport.socket,
        server_hostname=name,
        do_handshake_on_connect=False,
        suppress_ragged_eofs=False,
        session=session,
    )
    try:
        return TLSTransport(tls), tls
    except BaseException:
        tls.close()
        raise


def _co_send_rest(secured: NestedTLSTransport, attempt: Attempt, host: str) -> Step[None]:
    """The last message of the handshake is this side's, and may not have gone out yet."""
    while mask := secured.push():
        yield from attempt.co_wait(secured.socket, mask, f"shaking hands with {host}")


def _close_lost(exc: BaseException) -> None:
    """Close the socket that a failed `wrap_socket` had taken over: before Python 3.13 it does not."""
    for frame, _ in traceback.walk_tb(exc.__traceback__):
        lost: Any = frame.f_locals.get("self")
        if isinstance(lost, ssl.SSLSocket):
            lost.close()
