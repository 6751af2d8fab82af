"""
A transport-agnostic retry and resilience engine.

It reads what an async call produced, classifies it by status and error code into retry, fail fast or refresh token, runs that through
composable policies, and logs every decision as one structured event.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from resilience.call import Call, current
from resilience.classify import Rules
from resilience.decide.backoff import Exponential
from resilience.engine import Engine
from resilience.env import Env
from resilience.errors import AttemptTimedOut, CircuitOpen, DeadlineExceeded, RefreshFailed, Rejected, ResilienceError, StreamFailed
from resilience.history import Tried, history
from resilience.outcome import Action, Blame, Failure, Phase, Signal, Verdict, fail_fast, refresh_token, retry
from resilience.policies.circuit_breaker import CircuitBreaker
from resilience.policies.idempotency import IdempotencyKey
from resilience.policies.refresh import RefreshToken, Token
from resilience.policies.retry import Retry
from resilience.policies.timeout import AttemptTimeout, Deadline
from resilience.policy import Handler, Policy
from resilience.reading.shape import read

if TYPE_CHECKING:
    from resilience.decide.schedules import Constant, Fibonacci, Linear, Listed
    from resilience.flow import Progress
    from resilience.policies.stream_timeout import StreamTimeout
    from resilience.stream import Stream

__all__ = [
    "Action",
    "AttemptTimedOut",
    "AttemptTimeout",
    "Blame",
    "Call",
    "CircuitBreaker",
    "CircuitOpen",
    "Constant",
    "Deadline",
    "DeadlineExceeded",
    "Engine",
    "Env",
    "Exponential",
    "Failure",
    "Fibonacci",
    "Handler",
    "IdempotencyKey",
    "Linear",
    "Listed",
    "Phase",
    "Policy",
    "Progress",
    "RefreshFailed",
    "RefreshToken",
    "Rejected",
    "ResilienceError",
    "Retry",
    "Rules",
    "Signal",
    "Stream",
    "StreamFailed",
    "StreamTimeout",
    "Token",
    "Tried",
    "Verdict",
    "current",
    "fail_fast",
    "history",
    "read",
    "refresh_token",
    "retry",
]

# Streams, and schedules other than the usual one: most programs have none, and need not wait for 3 of 20 ms that importing all would take.
_UNUSUAL = {
    "Constant": "resilience.decide.schedules",
    "Fibonacci": "resilience.decide.schedules",
    "Linear": "resilience.decide.schedules",
    "Listed": "resilience.decide.schedules",
    "Progress": "resilience.flow",
    "Stream": "resilience.stream",
    "StreamTimeout": "resilience.policies.stream_timeout",
}

if not TYPE_CHECKING:  # a checker would take any name at all for one of ours

    def __getattr__(name: str) -> Any:
        if name not in _UNUSUAL:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = found = getattr(importlib.import_module(_UNUSUAL[name]), name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
