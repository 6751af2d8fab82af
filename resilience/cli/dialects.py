"""Dialects by name, and their tables as data."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path
from typing import cast

from resilience import dialects
from resilience.classify import Rules
from resilience.cli.arguments import UsageError
from resilience.outcome import Verdict

__all__ = ["named", "rules_of", "table"]


def named() -> list[str]:
    """The names of all dialects that come with the library."""
    return sorted(info.name for info in pkgutil.iter_modules(dialects.__path__) if not info.name.startswith("_"))


def rules_of(name: str) -> Rules:
    """
    The rules called *name*: one of `named`, or ``module:NAME`` for one's own.

    Raises:
        UsageError: There are none.
    """
    module, colon, attribute = name.partition(":")
    if not (colon and module and attribute):
        if name not in named():
            raise UsageError(f"unknown dialect {name!r}; known are {', '.join(named())}, or name your own as module:NAME")
        module, attribute = f"resilience.dialects.{name}", "RULES"
    elif (here := str(Path.cwd())) not in sys.path:  # where `python -m` looks, and an installed command does not
        sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # noqa: BLE001 - whatever a module of the user's raises when it is imported
        raise UsageError(f"cannot load dialect {name!r}: {type(error).__name__}: {error}") from None
    if not isinstance(found, Rules):
        raise UsageError(f"dialect {name!r}: expected Rules, got {type(found).__name__}")
    return found


def table(rules: Rules) -> dict[str, object]:
    """All that *rules* say: their entries, one row each, in the order in which they are asked; and what there is beside them."""
    rows = [
        (_rank(by, key), {"by": by, "key": _words(key), **said(verdict)})
        for by, entries in (
            ("code", rules.by_code),
            ("message", rules.by_message),
            ("kind", rules.by_kind),
            ("status", rules.by_status),
            ("error", rules.by_error),
        )
        for key, verdict in entries.items()
    ]
    entries = [row for _, row in sorted(rows, key=lambda one: one[0])]
    return {
        "entries": [*entries, {"by": "default", "key": "", **said(rules.default)}],
        "word_first": rules.word_first,
        **{name: _summary(getattr(rules, name)) for name in ("by_result", "by_item", "creates_nothing")},
    }


def _rank(by: str, key: object) -> tuple[int, int]:
    """Where an entry stands in the order of look-up: its place, and of patterns the longest first."""
    under = isinstance(key, tuple)
    text = str(cast("tuple[object, ...]", key)[1] if under else key)
    if by == "code":
        pattern = "*" in text
        return (1 if under and not pattern else 4 if pattern and under else 5 if pattern else 3), -len(text) if pattern else 0
    if by == "message":
        return (2 if under else 6), -len(text)
    if by == "status":
        return (8 if isinstance(key, int) else 9), 0
    return (7 if by == "kind" else 10), 0


def _summary(function: object) -> str | None:
    """What a function of a table says that it does, in one sentence; its name where it says nothing."""
    if function is None:
        return None
    said_so = (getattr(function, "__doc__", None) or "").strip().partition("\n\n")[0]
    return " ".join(said_so.split()) or getattr(function, "__qualname__", repr(function))


def said(verdict: Verdict) -> dict[str, object]:
    """A verdict as data."""
    return {
        "action": verdict.action.value,
        "attempts": verdict.attempts,
        "throttled": verdict.throttled,
        "blames": verdict.blames.value,
        "rule": verdict.rule,
    }


def _words(key: object) -> str:
    if isinstance(key, tuple):
        return " ".join(map(str, cast("tuple[object, ...]", key)))
    return f"{key.__module__}.{key.__qualname__}" if isinstance(key, type) else str(key)
