"""The version of the package, which stands in pyproject.toml only."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["VERSION"]

try:
    VERSION = version("httpio")
except PackageNotFoundError:  # run from a source tree that was never installed
    VERSION = "0"
