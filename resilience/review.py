"""What cannot work in an order of policies, and what looks doubtful.  Pure; the engine refuses the one and warns of the other."""

from __future__ import annotations

from collections.abc import Sequence

from resilience.policies.circuit_breaker import CircuitBreaker
from resilience.policies.idempotency import IdempotencyKey
from resilience.policies.refresh import RefreshToken
from resilience.policies.retry import Retry
from resilience.policies.timeout import AttemptTimeout, Deadline

__all__ = ["doubts", "refusals"]


def _first(policies: Sequence[object], kind: type) -> int | None:
    return next((index for index, policy in enumerate(policies) if isinstance(policy, kind)), None)


def refusals(policies: Sequence[object]) -> list[str]:
    """Why this order cannot work, with the numbers; empty if it can."""
    found: list[str] = []
    for kind in (Retry, RefreshToken, IdempotencyKey, Deadline, AttemptTimeout):
        places = [index for index, policy in enumerate(policies) if isinstance(policy, kind)]
        if len(places) > 1:
            found.append(f"{kind.__name__} stands at {_places(places)}: one is enough, and two would {_TWICE[kind]}")
    for index, policy in enumerate(policies):
        if any(policy is other for other in policies[:index]):
            found.append(f"the same {type(policy).__name__} object stands twice")
    retry, deadline = _first(policies, Retry), _first(policies, Deadline)
    if retry is not None and deadline is not None and retry < deadline:
        found.append(
            f"Deadline (at {deadline}) inside Retry (at {retry}) would give each repeat the whole time anew; "
            "put Deadline first, or use AttemptTimeout for a limit to each attempt"
        )
    return found


_TWICE = {
    Retry: "multiply their attempts",
    RefreshToken: "take turns in replacing each other's token",
    IdempotencyKey: "disagree about the key",
    Deadline: "leave only the shorter standing",
    AttemptTimeout: "leave only the shorter standing",
}


def _places(places: Sequence[int]) -> str:
    return " and ".join(str(place) for place in places)


def doubts(policies: Sequence[object]) -> list[str]:
    """What looks wrong with this order, though it works; empty if nothing does."""
    found: list[str] = []
    retry, refresh, breaker = _first(policies, Retry), _first(policies, RefreshToken), _first(policies, CircuitBreaker)
    deadline = next((policy for policy in policies if isinstance(policy, Deadline)), None)
    timeout = next((policy for policy in policies if isinstance(policy, AttemptTimeout)), None)
    if deadline is not None and timeout is not None and timeout.seconds >= deadline.seconds:
        found.append(
            f"AttemptTimeout({timeout.seconds:g}) is no shorter than Deadline({deadline.seconds:g}): "
            "the first attempt may use up all the time"
        )
    if retry is not None and breaker is not None and breaker < retry:
        found.append("CircuitBreaker outside Retry sees one outcome a call, not each attempt; put it after Retry")
    if refresh is not None and breaker is not None and breaker < refresh:
        found.append("CircuitBreaker outside RefreshToken sees a refresh and its repeat as one attempt; put it after RefreshToken")
    place = _first(policies, Deadline)
    if refresh is not None and place is not None and refresh < place:
        found.append("Deadline inside RefreshToken does not bound the login that comes before the first attempt; put Deadline first")
    place = _first(policies, AttemptTimeout)
    if place is not None and retry is not None and place < retry:
        found.append("AttemptTimeout bounds each attempt wherever it stands; write it after Retry, so that it reads as it works")
    return found
