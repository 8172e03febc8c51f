"""The one extension, and the call that brings llhttp in. Everything else is in pyproject.toml."""

import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup

LLHTTP = "vendor/llhttp"
VENDOR = Path(__file__).resolve().with_name("vendor") / "vendor.py"

# vendor.py says in one sentence what is wrong; a traceback below it would hide that.
if subprocess.run([sys.executable, VENDOR, "--quiet"]).returncode:
    sys.exit(1)

parser = Extension(
    "httpio._parser",
    sources=["src/_parser.pyx", *(f"{LLHTTP}/src/{name}.c" for name in ("api", "http", "llhttp"))],
    depends=[
        *(f"src/{name}" for name in ("llhttp.pxd", "section.pxi", "head.pxi", "rules.pxi", "queue.pxi")),
        f"{LLHTTP}/include/llhttp.h",
    ],
    include_dirs=["src", f"{LLHTTP}/include"],
    # Hidden: calls to llhttp are direct, and another extension's llhttp in the process stays another.
    extra_compile_args=["/O2"] if sys.platform == "win32" else ["-O3", "-fvisibility=hidden"],
)
# Read by Cython's build_ext, which setuptools uses where Cython is installed.
parser.cython_directives = {"language_level": 3}
parser.cython_c_in_temp = True

setup(ext_modules=[parser])
