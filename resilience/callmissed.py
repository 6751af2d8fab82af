"""
CallMissed, ready made: the dialect, and the engine that suits the API.

    from resilience import callmissed
    from resilience.adapters.httpx2 import ResilientClient

    http = ResilientClient(callmissed.engine(login), base_url="https://api.example.com")
"""

from __future__ import annotations

from resilience.dialects.callmissed import RULES
from resilience.engine import Engine
from resilience.env import Env
from resilience.policies.circuit_breaker import CircuitBreaker
from resilience.policies.idempotency import IdempotencyKey
from resilience.policies.refresh import RefreshToken, Source, Token
from resilience.policies.retry import Retry
from resilience.policies.timeout import AttemptTimeout, Deadline
from resilience.policy import Policy

__all__ = ["RULES", "engine"]


def engine(login: Source | None = None, *, token: str | Token | None = None, name: str = "callmissed", env: Env | None = None) -> Engine:
    """
    An engine for CallMissed: 30 s a call, 10 s an attempt, four tries, one key a call, one refresh for all, a breaker for each origin.

    Args:
        login: Async function from the stale session token (None for the first) to a new one.  Leave it out for an API key (``cm_...``),
            which never expires and goes into the client's own headers.
        token: The session token to begin with; without one the first call logs in.
        name: The engine's name in events.
        env: Time, chance and the log; the real ones by default.

    Raises:
        ValueError: A *token* without a *login* to renew it.
    """
    if login is None and token is not None:
        raise ValueError("callmissed.engine: token: a session token lives for a day; give the login that renews it, too")
    credentials: list[Policy] = [] if login is None else [RefreshToken(login, token=token)]
    policies: list[Policy] = [Deadline(30), IdempotencyKey(), *credentials, Retry(attempts=4), CircuitBreaker(), AttemptTimeout(10)]
    return Engine(policies, rules=RULES, name=name, env=env)
