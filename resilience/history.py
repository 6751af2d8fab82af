"""
What an engine leaves behind on an outcome: the history of its attempts.

It is a tuple of plain tuples in the outcome's own ``__dict__``: builtin exceptions take no weak references, and a pickled error must open
where this library is not installed.  Summaries only; keeping the exceptions themselves would keep their frames, and the arguments in
them, alive.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import attrs

from resilience.settings import Value

__all__ = ["Tried", "behind_of", "history", "keep_history"]

_HISTORY = "_resilience_history"
_STEPS = 64  # of a chain of causes; longer ones say nothing more, and a cycle must end


@attrs.frozen(eq=False, repr=False)
class Tried(Value):
    """
    One failed attempt, in brief.

    Args:
        attempt: Its number, from 1.
        action: What the verdict called for.
        rule: What decided.
        error: The exception's class name, or that of the returned response.
        status: Status, where there was one.
        code: Error code, likewise.
        phase: How far it got.
        retry_after: The peer's hint in seconds, likewise.
        elapsed: Seconds since the call began, when the attempt had ended.
        items: How many items a stream had delivered by then; None for any other call.
    """

    attempt: int
    action: str
    rule: str
    error: str
    status: int | None
    code: str | None
    phase: str
    retry_after: float | None
    elapsed: float
    items: int | None = None


def history(outcome: object) -> tuple[Tried, ...]:
    """
    Every failed attempt behind *outcome*, oldest first.

    Args:
        outcome: An error that left an engine, or one that wraps such an error: responses, causes, contexts and exception groups
            are searched.  A failing response that an engine returned works as well, where it takes attributes.

    Returns:
        The attempts of the nearest engine call found; empty where there was none.  An attempt in which an engine further in did the trying
        is told by that engine's attempts.
    """
    for one in behind_of(outcome):
        kept: tuple[tuple[Any, ...], ...] | None = getattr(one, "__dict__", {}).get(_HISTORY)
        if kept is not None:
            return tuple(Tried(*row) for row in kept)
    return ()


def keep_history(outcome: object, tries: tuple[tuple[object, ...], ...]) -> None:
    """Leave the summaries *tries* (rows of `Tried`) on *outcome*, where it takes attributes."""
    try:
        # Frozen exception classes refuse plain assignment; their __dict__ does not.
        object.__setattr__(outcome, _HISTORY, tries)
    except (AttributeError, TypeError):
        return


def behind_of(outcome: object) -> Iterator[object]:
    """*outcome* and what it came from: group members, its response, its cause, its context; each once, a bounded number."""
    seen: set[int] = set()
    todo: list[object] = [outcome]
    while todo and len(seen) < _STEPS:
        one = todo.pop(0)
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, BaseException):
            behind: list[object] = [_response(one), one.__cause__, one.__context__]
            if isinstance(one, BaseExceptionGroup):
                todo.extend(cast("BaseExceptionGroup[BaseException]", one).exceptions)
            todo.extend(behind)


def _response(error: BaseException) -> object:
    """The response that an error was made of, as `raise_for_status` does."""
    try:
        return getattr(error, "response", None)
    except Exception:  # noqa: BLE001 - a property of somebody else's
        return None
