"""The public surface: a new name is a decision, not an accident."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import types

import pytest

import resilience

NAMES = """
Action AttemptTimedOut AttemptTimeout Blame Call CircuitBreaker CircuitOpen Constant Deadline DeadlineExceeded Engine
Env Exponential Failure Fibonacci Handler IdempotencyKey Linear Listed Phase Policy Progress RefreshFailed RefreshToken Rejected
ResilienceError Retry Rules Signal Stream StreamFailed StreamTimeout Token Tried Verdict current fail_fast history read refresh_token retry
"""


def test_the_package_exports_just_these_names() -> None:
    assert sorted(NAMES.split()) == sorted(resilience.__all__)
    assert all(hasattr(resilience, name) for name in resilience.__all__)


def test_a_star_import_brings_what_is_public_and_nothing_else() -> None:
    brought: dict[str, object] = {}
    exec("from resilience import *", brought)

    assert set(NAMES.split()) == set(brought) - {"__builtins__"}


def modules() -> list[types.ModuleType]:
    found = [
        importlib.import_module(info.name)
        for info in pkgutil.walk_packages(resilience.__path__, "resilience.")
        if not info.name.endswith("__main__")
    ]
    return [resilience, *found]


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.__name__)
def test_every_module_says_what_it_is_for(module: types.ModuleType) -> None:
    assert module.__doc__ is not None
    assert module.__doc__.strip()


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.__name__)
def test_what_a_module_lists_is_there(module: types.ModuleType) -> None:
    for name in getattr(module, "__all__", ()):
        assert hasattr(module, name)


@pytest.mark.parametrize("name", NAMES.split())
def test_every_public_name_is_documented(name: str) -> None:
    exported = getattr(resilience, name)
    if name == "Handler":  # an alias, documented where it stands
        return

    assert inspect.getdoc(exported)
    for attribute, member in vars(exported).items() if inspect.isclass(exported) else ():
        if not attribute.startswith("_") and inspect.isfunction(member):
            assert inspect.getdoc(getattr(exported, attribute)), f"{name}.{attribute}"
