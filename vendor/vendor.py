"""Bring the sources of llhttp to vendor/llhttp, and check them.

The pin, llhttp.toml, names a source package, its SHA-256, and the files to take with the SHA-256 of each. pip
downloads the package, as it is configured on this machine. vendor/llhttp is complete and right, or it is not
there, or it is as it was: new files are laid out beside it and renamed into place. An altered or incomplete
folder is replaced.

Exit status: 0 when vendor/llhttp is right; 1, and one sentence on standard error, when it is not.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tarfile
import tempfile
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
PIN = HERE / "llhttp.toml"
FOLDER = HERE / "llhttp"


class VendorError(Exception):
    """One sentence that says why llhttp could not be brought in."""


def read_pin(text: str) -> dict[str, dict[str, str]]:
    """Read the tables of llhttp.toml; keys above the first section are in the table "".

    Python 3.10 has no tomllib, so the file keeps to sections and `key = "value"` lines; any other line is a
    ValueError.
    """
    table: dict[str, str] = {}
    tables = {"": table}
    for line in text.splitlines():
        if section := re.fullmatch(r"\[(\w+)\]", line):
            table = tables.setdefault(section[1], {})
        elif pair := re.fullmatch(r'"?([\w./]+)"? = "([^"\\]*)"', line):
            table[pair[1]] = pair[2]
        elif line and not line.startswith("#"):
            raise ValueError(f"llhttp.toml: not understood: {line}")
    return tables


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def find_wrong(folder: Path, files: dict[str, str]) -> list[str]:
    """Return the names of `files` (name: SHA-256) that are missing from `folder` or differ."""

    def is_right(name: str) -> bool:
        path = folder / name
        return path.is_file() and sha256(path.read_bytes()) == files[name]

    return [name for name in files if not is_right(name)]


def download(archive: dict[str, str], folder: Path) -> Path:
    """Download the source package into `folder` with pip, and return the path of the archive."""
    package = f"{archive['package']}=={archive['version']}"
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{package} --hash=sha256:{archive['sha256']}\n", encoding="utf-8")
    options = ["--disable-pip-version-check", "--no-input", "--no-deps", "--no-binary", archive["package"]]
    if has_recent_setuptools():
        options.append("--no-build-isolation")
    command = [sys.executable, "-m", "pip", "download", *options, "--require-hashes"]
    command += ["-r", str(requirements), "-d", str(folder)]
    pip = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if pip.returncode:
        raise VendorError(explain(pip.stdout.decode(errors="replace"), package))
    path = folder / f"{archive['package']}-{archive['version']}.tar.gz"
    if not path.is_file() or sha256(path.read_bytes()) != archive["sha256"]:
        raise VendorError(f"pip did not deliver the archive of {package} that llhttp.toml pins")
    return path


def has_recent_setuptools() -> bool:
    """Tell whether pip, which always makes a package's metadata, can make it with what is installed here."""
    try:
        return int(metadata.version("setuptools").split(".")[0]) >= 77
    except (metadata.PackageNotFoundError, ValueError):
        return False


def explain(output: str, package: str) -> str:
    """Return one sentence for the output of a failed pip."""
    if "No module named pip" in output:
        return f"pip is needed to download {package}, and {sys.executable} does not have it"
    if "DO NOT MATCH THE HASHES" in output:
        return f"the archive of {package} does not have the SHA-256 that llhttp.toml pins, so it was not used"
    errors = re.findall(r"^\s*ERROR: (.+?)\.?\s*$", output, re.MULTILINE) or ["nothing"]
    return f"pip could not download {package} (is there a network?); it says: {errors[-1]}"


def extract(path: Path, folder: str, files: dict[str, str]) -> dict[str, bytes]:
    """Return the content of each of `files` below `folder` of the archive, checked; the rest is not read."""
    root = path.name.removesuffix(".tar.gz")
    contents = {}
    with tarfile.open(path) as archive:
        for name, expected in files.items():
            try:
                member = archive.extractfile(f"{root}/{folder}/{name}")
            except KeyError:
                member = None
            if member is None:
                raise VendorError(f"{path.name} has no file {folder}/{name}, so it was not used")
            contents[name] = member.read()
            if sha256(contents[name]) != expected:
                raise VendorError(f"{name} in {path.name} does not have the SHA-256 pinned: it was not used")
    return contents


def put_in_place(contents: dict[str, bytes], folder: Path) -> None:
    """Make `folder` hold `contents`: renamed into place when complete; what was there before goes then."""
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as work:
        new, old = Path(work, "new"), Path(work, "old")
        for name, data in contents.items():
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        if folder.exists():
            folder.rename(old)
        try:
            new.rename(folder)
        except OSError:
            if old.exists() and not folder.exists():
                old.rename(folder)
            raise


def bring(quiet: bool) -> None:
    """Make vendor/llhttp right: check it, and download it when it is missing or differs from the pin."""
    pin = read_pin(PIN.read_text(encoding="utf-8"))
    files = pin["files"]
    wrong = find_wrong(FOLDER, files)
    was_there = FOLDER.exists()
    if wrong:
        with tempfile.TemporaryDirectory() as temporary:
            contents = extract(download(pin["archive"], Path(temporary)), pin["archive"]["folder"], files)
        try:
            put_in_place(contents, FOLDER)
        except OSError:
            if find_wrong(FOLDER, files):  # else another build has just put it there
                raise
    if wrong and was_there:
        names = ", ".join(wrong)
        print(f"vendor/llhttp was replaced; these were missing or altered: {names}", file=sys.stderr)
    if not quiet:
        print(f"llhttp {pin['']['version']} is in vendor/llhttp")


def check() -> None:
    """VendorError unless vendor/llhttp is there and right."""
    if wrong := find_wrong(FOLDER, read_pin(PIN.read_text(encoding="utf-8"))["files"]):
        raise VendorError(f"missing or different: {', '.join(wrong)}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Bring llhttp's sources to vendor/llhttp, and check them.")
    parser.add_argument("--check", action="store_true", help="only check what is there")
    parser.add_argument("--quiet", action="store_true", help="say nothing when all is well")
    options = parser.parse_args()
    try:
        if options.check:
            check()
        else:
            bring(options.quiet)
    except (VendorError, OSError, ValueError, tarfile.TarError) as error:
        print(f"vendor/llhttp: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
