"""
A transport-agnostic retry and resilience engine.

It reads what an async call produced, classifies it by status and error code into retry, fail fast or refresh token, runs that through
composable policies, and logs every decision as one structured event.
"""

from __future__ import annotations

from resilience.call import Call, current
from resilience.classify import Rules
from resilience.decide.backoff import Constant, Exponential, Fibonacci, Linear, Listed
from resilience.engine import Engine
from resilience.env import Env
from resilience.errors import AttemptTimedOut, CircuitOpen, DeadlineExceeded, RefreshFailed, Rejected, ResilienceError, StreamFailed
from resilience.flow import Progress
from resilience.history import Tried, history
from resilience.outcome import Action, Blame, Failure, Phase, Signal, Verdict, fail_fast, refresh_token, retry
from resilience.policies.circuit_breaker import CircuitBreaker
from resilience.policies.idempotency import IdempotencyKey
from resilience.policies.refresh import RefreshToken, Token
from resilience.policies.retry import Retry
from resilience.policies.timeout import AttemptTimeout, Deadline, StreamTimeout
from resilience.policy import Handler, Policy
from resilience.reading.shape import read
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
