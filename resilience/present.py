"""
Which asyncio task runs just now, found as cheaply as can be: each call with a retry or a limit asks.

Before CPython 3.12 asking for the running loop asks the system for the process id, which would be the dearest thing on the way of a call
that succeeds.  So there each thread remembers its loop.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

__all__ = ["cancel_count", "present_task"]


if sys.version_info >= (3, 12):

    def present_task() -> asyncio.Task[Any] | None:
        """The running asyncio task; None under trio, in a callback, and where nothing runs."""
        try:
            return _current_task()
        except RuntimeError:  # no loop of asyncio's runs here
            return None

    def cancel_count() -> int:
        """How many native cancellations the current task was asked for and has not taken back; 0 on trio and outside a task."""
        task = present_task()
        return 0 if task is None else task.cancelling()

    def _first_task() -> asyncio.Task[Any] | None:
        global _current_task  # noqa: PLW0603 - a late import
        if "asyncio" not in sys.modules:
            return None
        import asyncio  # noqa: PLC0415 - only where it is in use

        _current_task = asyncio.current_task
        return asyncio.current_task()

    _current_task: Callable[[], asyncio.Task[Any] | None] = _first_task

else:
    # The memory is wrong only where a loop has since moved to another thread and runs a task there just now.  Then a count is that task's,
    # nearly always 0 as well; for the task itself the loop is asked whose thread it runs in.

    _thread = threading.local()
    _running_tasks: dict[Any, asyncio.Task[Any]] = {}
    _get_ident = threading.get_ident

    def present_task() -> asyncio.Task[Any] | None:
        """The running asyncio task; None under trio, in a callback, and where nothing runs."""
        try:
            loop = _thread.loop
            if loop._thread_id == _get_ident():  # noqa: SLF001 - uvloop does not tell
                return _running_tasks[loop]
        except (AttributeError, KeyError):
            pass
        return _first_task()

    def cancel_count() -> int:
        """How many native cancellations the current task was asked for and has not taken back; 0 on trio and outside a task."""
        try:
            return _running_tasks[_thread.loop].cancelling()
        except (AttributeError, KeyError):
            task = _first_task()
        return 0 if task is None else task.cancelling()

    def _first_task() -> asyncio.Task[Any] | None:
        global _running_tasks  # noqa: PLW0603 - a late import
        task = None
        if "asyncio" in sys.modules:
            import asyncio  # noqa: PLC0415 - only where it is in use

            _running_tasks = asyncio.tasks._current_tasks  # type: ignore[attr-defined]  # noqa: SLF001 - for good: 3.11 changes no more
            loop = asyncio._get_running_loop()  # noqa: SLF001 - documented, and does not raise
            task = None if loop is None else asyncio.current_task(loop)
        _thread.loop = None if task is None else task.get_loop()
        return task
