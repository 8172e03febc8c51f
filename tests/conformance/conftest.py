"""Fixtures of the conformance suite."""

from __future__ import annotations

import ssl

import pytest

from conftest import Authority, Contexts
from servers.scripted import server_context


@pytest.fixture(scope="session")
def secured(authority: Authority) -> Contexts:
    return server_context(authority.chain, authority.key), ssl.create_default_context(cafile=authority.ca)
