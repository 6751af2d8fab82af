"""What every test may ask for: the event loops, a world in which nothing really waits, and Hypothesis as we set it."""

from __future__ import annotations

import gc
import importlib.util
import os
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

if TYPE_CHECKING:
    from resilience.testing import World

IN_CI = bool(os.environ.get("CI"))

# A slow machine is no bug.  In CI the same examples run every time: what fails there fails for whoever looks into it.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
hypothesis.settings.load_profile("ci" if IN_CI else "default")

# In CI a missing uvloop is an error, not a skip: nobody reads the skips there.
without_uvloop = pytest.mark.skipif(
    importlib.util.find_spec("uvloop") is None and not IN_CI, reason="uvloop does not exist for this platform"
)

# For clients that know no other loop.  Not in debug mode, as below.
ON_ASYNCIO = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop", marks=without_uvloop),
]


def pytest_collection_finish() -> None:
    """Spare the collector what lives as long as the session: many tests ask it for garbage, and each would look through all of that."""
    gc.collect()
    gc.freeze()


def pytest_make_parametrize_id(val: object) -> str | None:
    """A mock's own word for itself has its address in it; workers that share the tests must call each of them the same."""
    return type(val).__name__ if type(val).__module__ == "unittest.mock" else None


@pytest.fixture(
    scope="module",  # as anyio's own, so that module-scoped async fixtures work
    params=[
        # Not in debug mode: it keeps the frames that made each handle, and with them what the tests for garbage look for.
        *ON_ASYNCIO,
        pytest.param(("trio", {}), id="trio"),
    ],
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Every async test runs on each of these."""
    return request.param


@pytest.fixture
def world() -> World:
    """Virtual time, fixed dice and a notebook of events; see `resilience.testing.World`."""
    from resilience.testing import World  # a test that asks for no world should not fail with it

    return World()
