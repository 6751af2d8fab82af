"""An engine as what a client's part is given: how that is checked, and how a constructor with one in front is typed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from resilience.engine import Engine

__all__ = ["checked_engine", "signed_as", "takes_engine"]

P = ParamSpec("P")
F = TypeVar("F", bound=Callable[..., Any])


def checked_engine(engine: object, owner: str) -> Engine:
    """
    *engine*, if it is one.

    Raises:
        TypeError: It is not; the message names *owner*.
    """
    if not isinstance(engine, Engine):
        raise TypeError(f"{owner}: engine: expected an Engine or a view of one (engine.using(...)), got {engine!r}")
    return engine


def takes_engine(like: Callable[Concatenate[Any, P], None]) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, Engine, P], None]]:
    """Type a constructor as another with an engine in front: the client's settings stay known to type checkers and editors."""

    def unchanged(init: Callable[..., None]) -> Callable[..., None]:
        return init

    del like
    return unchanged


def signed_as(like: F) -> Callable[[Callable[..., Any]], F]:
    """Type a method as the one that it overrides."""

    def unchanged(method: Callable[..., Any]) -> F:
        return cast("F", method)

    del like
    return unchanged
