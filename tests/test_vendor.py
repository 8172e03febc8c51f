"""vendor/vendor.py with a source package made here: what it refuses, what it says, what it leaves behind."""

from __future__ import annotations

import hashlib
import io
import os
import re
import runpy
import shutil
import socket
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

VENDOR = Path(__file__).resolve().parent.parent / "vendor"
SCRIPT: dict[str, Any] = runpy.run_path(str(VENDOR / "vendor.py"))

FILES = {"LICENSE": b"a licence\n", "include/a.h": b"/* a header */\n", "src/a.c": b"/* a source */\n" * 1000}
PYPROJECT = b'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
BACKEND = b"""
import os
def prepare_metadata_for_build_wheel(folder, config_settings=None):
    name = "llhttpcarrier-1.0.dist-info"
    os.mkdir(os.path.join(folder, name))
    with open(os.path.join(folder, name, "METADATA"), "w") as file:
        file.write("Metadata-Version: 2.1\\nName: llhttpcarrier\\nVersion: 1.0\\n")
    return name
"""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Checkout:
    """A copy of vendor/ whose pin names a small package, and a folder in which pip looks for packages."""

    def __init__(self, root: Path) -> None:
        self.vendor = root / "vendor"
        self.vendor.mkdir(parents=True)
        shutil.copy(VENDOR / "vendor.py", self.vendor)
        self.llhttp = self.vendor / "llhttp"
        self.packages = root / "packages"
        self.packages.mkdir()
        self.archive = self.packages / "llhttpcarrier-1.0.tar.gz"
        self.pack(FILES)
        self.pin(sha256(self.archive.read_bytes()))

    def pack(self, files: dict[str, bytes]) -> None:
        members = {"pyproject.toml": PYPROJECT, "backend.py": BACKEND}
        members |= {f"deep/down/{name}": data for name, data in files.items()}
        with tarfile.open(self.archive, "w:gz") as archive:
            for name, data in members.items():
                member = tarfile.TarInfo(f"llhttpcarrier-1.0/{name}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))

    def pin(self, archive_hash: str) -> None:
        lines = ['version = "9.9.9"', "[archive]", 'package = "llhttpcarrier"', 'version = "1.0"']
        lines += ['folder = "deep/down"', f'sha256 = "{archive_hash}"', "[files]"]
        lines += [f'"{name}" = "{sha256(data)}"' for name, data in FILES.items()]
        (self.vendor / "llhttp.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def fill(self) -> None:
        """Put the right files into vendor/llhttp."""
        for name, data in FILES.items():
            path = self.llhttp / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def environment(self, **settings: str) -> dict[str, str]:
        """Return an environment with pip's settings replaced: no index, and packages from the folder only."""
        ours = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.packages)}
        outer = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        return outer | ours | settings

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(self.vendor / "vendor.py"), *arguments]
        return subprocess.run(command, env=self.environment(**settings), capture_output=True, text=True)

    def content(self) -> dict[str, bytes]:
        paths = [path for path in self.llhttp.rglob("*") if path.is_file()]
        return {path.relative_to(self.llhttp).as_posix(): path.read_bytes() for path in paths}

    def assert_tidy(self) -> None:
        """Nothing half-made lies beside the folder."""
        assert {path.name for path in self.vendor.iterdir()} <= {"vendor.py", "llhttp.toml", "llhttp"}

    def assert_refused(self, done: subprocess.CompletedProcess[str], *words: str) -> None:
        """It failed with one sentence that holds `words`, and left nothing half-made."""
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.startswith("vendor/llhttp: ")
        assert done.stderr.count("\n") == 1
        for word in words:
            assert word in done.stderr
        self.assert_tidy()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_brings_the_named_files_and_no_others(checkout: Checkout) -> None:
    checkout.pack(FILES | {"src/other.c": b""})
    checkout.pin(sha256(checkout.archive.read_bytes()))
    done = checkout.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "llhttp 9.9.9 is in vendor/llhttp\n"
    assert checkout.content() == FILES
    checkout.assert_tidy()


def test_only_the_named_files_are_read_from_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "a-1.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in ("a-1/f/named", "a-1/f/../../escaped", "/absolute"):
            archive.addfile(tarfile.TarInfo(name))
        link = tarfile.TarInfo("a-1/f/link")
        link.type, link.linkname = tarfile.SYMTYPE, os.devnull
        archive.addfile(link)
    assert SCRIPT["extract"](path, "f", {"named": sha256(b"")}) == {"named": b""}
    with pytest.raises(SCRIPT["VendorError"], match="no file f/link"):
        SCRIPT["extract"](path, "f", {"link": sha256(b"")})
    assert [path.name for path in tmp_path.iterdir()] == ["a-1.tar.gz"]


