"""Our own errors keep their facts through everything that Python does to exceptions (D11, B60, rivals 6.12)."""

from __future__ import annotations

import copy
import functools
import pickle
import traceback
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import pytest
from structlog.contextvars import bound_contextvars

import resilience
from resilience import (
    AttemptTimedOut,
    CircuitOpen,
    DeadlineExceeded,
    Engine,
    RefreshFailed,
    Rejected,
    ResilienceError,
    Retry,
    StreamFailed,
    history,
)
from resilience.history import keep_history
from resilience.testing import World, script

pytestmark = pytest.mark.anyio

COMMON: dict[str, Any] = {"operation": "list bots", "retry_after": 12.5, "status": 503, "code": "provider_error"}
FACTS: dict[type[ResilienceError], dict[str, Any]] = {
    ResilienceError: COMMON,
    Rejected: {**COMMON, "policy": "Bulkhead"},
    CircuitOpen: {**COMMON, "policy": "CircuitBreaker", "key": "https://api.example", "era": "half_open", "tripped_by": "ConnectionError"},
    DeadlineExceeded: {**COMMON, "seconds": 30.0, "attempts": 3},
    AttemptTimedOut: {**COMMON, "seconds": 10.0, "attempt": 2},
    StreamFailed: {**COMMON, "kind": "overloaded_error", "items": 3},
    RefreshFailed: {**COMMON, "reason": "timeout", "detail": "HTTPStatusError 429"},
}
each = pytest.mark.parametrize("kind", FACTS, ids=lambda kind: kind.__name__)


def pickled(protocol: int, error: ResilienceError) -> ResilienceError:
    copied: ResilienceError = pickle.loads(pickle.dumps(error, protocol))
    return copied


WAYS: dict[str, Callable[[ResilienceError], ResilienceError]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle {protocol}": functools.partial(pickled, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)},
}


def facts_of(error: ResilienceError) -> dict[str, Any]:
    return {name: getattr(error, name) for name in FACTS[type(error)]}


def test_the_table_above_is_complete() -> None:
    public = {
        kind for name in resilience.__all__ if isinstance(kind := getattr(resilience, name), type) and issubclass(kind, BaseException)
    }

    assert public == set(FACTS)
    for kind, facts in FACTS.items():
        assert set(kind.facts) == set(facts)


class TestFacts:
    @each
    def test_are_attributes(self, kind: type[ResilienceError]) -> None:
        assert FACTS[kind] == facts_of(kind(**FACTS[kind]))

    @each
    def test_all_have_a_default(self, kind: type[ResilienceError]) -> None:
        error = kind()

        assert ("call", None, None, None) == (error.operation, error.retry_after, error.status, error.code)
        assert str(error).startswith("call: ")

    @pytest.mark.parametrize(("given", "kept"), [(None, None), (0, 0.0), (3.5, 3.5), (-0.001, 0.0), (-1e9, 0.0)])
    def test_a_wait_is_never_negative(self, given: float | None, kept: float | None) -> None:
        """D20."""
        assert kept == CircuitOpen(retry_after=given).retry_after

    def test_only_timeouts_are_timeout_errors(self) -> None:
        assert {DeadlineExceeded, AttemptTimedOut} == {kind for kind in FACTS if issubclass(kind, TimeoutError)}

    @each
    def test_an_unknown_one_is_refused(self, kind: type[ResilienceError]) -> None:
        with pytest.raises(TypeError):
            kind(retry_afer=3)  # type: ignore[call-arg]  # the mistake


