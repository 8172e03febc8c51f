"""The command ``httpio``."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from typing import NoReturn

from httpio.cli import get

__all__ = ["main"]

_EPILOG = """
LIST has one object a line: URL, or URL NAME with spaces or tabs between. Blank
lines and lines that start with # are passed over. Without NAME, an object is
named by the path of its URL; with several servers, the host is its first
folder. A file gets its name only when it is complete. One line of summary goes
to standard output, one line per failure to standard error. TLS certificates
are always verified; --cacert names authorities of your own. The proxies that
the environment names are used with --proxy-from-environment only.

Exit status: 0 all objects are complete; 1 some failed; 2 wrong usage, a bad
list, or a folder that cannot be written to (nothing was transferred);
130 interrupted.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with *argv* (the process's own arguments by default); returns its exit status."""
    parser = _parser()
    try:
        options, rest = parser.parse_known_args(argv)
        unknown = [_name(text) for text in rest if text.startswith("-")]
        if unknown:
            options.command.error("unrecognized arguments: " + " ".join(unknown))
        options.urls += rest  # those behind options
        if bool(options.urls) == (options.input is not None):
            options.command.error("give either URLs or -i LIST")
    except SystemExit as exc:
        # argparse has printed what there is to say.
        return exc.code if isinstance(exc.code, int) else 2
    try:
        return get.run(
            urls=options.urls,
            listing=options.input,
            folder=options.directory,
            headers=options.header,
            cacert=options.cacert,
            cert=options.cert,
            key=options.key,
            proxy=options.proxy,
            environment=options.proxy_from_environment,
            compressed=options.compressed,
            timeout=options.timeout,
            connect_timeout=options.connect_timeout,
            quiet=options.quiet,
            progress=not (options.no_progress or options.quiet),
        )
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="httpio", description="HTTP/1.1 transfers of many objects.")
    parser.add_argument("--version", action=_Version, help="print the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    command = commands.add_parser(
        "get",
        help="fetch URLs into files",
        description="Fetch URLs into files.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="httpio get [options] (URL... | -i LIST)",
        allow_abbrev=False,
    )
    command.set_defaults(command=command)
    add = command.add_argument
    add("urls", nargs="*", metavar="URL", help="an http or https URL")
    add("-i", "--input", metavar="LIST", help="read the URLs from the file LIST; - is standard input")
    add("-d", "--directory", metavar="DIR", default=".", help="put the files into DIR (default: this folder)")
    add(
        "-H",
        "--header",
        metavar="FIELD",
        action="append",
        default=[],
        help="send 'Name: value' with each request; @FILE takes one such field from each line of FILE, which "
        "keeps secrets out of the process list; may be repeated",
    )
    add("--cacert", metavar="FILE", help="trust the authorities in FILE (PEM) instead of the system's")
    add("--cert", metavar="FILE", help="show the client certificate in FILE (PEM) to https servers")
    add("--key", metavar="FILE", help="its private key, where that is not in the same file")
    ways = command.add_mutually_exclusive_group()
    ways.add_argument(
        "--proxy",
        metavar="URL",
        help="go through this proxy: http://, https://, socks5:// or socks5h://, [USER:PASSWORD@]HOST[:PORT]",
    )
    ways.add_argument(
        "--proxy-from-environment",
        action="store_true",
        help="go through the proxies that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY name, which keeps a "
        "password out of the process list",
    )
    add("--compressed", action="store_true", help="ask for compressed content, and store it decoded")
    add(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=60.0,
        help="give up on an object after this long without progress (default: 60)",
    )
    add(
        "--connect-timeout",
        metavar="SECONDS",
        type=_seconds,
        default=30.0,
        help="give up connecting after this long (default: 30)",
    )
    add("-q", "--quiet", action="store_true", help="print failures only")
    add("--no-progress", action="store_true", help="no progress bar")
    return parser


class _Parser(argparse.ArgumentParser):
    """Shows no password of a URL that stands where it does not belong."""

    def error(self, message: str) -> NoReturn:
        super().error(re.sub("//[^/@ ]*@", "//...@", message))


def _name(option: str) -> str:
    """The name of an option without its value, which may be a secret."""
    return option.partition("=")[0] if option.startswith("--") else option[:2]


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not (math.isfinite(seconds) and seconds > 0):
        raise argparse.ArgumentTypeError("must be a number of seconds above 0")
    return seconds


class _Version(argparse.Action):
    """Looks the version up when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        # Imported here because it takes longer than all the rest together.
        from importlib.metadata import PackageNotFoundError, version

        try:
            number = version("httpio")
        except PackageNotFoundError:
            number = "(not installed)"
        print("httpio", number)
        parser.exit()