def test_what_is_right_is_not_brought_again(checkout: Checkout) -> None:
    checkout.fill()
    checkout.archive.unlink()
    done = checkout.run("--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert checkout.run("--check").returncode == 0


def test_wrong_hash_of_the_archive(checkout: Checkout) -> None:
    checkout.pin("0" * 64)
    checkout.assert_refused(checkout.run(), "llhttpcarrier==1.0", "SHA-256")
    assert not checkout.llhttp.exists()


@pytest.mark.parametrize("name", FILES)
def test_wrong_hash_of_a_file(checkout: Checkout, name: str) -> None:
    checkout.pack(FILES | {name: FILES[name] + b"x"})
    checkout.pin(sha256(checkout.archive.read_bytes()))
    checkout.assert_refused(checkout.run(), name, "SHA-256")
    assert not checkout.llhttp.exists()


def test_file_that_the_archive_lacks(checkout: Checkout) -> None:
    checkout.pack({name: data for name, data in FILES.items() if name != "src/a.c"})
    checkout.pin(sha256(checkout.archive.read_bytes()))
    checkout.assert_refused(checkout.run(), "no file deep/down/src/a.c")
    assert not checkout.llhttp.exists()


def test_no_index(checkout: Checkout) -> None:
    done = checkout.run(PIP_FIND_LINKS="")
    checkout.assert_refused(done, "could not download llhttpcarrier==1.0", "network")
    assert not checkout.llhttp.exists()
    assert checkout.run().returncode == 0


def test_no_network(checkout: Checkout) -> None:
    with socket.socket() as bound:  # bound and not listening: connecting is refused
        bound.bind(("127.0.0.1", 0))
        index = f"http://127.0.0.1:{bound.getsockname()[1]}/simple"
        settings = {"PIP_NO_INDEX": "0", "PIP_FIND_LINKS": "", "PIP_INDEX_URL": index, "PIP_RETRIES": "0"}
        checkout.assert_refused(checkout.run(**settings), "could not download llhttpcarrier==1.0", "network")
    assert not checkout.llhttp.exists()
    assert checkout.run().returncode == 0


def test_no_pip(checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "pip.py").write_text("raise SystemExit('No module named pip')\n", encoding="utf-8")
    checkout.assert_refused(checkout.run(PYTHONPATH=str(tmp_path)), "pip is needed", sys.executable)


def damage_by_truncation(folder: Path) -> None:
    path = folder / "src" / "a.c"
    path.write_bytes(path.read_bytes()[:100])


def damage_by_absence(folder: Path) -> None:
    shutil.rmtree(folder / "src")


def damage_by_alteration(folder: Path) -> None:
    (folder / "src" / "a.c").write_bytes(FILES["src/a.c"].replace(b"source", b"sauces"))


def damage_by_file_in_its_place(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_bytes(b"")


DAMAGES = [damage_by_truncation, damage_by_absence, damage_by_alteration, damage_by_file_in_its_place]


@pytest.mark.parametrize("damage", DAMAGES)
def test_half_written_folder_is_replaced(checkout: Checkout, damage: Any) -> None:
    checkout.fill()
    damage(checkout.llhttp)
    checkout.assert_refused(checkout.run("--check"), "src/a.c")
    done = checkout.run("--quiet")
    assert done.returncode == 0
    assert re.fullmatch(r"vendor/llhttp was replaced; .* altered: .*src/a\.c\n", done.stderr)
    assert checkout.content() == FILES
    checkout.assert_tidy()


@pytest.mark.parametrize("damage", DAMAGES)
def test_half_written_folder_without_network_stays_as_it_was(checkout: Checkout, damage: Any) -> None:
    checkout.fill()
    damage(checkout.llhttp)
    before = checkout.content()
    checkout.assert_refused(checkout.run(PIP_FIND_LINKS=""), "could not download")
    assert checkout.content() == before


def test_failure_halfway_leaves_the_folder_as_it_was(checkout: Checkout) -> None:
    checkout.fill()
    with pytest.raises(OSError, match="new"):
        SCRIPT["put_in_place"]({"LICENSE": b"other", "new": b"", "new/below": b""}, checkout.llhttp)
    assert checkout.content() == FILES
    checkout.assert_tidy()


def test_folder_that_a_killed_run_left_beside_is_no_obstacle(checkout: Checkout) -> None:
    (checkout.vendor / ".llhttp-abc" / "new").mkdir(parents=True)
    assert checkout.run().returncode == 0
    assert checkout.content() == FILES


def test_two_runs_at_once_leave_the_folder_right(checkout: Checkout) -> None:
    command = [sys.executable, str(checkout.vendor / "vendor.py")]
    runs = [subprocess.Popen([*command, "--quiet"], env=checkout.environment()) for _ in range(2)]
    assert [run.wait() for run in runs] == [0, 0]
    assert checkout.content() == FILES
    checkout.assert_tidy()


def test_setup_py_calls_it_and_stops_with_its_sentence(checkout: Checkout) -> None:
    root = checkout.vendor.parent
    shutil.copy(VENDOR.parent / "setup.py", root)
    checkout.pin("0" * 64)
    command = [sys.executable, "setup.py", "--quiet", "build_ext"]
    done = subprocess.run(command, cwd=root, env=checkout.environment(), capture_output=True, text=True)
    checkout.assert_refused(done, "SHA-256")


def test_the_pin_is_read_as_toml_reads_it() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 and later have it")
    text = (VENDOR / "llhttp.toml").read_text(encoding="utf-8")
    tables = SCRIPT["read_pin"](text)
    assert tables.pop("") | tables == tomllib.loads(text)


@pytest.mark.parametrize("line", ["key = 1", "key = 'x'", "[a.b]", 'key = "a\\"b"', " indented", "[[files]]"])
def test_the_reader_refuses_what_it_does_not_read(line: str) -> None:
    with pytest.raises(ValueError, match="not understood"):
        SCRIPT["read_pin"](line)


def test_what_is_built_from_is_the_version_pinned() -> None:
    pin = SCRIPT["read_pin"]((VENDOR / "llhttp.toml").read_text(encoding="utf-8"))
    assert SCRIPT["find_wrong"](VENDOR / "llhttp", pin["files"]) == []
    header = (VENDOR / "llhttp" / "include" / "llhttp.h").read_text(encoding="utf-8")
    numbers = dict(re.findall(r"#define LLHTTP_VERSION_(MAJOR|MINOR|PATCH) (\d+)", header))
    assert f"{numbers['MAJOR']}.{numbers['MINOR']}.{numbers['PATCH']}" == pin[""]["version"]