class TestMessages:
    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (ResilienceError(operation="pay"), "pay: failed"),
            (Rejected(operation="pay", policy="Bulkhead"), "pay: refused by Bulkhead"),
            (Rejected(operation="pay", policy="Bulkhead", retry_after=0.25), "pay: refused by Bulkhead; try again in 0.25 s"),
            (CircuitOpen(operation="pay"), "pay: circuit open"),
            (
                CircuitOpen(operation="pay", key="https://a", era="half_open", tripped_by="ConnectionError", retry_after=4),
                "pay: circuit half-open for https://a, tripped by ConnectionError; try again in 4 s",
            ),
            (DeadlineExceeded(operation="pay"), "pay: exceeded its deadline after 0 attempt(s)"),
            (
                DeadlineExceeded(operation="pay", seconds=30, attempts=3, status=503, code="provider_error"),
                "pay: exceeded its deadline of 30 s after 3 attempt(s), last failure 503 provider_error",
            ),
            (AttemptTimedOut(operation="pay", seconds=2.5, attempt=2), "pay: attempt 2 took longer than 2.5 s"),
            (RefreshFailed(operation="pay"), "pay: the token refresh failed"),
            (RefreshFailed(operation="pay", reason="timeout"), "pay: the token refresh timed out"),
            (RefreshFailed(operation="pay", reason="cut_short"), "pay: the token refresh was cut short"),
            (
                RefreshFailed(operation="pay", reason="cooling_down", detail="ApiError 429", retry_after=15),
                "pay: the token refresh failed a moment ago (ApiError 429); try again in 15 s",
            ),
        ],
        ids=str,
    )
    def test_say_what_is_known_and_what_to_do(self, error: ResilienceError, message: str) -> None:
        assert message == str(error)
        assert (message,) == error.args

    @each
    def test_stand_braces_and_percent_signs(self, kind: type[ResilienceError]) -> None:
        """B63."""
        assert str(kind(operation="{0} %s %(x)d {x!r}")).startswith("{0} %s %(x)d {x!r}: ")


class TestTravelling:
    @each
    @pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
    def test_keeps_type_facts_message_notes_and_history(self, kind: type[ResilienceError], way: Callable[[Any], Any]) -> None:
        error = kind(**FACTS[kind])
        error.add_note("seen by the tests")
        keep_history(error, ((1, "retry", "rule", "ConnectionError", None, None, "unknown", None, 0.5),))

        other = way(error)

        assert other is not error
        assert type(other) is kind
        assert facts_of(error) == facts_of(other)
        assert str(error) == str(other)
        assert ["seen by the tests"] == other.__notes__
        assert history(error) == history(other)
        assert 1 == len(history(other))

    @each
    def test_what_a_clients_own_base_class_holds_does_not_travel(self, kind: type[ResilienceError]) -> None:
        """An adapter's twin also belongs to its client's family, whose errors hold a request, a connection, a lock."""

        error = kind(**FACTS[kind])
        error.request = lambda: None  # type: ignore[attr-defined]  # what cannot be pickled

        assert not hasattr(pickle.loads(pickle.dumps(error)), "request")

    @each
    def test_each_is_itself_alone(self, kind: type[ResilienceError]) -> None:
        one, other = kind(**FACTS[kind]), kind(**FACTS[kind])

        assert one != other
        assert 2 == len({one, other, one})


@contextmanager
def managed() -> Iterator[None]:
    yield


@asynccontextmanager
async def async_managed() -> Any:
    yield


class TestBeingRaised:
    @each
    async def test_through_everything_it_stays_the_same_object(self, kind: type[ResilienceError]) -> None:
        """Context managers set attributes on what passes through them; frozen exceptions break there."""
        error = kind(**FACTS[kind])
        caught: list[BaseException] = []
        try:
            with anyio.fail_after(60), bound_contextvars(tenant="acme"), managed():
                async with async_managed():
                    raise error
        except ResilienceError as came:
            caught.append(came)

        assert error is caught[0]
        assert FACTS[kind] == facts_of(error)

    @each
    async def test_out_of_a_task_group_it_comes_as_a_leaf(self, kind: type[ResilienceError]) -> None:
        error = kind(**FACTS[kind])

        async def child() -> None:
            raise error

        with pytest.raises(ExceptionGroup) as caught:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(child)

        matched, rest = caught.value.split(kind)
        assert matched is not None
        assert rest is None
        assert (error,) == matched.exceptions

    @each
    def test_its_cause_is_kept(self, kind: type[ResilienceError]) -> None:
        cause = KeyError("why")
        with pytest.raises(kind) as caught:
            raise kind(**FACTS[kind]) from cause

        assert cause is caught.value.__cause__
        assert "KeyError: 'why'" in "".join(traceback.format_exception(caught.value))

    @each
    async def test_through_an_engine_it_comes_out_as_the_operation_raised_it(self, world: World, kind: type[ResilienceError]) -> None:
        """An engine around another library that uses this one must not take its errors for its own."""
        error = kind(**FACTS[kind])

        with pytest.raises(kind) as caught:
            await Engine([Retry(attempts=1)], env=world.env).call(script(error))

        assert error is caught.value
        assert 1 == len(history(error))
