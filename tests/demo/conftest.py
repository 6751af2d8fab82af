"""The stand-in, started anew for each test, and plain clients that know nothing of the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx2
import pytest

from resilience.demo.serve import Server


@pytest.fixture
def server() -> Iterator[Server]:
    """The stand-in with the documented settings."""
    with Server() as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[httpx2.Client]:
    """A client of tenant ``acme``, with an API key that may do anything."""
    with client_of(server, server.api_key()) as client:
        yield client


@pytest.fixture
def connect() -> Callable[..., httpx2.Client]:
    """Make a client of a server: ``connect(server, credential)``, or without a credential."""
    return client_of


def client_of(server: Server, credential: str | None = None) -> httpx2.Client:
    headers = {} if credential is None else {"Authorization": f"Bearer {credential}"}
    # No certificates to load: it talks to this machine in the clear.
    return httpx2.Client(base_url=server.url, headers=headers, timeout=5, verify=False)
