"""The sdist and the wheel: what they carry, and that they build and work with nothing but themselves."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NAME = "httpio-0.1.0"
LLHTTP = ["LICENSE", "include/llhttp.h", "src/api.c", "src/http.c", "src/llhttp.c"]
NOT_OURS = [".git", ".venv*", "build", "dist", "*.egg-info", "*.so", "*.pyd", "__pycache__", ".*_cache", ".hypothesis"]

USE = """
import sys, httpio, httpio._parser, httpio.testing
assert httpio._parser.__file__.startswith(sys.prefix)
with httpio.testing.Server() as server:
    (result,) = httpio.fetch([f"{server.url}/objects/7?size=100000"])
assert result.error is None
assert result.content == httpio.testing.object_bytes(7, 100000)
"""


def offline(**settings: str) -> dict[str, str]:
    """Return an environment in which pip has no index and no folder of packages."""
    ours = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1"}
    outer = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    return outer | ours | settings


def run(*command: str | Path, cwd: Path, env: dict[str, str]) -> str:
    out, err = subprocess.PIPE, subprocess.STDOUT
    done = subprocess.run(command, cwd=cwd, env=env, stdout=out, stderr=err, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, built from a copy of the checkout."""
    folder = tmp_path_factory.mktemp("sdist")
    copy = folder / "checkout"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*NOT_OURS))
    build = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir"]
    run(*build, folder, copy, cwd=folder, env=offline())
    return folder / f"{NAME}.tar.gz"


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    """The wheel, compiled from the source distribution with no index."""
    pip = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-index", "--no-deps"]
    run(*pip, "--wheel-dir", sdist.parent, sdist, cwd=sdist.parent, env=offline())
    (path,) = sdist.parent.glob("*.whl")
    return path


@pytest.mark.heavy
def test_sdist_carries_llhttp_its_licence_and_what_the_tests_need(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = set(archive.getnames())
    ours = ["LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "setup.py"]
    ours += ["src/_parser.pyx", "src/llhttp.pxd", "src/httpio/py.typed", "src/httpio/_parser.pyi"]
    ours += ["tools/prepare.py", "vendor/vendor.py", "vendor/llhttp.toml"]
    ours += ["tests/conftest.py", "tests/cases/responses.jsonl"]
    for name in [*ours, *(f"vendor/llhttp/{name}" for name in LLHTTP)]:
        assert f"{NAME}/{name}" in names
    assert [name for name in names if re.search(r"__pycache__|\.so$|/build/|_parser\.c$", name)] == []


@pytest.mark.heavy
def test_wheel_carries_the_package_and_both_licences(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        licence = archive.read(f"{NAME}.dist-info/licenses/vendor/llhttp/LICENSE").decode()
        metadata = archive.read(f"{NAME}.dist-info/METADATA").decode()
    assert "Permission is hereby granted" in licence
    assert "Fedor Indutny" in licence
    assert f"{NAME}.dist-info/licenses/LICENSE" in names
    assert re.search(r"^License-Expression: MIT$", metadata, re.MULTILINE)
    assert {"httpio/__init__.py", "httpio/py.typed", "httpio/_parser.pyi"} <= names
    modules = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src" / "httpio").rglob("*.py")}
    assert modules <= names
    assert [name for name in names if not name.startswith(("httpio/", f"{NAME}.dist-info/"))] == []
    assert [name for name in names if name.endswith((".c", ".pyx"))] == []
    required = re.findall(r"^Requires-Dist: (.*)$", metadata, re.MULTILINE)
    assert [line for line in required if "extra ==" not in line] == []


@pytest.mark.heavy
def test_wheel_works_where_there_is_no_compiler(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    scripts = tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    bare = offline(PATH=str(scripts), CC="/nonexistent")
    python = shutil.which("python", path=str(scripts))
    assert python is not None
    run(python, "-m", "pip", "install", wheel, cwd=tmp_path, env=bare)
    run(python, "-I", "-c", USE, cwd=tmp_path, env=bare)
    command = shutil.which("httpio", path=str(scripts))
    assert command is not None
    assert "get" in run(command, "--help", cwd=tmp_path, env=bare)


def tracked_files() -> list[Path]:
    """Return the files that git tracks, or would; without git, all that are not built or brought."""
    if (ROOT / ".git").exists():
        command = ["git", "ls-files", "-z", "-co", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        other = re.compile(r"(^|/)(\.venv.*|build|dist|__pycache__|.*_cache|.*\.egg-info)/|^vendor/llhttp/")
        paths = [path for path in ROOT.rglob("*") if not other.search(path.relative_to(ROOT).as_posix())]
    return [path for path in paths if path.is_file()]


def test_no_address_of_a_registry_is_written_anywhere() -> None:
    # Put together here, so that this file does not hold one itself.
    hosts = re.compile(rb"pypi" + rb"\.org|python" + rb"hosted\.org|npmjs" + rb"\.(org|com)")
    files = tracked_files()
    assert ROOT / "setup.py" in files
    assert [str(path.relative_to(ROOT)) for path in files if hosts.search(path.read_bytes())] == []


def test_llhttp_is_not_tracked() -> None:
    assert [path for path in tracked_files() if path.is_relative_to(ROOT / "vendor" / "llhttp")] == []
