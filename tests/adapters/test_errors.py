"""Our own errors, as members of the client's family."""

from __future__ import annotations

import copy
import importlib
import pickle
from collections.abc import Callable
from typing import Any

import anyio
import pytest

import resilience
from resilience import (
    AttemptTimedOut,
    AttemptTimeout,
    CircuitBreaker,
    CircuitOpen,
    Deadline,
    DeadlineExceeded,
    Engine,
    RefreshFailed,
    RefreshToken,
    Rejected,
    ResilienceError,
    Retry,
    Signal,
    history,
)
from resilience.dialects import http
from resilience.history import keep_history
from resilience.reading.shape import read

pytestmark = pytest.mark.anyio

TWINS = {
    "HttpxRejected": (Rejected(operation="op", policy="Bulkhead", retry_after=1.5), "TransportError"),
    "HttpxCircuitOpen": (CircuitOpen(operation="op", key="k", era="half_open", tripped_by="503", retry_after=3), "TransportError"),
    "HttpxDeadlineExceeded": (DeadlineExceeded(operation="op", seconds=30.0, attempts=2, status=503, code="busy"), "TimeoutException"),
    "HttpxAttemptTimedOut": (AttemptTimedOut(operation="op", seconds=10.0, attempt=3), "TimeoutException"),
    "HttpxRefreshFailed": (RefreshFailed(operation="op", reason="timeout", detail="KeyError", status=429), "TransportError"),
}


@pytest.fixture(params=TWINS)
def twin(request: pytest.FixtureRequest, lib: Any) -> Any:
    plain, _ = TWINS[request.param]
    error = getattr(lib.adapter, request.param)(**{name: getattr(plain, name) for name in plain.facts})
    error.request = lib.http.Request("POST", "https://api.example/secret", headers={"Authorization": "Bearer MARKER"})
    error.__cause__ = KeyError("MARKER")
    error.add_note("noted")
    keep_history(error, ((1, "retry", "rule", "Busy", 503, "busy", "unknown", None, 0.1),))
    return error


def test_a_twin_belongs_to_both_families_and_says_the_same(lib: Any, twin: Any) -> None:
    plain, family = TWINS[type(twin).__name__]

    assert isinstance(twin, type(plain))
    assert isinstance(twin, getattr(lib.http, family))
    assert isinstance(twin, lib.http.HTTPError)
    assert isinstance(twin, TimeoutError) == (family == "TimeoutException")
    assert str(plain) == str(twin)


@pytest.mark.parametrize(
    "make", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))], ids=["copy", "deepcopy", "pickle"]
)
def test_a_twin_survives_copies_and_pickles_without_its_request(twin: Any, make: Any) -> None:
    """D11, B60; rivals 12."""
    again = make(twin)

    assert type(twin) is type(again)
    assert {name: getattr(twin, name) for name in twin.facts} == {name: getattr(again, name) for name in twin.facts}
    assert (str(twin), ["noted"], history(twin)) == (str(again), again.__notes__, history(again))
    assert b"MARKER" not in pickle.dumps(twin)
    with pytest.raises(RuntimeError, match="request"):
        _ = again.request


def test_a_twin_without_a_request_says_so_as_any_error_of_the_client_does(lib: Any) -> None:
    for name in TWINS:
        with pytest.raises(RuntimeError, match="request"):
            _ = getattr(lib.adapter, name)().request


def test_a_twin_is_read_and_classified_as_what_it_says(twin: Any) -> None:
    """An engine further out must not take an open circuit for a lost connection."""
    plain, _ = TWINS[type(twin).__name__]
    signals = [read(error, wall=0.0) for error in (plain, twin)]

    assert signals[0].phase == signals[1].phase
    assert http.RULES.classify(signals[0]) == http.RULES.classify(signals[1])


def test_a_rule_for_an_error_of_ours_holds_for_its_twins(lib: Any) -> None:
    for key in (CircuitOpen, "resilience.CircuitOpen"):
        rules = http.RULES.extend("mine", by_error={key: "retry"})

        assert "mine: error CircuitOpen" in rules.classify(Signal(raised=lib.adapter.HttpxCircuitOpen)).rule.replace("resilience.", "")


def test_the_adapters_for_both_libraries_have_the_same_face() -> None:
    names = [importlib.import_module(f"resilience.adapters.{name}").__all__ for name in ("httpx2", "httpx")]

    assert names[0] == names[1]
    assert set(TWINS) < set(names[0])


# As they are raised.


def hanging(peer: Any, request: bytes) -> None:
    peer.gone()


