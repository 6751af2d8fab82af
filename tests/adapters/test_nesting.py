"""An engine around a function whose client carries an engine: the normal set-up, in which nothing multiplies and nothing is done twice."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from resilience import Deadline, DeadlineExceeded, Engine, IdempotencyKey, RefreshToken, Retry, history
from resilience.demo.faults import Answer, Reset
from resilience.demo.serve import Server
from resilience.dialects import callmissed

pytestmark = pytest.mark.anyio

CALLS = "/api/v1/calls"
POST = f"POST {CALLS}"
BOTS = "/api/v1/bots"
GET = f"GET {BOTS}"
BODY = {"to": "+1"}


def engine(desk: Any, name: str, *policies: Any) -> Engine:
    return Engine(policies, rules=callmissed.RULES, name=name, env=desk.env)


@pytest.fixture
def headers(server: Server) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.api_key()}"}


async def test_a_post_whose_answer_got_lost_is_sent_once_without_a_key(
    over: Any, lib: Any, desk: Any, server: Server, headers: Any
) -> None:
    """D4, D9: neither engine repeats it."""
    server.script(POST, Reset("after"), times=None)
    async with over(engine(desk, "inner", Retry()), base_url=server.url, headers=headers) as client:

        @engine(desk, "outer", Retry())
        async def place() -> Any:
            return await client.post(CALLS, json=BODY)

        with pytest.raises(lib.http.ReadError):
            await place()

    assert {"call.placed": 1} == server.settle().effects
    assert ["unsafe"] == [event.reason for event in desk.of("retry.gave_up") if event.engine == "inner"]


async def test_a_post_that_hangs_is_sent_once_without_a_key(over: Any, lib: Any, desk: Any, odd: Any) -> None:
    server = odd(lambda peer, request: peer.gone())
    async with over(engine(desk, "inner", Retry()), timeout=lib.http.Timeout(5, read=0.03)) as client:
        with pytest.raises(lib.http.ReadTimeout):
            await engine(desk, "outer", Retry()).call(client.post, server.url, json=BODY)

    assert 1 == server.arrived(1)


@pytest.mark.parametrize("raising", [False, True], ids=["returned", "raised"])
async def test_three_by_three_makes_three_tries(over: Any, desk: Any, server: Server, headers: Any, raising: bool) -> None:
    """D9."""
    server.script(GET, Answer(503), times=None)
    async with over(engine(desk, "inner", Retry(attempts=3)), base_url=server.url, headers=headers) as client:

        @engine(desk, "outer", Retry(attempts=3))
        async def fetch() -> Any:
            response = await client.get(BOTS)
            return response.raise_for_status() if raising else response

        try:
            outcome = await fetch()
        except Exception as error:
            outcome = error

    assert 3 == server.settle().requests
    assert ["GET 127.0.0.1"] == [event.operation.rpartition(":")[0] for event in desk.of("engine.nested")]
    assert [503] * len(history(outcome)) == [tried.status for tried in history(outcome)]
    assert raising == isinstance(outcome, Exception)


async def test_first_tries_are_free(over: Any, desk: Any, server: Server, headers: Any) -> None:
    """D9: five good calls under three attempts."""
    async with over(engine(desk, "inner", Retry(attempts=3)), base_url=server.url, headers=headers) as client:

        @engine(desk, "outer", Retry(attempts=3))
        async def fetch() -> list[int]:
            return [(await client.get(BOTS)).status_code for _ in range(5)]

        assert [200] * 5 == await fetch()


async def test_what_failed_fast_inside_is_not_repeated_outside(over: Any, desk: Any, server: Server, headers: Any) -> None:
    server.script(GET, Answer(429, "insufficient_credits"))
    async with over(engine(desk, "inner", Retry()), base_url=server.url, headers=headers) as client:
        # By plain HTTP a 429 is to be repeated; the inner engine read more than the status.
        response = await Engine([Retry()], env=desk.env).call(client.get, BOTS)

    assert 429 == response.status_code
    assert 1 == server.settle().requests


async def test_one_key_serves_the_outer_call_s_repeats(over: Any, desk: Any, server: Server, headers: Any) -> None:
    """D9: the inner call's key comes from the outer one's, in the order in which the calls begin."""
    server.script(POST, Reset("after"))
    async with over(engine(desk, "inner", IdempotencyKey()), base_url=server.url, headers=headers) as client:

        @engine(desk, "outer", IdempotencyKey(), Retry())
        async def place_two() -> list[int]:
            return [(await client.post(CALLS, json={"to": to})).status_code for to in ("+1", "+2")]

        statuses = await place_two()

    counts = server.settle()
    assert [201, 201] == statuses
    assert [2, 1] == list(counts.by_key.values())
    assert {"call.placed": 2} == counts.effects


async def test_a_key_made_by_chance_inside_lets_nobody_repeat_outside(over: Any, lib: Any, desk: Any, server: Server, headers: Any) -> None:
    """D4: the repeat would make another."""
    server.script(POST, Reset("after"), times=None)
    async with over(engine(desk, "inner", IdempotencyKey()), base_url=server.url, headers=headers) as client:
        with pytest.raises(lib.http.ReadError):
            await engine(desk, "outer", Retry()).call(client.post, CALLS, json=BODY)

    assert {"call.placed": 1} == server.settle().effects


async def test_a_key_that_the_function_makes_lets_nobody_repeat_it_either(
    over: Any, lib: Any, desk: Any, server: Server, headers: Any
) -> None:
    """D4: each run of the function would make another; the inner engine may go on with the one it found."""
    server.script(POST, Reset("after"), Reset("before"), Reset("before"))
    async with over(engine(desk, "inner", Retry(attempts=2)), base_url=server.url, headers=headers) as client:

        @engine(desk, "outer", Retry(attempts=5))
        async def place() -> Any:
            return await client.post(CALLS, json=BODY, headers={"Idempotency-Key": uuid.uuid4().hex})

        with pytest.raises(lib.http.ReadError):
            await place()

    counts = server.settle()
    assert ([2], {"call.placed": 1}) == (list(counts.by_key.values()), counts.effects)


async def test_a_key_from_data_serves_repeats_from_outside_too(over: Any, desk: Any, server: Server, headers: Any) -> None:
    """D9: the same data gives the same key, with no key in the outer engine at all."""
    server.script(POST, Reset("after"))
    view = engine(desk, "inner", IdempotencyKey()).using(key_from=("order", 42))
    async with over(view, base_url=server.url, headers=headers) as client:
        response = await engine(desk, "outer", Retry()).call(client.post, CALLS, json=BODY)

    counts = server.settle()
    assert (201, [2], {"call.placed": 1}) == (response.status_code, list(counts.by_key.values()), counts.effects)


async def test_what_the_user_said_of_the_method_comes_before_what_the_inner_engine_knows(
    over: Any, lib: Any, desk: Any, server: Server, headers: Any
) -> None:
    server.script(GET, Reset(), times=None)
    async with over(engine(desk, "inner"), base_url=server.url, headers=headers) as client:
        with pytest.raises(lib.http.ReadError):
            await engine(desk, "outer", Retry()).using(method="POST").call(client.get, BOTS)

    assert 1 == server.settle().requests


async def test_the_attempts_behind_a_status_error_are_in_its_history(over: Any, lib: Any, desk: Any, server: Server, headers: Any) -> None:
    """D11: the engine returned the response; the error was made of it later, outside."""
    server.script(GET, Answer(503), times=None)
    async with over(engine(desk, "only", Retry()), base_url=server.url, headers=headers) as client:
        response = await client.get(BOTS)
        with pytest.raises(lib.http.HTTPStatusError) as caught:
            response.raise_for_status()

    assert [1, 2, 3] == [tried.attempt for tried in history(caught.value)]


async def test_an_unsafe_call_that_went_well_is_not_done_again_for_one_that_failed(
    over: Any, desk: Any, server: Server, headers: Any
) -> None:
    """D4, D9."""
    server.script(GET, Answer(503), times=None)
    async with over(engine(desk, "inner"), base_url=server.url, headers=headers) as client:

        @engine(desk, "outer", Retry())
        async def place_and_look() -> Any:
            await client.post(CALLS, json=BODY)
            return await client.get(BOTS)

        response = await place_and_look()

    assert 503 == response.status_code
    assert {"call.placed": 1} == server.settle().effects


async def test_the_outer_deadline_bounds_the_inner_call_and_names_the_error(over: Any, desk: Any, odd: Any) -> None:
    server = odd(lambda peer, request: peer.gone())
    async with over(engine(desk, "inner", Deadline(5), Retry())) as client:
        with pytest.raises(DeadlineExceeded, match=r"get: exceeded its deadline of 0\.03 s"):
            await engine(desk, "outer", Deadline(0.03), Retry()).call(client.get, server.url)


async def test_both_engines_have_one_refresh_between_them(over: Any, desk: Any, server: Server) -> None:
    """D6, D9: a server that always says 401 sees two requests."""
    logins = []

    async def login(stale: str | None) -> str:
        logins.append(stale)
        return f"new-{len(logins)}"

    refresh = RefreshToken(login, token="old")
    server.script(GET, Answer(401, "token_expired"), times=None)
    async with over(engine(desk, "inner", refresh, Retry()), base_url=server.url) as client:
        response = await engine(desk, "outer", refresh, Retry()).call(client.get, BOTS)

    assert 401 == response.status_code
    assert (1, 2) == (len(logins), server.settle().requests)


async def test_a_client_engine_over_a_transport_engine_is_nested_too(lib: Any, desk: Any, server: Server, headers: Any) -> None:
    """D9."""
    server.script(GET, Answer(503), times=None)
    below = lib.adapter.ResilientTransport(engine(desk, "below", Retry(attempts=3)), lib.http.AsyncHTTPTransport(verify=False))
    async with lib.client(engine(desk, "above", Retry(attempts=3)), transport=below, base_url=server.url, headers=headers) as client:
        response = await client.get(BOTS)

    assert (503, 3) == (response.status_code, server.settle().requests)
    assert "provider_error" == response.json()["error"]["code"]
