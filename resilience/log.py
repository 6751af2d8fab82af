"""
From an event to one line, through structlog or the standard library.

If structlog is configured, events go through it.  Otherwise structlog's own key-value rendering carries the same fields to the standard
logger ``resilience``, silent below warning as a library should be; structlog left alone would print debug lines to stdout, where a
program's data may be.  The sink is chosen at the first event: engines live at module level, before logging is set up.
"""

from __future__ import annotations

import logging
import math
import sys
import traceback
from collections.abc import Callable
from typing import Any

import structlog

from resilience.events import Event

__all__ = ["Quiet", "complain", "emit", "fields", "quiet", "refresh"]

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}
_RECHECK = 1.0  # seconds for which "nobody wants to hear it" is believed


class Quiet:
    """
    Until when nobody wants to hear what is told at debug level only.

    One comparison on the happy path, ``call.started >= quiet.until``, both skips the event and has the question asked again in time.
    This one is never quiet: a listener of the user's own hears everything.
    """

    __slots__ = ("until",)

    def __init__(self) -> None:
        self.until = -math.inf

    def wanted(self, now: float) -> bool:  # noqa: ARG002 - the process's own log needs to know
        """Whether an event of debug level is to be told."""
        return True


class _LogQuiet(Quiet):
    """Asks the process's log, and believes a "no" for a second."""

    __slots__ = ()

    def wanted(self, now: float) -> bool:
        wanted = _structlog_takes_debug() if structlog.is_configured() else _stdlib.isEnabledFor(logging.DEBUG)
        self.until = -math.inf if wanted else now + _RECHECK
        return wanted


quiet: Quiet = _LogQuiet()
"""The state of the process's own log."""

_sink: Callable[[Event], None] | None = None
_render = structlog.processors.KeyValueRenderer(key_order=["event"])
_stdlib = logging.getLogger("resilience")


def emit(event: Event) -> None:
    """Write *event* as one line."""
    global _sink  # noqa: PLW0603 - the one process-wide choice
    if _sink is None:
        _sink = _chosen()
    _sink(event)


def complain(event: Event) -> None:
    """Say on stderr that *event* could not be told, and why, as the standard library does for its handlers."""
    if logging.raiseExceptions and sys.stderr is not None:
        sys.stderr.write(f"resilience: could not log {event.name}\n")
        traceback.print_exc()


def fields(event: Event) -> dict[str, Any]:
    """The event's fields as they are logged: seconds to the microsecond, and without those that say nothing."""
    told = event.__dict__
    said: dict[str, Any] = {}
    for name in event.fields:
        value = told[name] if name in told else getattr(event, name)
        if value is not None:
            said[name] = round(value, 6) if type(value) is float else value
    return said


def refresh() -> None:
    """Choose the sink again at the next event: call it after configuring structlog late, or differently."""
    global _sink  # noqa: PLW0603 - see above
    _sink = None
    quiet.until = -math.inf


def _structlog_takes_debug() -> bool:
    logger = structlog.get_logger("resilience")
    try:
        return bool(logger.is_enabled_for(logging.DEBUG))
    except Exception:  # noqa: BLE001 - a wrapper class of the user's own need not answer; then everything goes through it
        return True


def _chosen() -> Callable[[Event], None]:
    if structlog.is_configured():
        logger = structlog.get_logger("resilience").bind()

        def through_structlog(event: Event) -> None:
            getattr(logger, event.level)(event.name, **fields(event))

        return through_structlog

    def through_stdlib(event: Event) -> None:
        number = _LEVELS[event.level]
        if _stdlib.isEnabledFor(number):
            # As an argument, not as the format: percent signs and braces in a field stay what they are.
            _stdlib.log(number, "%s", _render(None, event.level, {"event": event.name, **fields(event)}))

    return through_stdlib