async def raised_by(over: Any, engine: Engine, url: str) -> tuple[Any, Any]:
    """The last of two calls' errors, and the request that it was for."""
    error = request = None
    async with over(engine) as client:
        for _ in range(2):
            request = client.build_request("GET", url)
            try:
                await client.send(request)
            except Exception as raised:
                error = raised
    return error, request


async def no_login(stale: str | None) -> str:
    raise KeyError("nobody is home")


CASES: dict[str, Callable[[], list[Any]]] = {
    "HttpxDeadlineExceeded": lambda: [Deadline(0.02)],
    "HttpxAttemptTimedOut": lambda: [Retry(attempts=2), AttemptTimeout(0.02)],
    "HttpxRefreshFailed": lambda: [RefreshToken(no_login)],
    "HttpxCircuitOpen": lambda: [CircuitBreaker(consecutive=1, failure_ratio=1), AttemptTimeout(0.02)],
}


@pytest.mark.parametrize("name", CASES)
async def test_what_we_raise_is_of_the_client_s_family_and_names_the_request(over: Any, lib: Any, desk: Any, odd: Any, name: str) -> None:
    """D28."""
    error, request = await raised_by(over, Engine(CASES[name](), env=desk.env), odd(hanging).url)

    assert getattr(lib.adapter, name) is type(error)
    assert request is error.request
    assert isinstance(error, ResilienceError)


async def test_cause_and_history_are_kept(over: Any, lib: Any, desk: Any, odd: Any) -> None:
    """D11, D20."""

    def play(peer: Any, request: bytes) -> None:
        if len(peer.odd.requests) > 1:
            peer.gone()
        desk.now += 9.96
        peer.answer(503)

    server = odd(play)
    async with over(Engine([Deadline(10), Retry()], env=desk.stopped())) as client:
        with pytest.raises(lib.adapter.HttpxDeadlineExceeded) as late:
            await client.get(server.url)
        with pytest.raises(lib.adapter.HttpxRefreshFailed) as failed:
            async with over(Engine([RefreshToken(no_login)], env=desk.env)) as other:
                await other.get(server.url)

    assert (2, 503) == (late.value.attempts, late.value.status)
    assert [503, None] == [tried.status for tried in history(late.value)]
    assert isinstance(failed.value.__cause__, KeyError)


async def test_each_is_a_fresh_instance(over: Any, desk: Any, odd: Any) -> None:
    server = odd(lambda peer, request: peer.answer(503))
    errors = []
    async with over(Engine([CircuitBreaker(consecutive=1, failure_ratio=1)], env=desk.env)) as client:
        for _ in range(3):
            try:
                await client.get(server.url)
            except CircuitOpen as error:
                errors.append(error)

    assert (2, 2) == (len(errors), len(set(map(id, errors))))


async def test_a_plain_error_of_ours_out_of_the_operation_passes_as_the_same_object(lib: Any, desk: Any, odd: Any) -> None:
    """D11: of another engine, which a hook asked."""
    other = Engine([Deadline(0.01)])
    raised = []

    async def ask(request: Any) -> None:
        try:
            await other.call(anyio.sleep, 5)
        except DeadlineExceeded as error:
            raised.append(error)
            raise

    async with lib.client(Engine([Retry()], env=desk.env), event_hooks={"request": [ask]}) as client:
        with pytest.raises(DeadlineExceeded) as caught:
            await client.get(odd(hanging).url)

    assert raised[-1] is caught.value
    assert DeadlineExceeded is type(caught.value)


async def test_a_user_s_own_rejection_passes_as_it_is(over: Any, desk: Any, odd: Any) -> None:
    class Full(Rejected):
        pass

    class Bulkhead:
        def bind(self, inner: Any, env: Any) -> Any:
            async def refuse(call: Any) -> Any:
                error = Full(operation=call.operation, policy="Bulkhead")
                return resilience.Failure(http.RULES.classify(Signal(raised=Full)), Signal(raised=Full), error)

            return refuse

    server = odd(hanging)
    async with over(Engine([Bulkhead()], env=desk.env)) as client:
        with pytest.raises(Full, match="refused by Bulkhead"):
            await client.get(server.url)

    assert [] == server.requests


async def test_what_was_rejected_inside_is_not_repeated_outside(over: Any, lib: Any, desk: Any, odd: Any) -> None:
    """D9, D19: the twin's other family is one that is repeated, and our rejection is not."""
    server = odd(lambda peer, request: peer.answer(503))
    async with over(Engine([CircuitBreaker(consecutive=1, failure_ratio=1)], env=desk.env)) as client:
        await client.get(server.url)

        @Engine([Retry()], env=desk.env)
        async def fetch() -> Any:
            return await client.get(server.url)

        with pytest.raises(lib.adapter.HttpxCircuitOpen):
            await fetch()

    assert 1 == len(server.requests)
    assert [] == desk.slept
