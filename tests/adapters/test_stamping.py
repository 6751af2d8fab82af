"""Which requests carry the call's key and token, and that nobody else ever sees them."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from resilience import CircuitBreaker, Engine, IdempotencyKey, RefreshToken, Retry
from resilience.demo.faults import Answer, Redirect, Reset
from resilience.demo.serve import Server
from resilience.dialects import callmissed

pytestmark = pytest.mark.anyio

CALLS = "/api/v1/calls"
POST = f"POST {CALLS}"
BOTS = "/api/v1/bots"
GET = f"GET {BOTS}"
BODY = {"to": "+1"}


async def no_login(stale: str | None) -> str:
    raise AssertionError("no refresh was called for")


def engine(desk: Any, token: str, **settings: Any) -> Engine:
    policies: list[Any] = [IdempotencyKey(), RefreshToken(no_login, token=token, **settings), Retry()]
    return Engine(policies, rules=callmissed.RULES, env=desk.env)


# Keys.


async def test_all_attempts_of_a_call_carry_one_key_and_the_next_call_another(over: Any, desk: Any, server: Server) -> None:
    """D4, B47: the answer of the first was lost, and the work was done once."""
    server.script(POST, Reset("after"), Answer(503))
    async with over(engine(desk, server.api_key()), base_url=server.url) as client:
        responses = [await client.post(CALLS, json=BODY) for _ in range(2)]

    counts = server.settle()
    assert [201, 201] == [response.status_code for response in responses]
    assert [3, 1] == list(counts.by_key.values())
    assert {"call.placed": 2} == counts.effects


async def test_a_key_survives_a_refresh(over: Any, desk: Any, server: Server) -> None:
    """B47."""
    good = server.sign_in().access_token

    async def login(stale: str | None) -> str:
        return good

    stale = server.sign_in()
    server.script(POST, Answer(401, "token_expired"))
    policies: list[Any] = [IdempotencyKey(), RefreshToken(login, token=stale.access_token), Retry()]
    async with over(Engine(policies, rules=callmissed.RULES, env=desk.env), base_url=server.url) as client:
        response = await client.post(CALLS, json=BODY)

    assert 201 == response.status_code
    assert [2] == list(server.settle().by_key.values())


@pytest.mark.parametrize(
    ("method", "stamped"), [("GET", False), ("DELETE", False), ("HEAD", False), ("POST", True), ("PUT", True), ("PATCH", True)]
)
async def test_only_methods_that_change_something_get_a_key(over: Any, desk: Any, odd: Any, method: str, stamped: bool) -> None:
    server = odd(lambda peer, request: peer.answer(200))
    async with over(Engine([IdempotencyKey()], env=desk.env)) as client:
        await client.request(method, server.url)

    assert stamped == (b"idempotency-key: " in server.requests[0].lower())
    assert stamped == ("key.taken" in desk.names())


async def test_the_methods_and_the_header_are_the_policy_s(over: Any, desk: Any, odd: Any) -> None:
    server = odd(lambda peer, request: peer.answer(200))
    async with over(Engine([IdempotencyKey(header="X-Once", methods={"DELETE"})], env=desk.env)) as client:
        await client.delete(server.url)
        await client.post(server.url)

    assert [True, False] == [b"x-once: " in request.lower() for request in server.requests]
    assert [False, False] == [b"idempotency-key" in request.lower() for request in server.requests]


@pytest.mark.parametrize("header", ["Idempotency-Key", "X-Once"])
async def test_a_key_that_the_caller_set_goes_out_as_it_is_and_counts(over: Any, desk: Any, odd: Any, header: str) -> None:
    """B49: a custom header is honoured both where keys are sent and where it is asked whether there is one."""

    def play(peer: Any, request: bytes) -> None:
        peer.answer(200) if len(peer.odd.requests) > 1 else peer.connection.close()

    server = odd(play)
    async with over(Engine([IdempotencyKey(header=header), Retry()], env=desk.env)) as client:
        response = await client.post(server.url, headers={header: "order-42"})

    assert 200 == response.status_code
    assert [1, 1] == [request.lower().count(f"{header}: order-42\r\n".lower().encode()) for request in server.requests]
    assert [0, 0] == [request.lower().count(b"idempotency-key") - (header != "X-Once") for request in server.requests]


async def test_a_key_that_the_caller_set_counts_without_a_policy_too(over: Any, desk: Any, odd: Any) -> None:
    def play(peer: Any, request: bytes) -> None:
        peer.answer(200) if len(peer.odd.requests) > 1 else peer.connection.close()

    server = odd(play)
    async with over(Engine([Retry()], env=desk.env)) as client:
        response = await client.post(server.url, headers={"Idempotency-Key": "order-42"})

    assert 200 == response.status_code
    assert 2 == len(server.requests)


@pytest.mark.parametrize("policies", [[Retry()], [IdempotencyKey(), Retry()]])
async def test_an_empty_key_of_the_caller_s_is_none(over: Any, lib: Any, desk: Any, odd: Any, policies: list[Any]) -> None:
    """D4: a variable that was not set must not make a payment repeatable."""

    def play(peer: Any, request: bytes) -> None:
        peer.answer(200) if len(peer.odd.requests) > 1 else peer.connection.close()

    server = odd(play)
    async with over(Engine(policies, env=desk.env)) as client:
        with contextlib.suppress(lib.http.TransportError):
            await client.post(server.url, headers={"Idempotency-Key": ""})

    keys = {line for request in server.requests for line in request.lower().split(b"\r\n") if line.startswith(b"idempotency-key")}
    assert (len(policies), 1) == (len(server.requests), len(keys))
    assert (len(policies) > 1) == (keys != {b"idempotency-key: "})


async def test_without_a_key_an_answer_that_got_lost_is_not_asked_for_again(over: Any, lib: Any, desk: Any, server: Server) -> None:
    """D4: the read error tells nothing about the work."""
    server.script(POST, Reset("after"))
    async with over(Engine([Retry()], env=desk.env), base_url=server.url, headers={"x-api-key": "-"}) as client:
        with pytest.raises(lib.http.ReadError):
            await client.post(CALLS, json=BODY, headers={"Authorization": f"Bearer {server.api_key()}"})

    assert {"call.placed": 1} == server.settle().effects
    assert ["unsafe"] == [event.reason for event in desk.of("retry.gave_up")]


async def test_without_a_key_what_was_never_sent_is_sent_again(over: Any, lib: Any, desk: Any, server: Server) -> None:
    """D4."""
    async with over(Engine([Retry()], env=desk.env), base_url=server.url) as client:
        with server.down(), pytest.raises(lib.http.ConnectError):
            await client.post(CALLS, json=BODY)

    assert 2 == len(desk.slept)


async def test_a_key_from_data_uses_method_and_path(over: Any, desk: Any, odd: Any) -> None:
    server = odd(lambda peer, request: peer.answer(200))
    view = Engine([IdempotencyKey()], env=desk.env).using(key_from=("order", 42))
    async with over(view) as client:
        for path in ("/charge?at=1", "/charge?at=2", "/refund"):
            await client.post(server.url + path)
        await client.patch(server.url + "/charge")

    keys = [next(line for line in request.lower().split(b"\r\n") if line.startswith(b"idempotency-key")) for request in server.requests]
    assert keys[0] == keys[1]
    assert 3 == len(set(keys))


# Tokens.


async def test_the_token_goes_with_every_attempt_and_in_place_of_any_other(over: Any, desk: Any, server: Server) -> None:
    """B46: an old credential in the client's headers does not come back."""
    token = server.sign_in().access_token
    server.script(GET, Answer(503))
    headers = {"Authorization": "Bearer stale", "x-api-key": "untouched"}
    async with over(engine(desk, token), base_url=server.url, headers=headers) as client:
        response = await client.get(BOTS)

    assert 200 == response.status_code
    assert {token: 2} == server.settle().by_credential
    assert ["untouched"] * 2 == [seen.headers["x-api-key"] for seen in server.counts().seen]


async def test_without_a_token_authorization_stays_the_caller_s(over: Any, desk: Any, odd: Any) -> None:
    server = odd(lambda peer, request: peer.answer(200))
    async with over(Engine([Retry()], env=desk.env), headers={"Authorization": "Bearer mine"}) as client:
        await client.get(server.url)
        await client.get(server.url, auth=("ada", "secret"))

    assert b"\r\nauthorization: bearer mine\r\n" in server.requests[0].lower()
    assert b"\r\nauthorization: basic " in server.requests[1].lower()


async def test_after_a_refresh_the_new_token_is_used_even_after_a_later_failure(over: Any, desk: Any, server: Server) -> None:
    """D6, B46: 401, refresh, 503, 200."""
    new = server.sign_in().access_token

    async def login(stale: str | None) -> str:
        return new

    old = server.sign_in().access_token
    server.script(GET, Answer(401, "token_expired"), Answer(503))
    policies: list[Any] = [RefreshToken(login, token=old), Retry()]
    async with over(Engine(policies, rules=callmissed.RULES, env=desk.env), base_url=server.url) as client:
        response = await client.get(BOTS)

    assert 200 == response.status_code
    assert [old, new, new] == [seen.credential for seen in server.settle().seen]


async def test_a_login_through_the_same_client_goes_without_a_token(over: Any, desk: Any, server: Server) -> None:
    """B45: the refresh never passes through its own policy."""
    clients: list[Any] = []

    async def login(stale: str | None) -> str:
        response = await clients[0].post("/api/v1/auth/login", json={"email": "ada@acme.example", "password": "correct horse"})
        return str(response.json()["access_token"])

    policies: list[Any] = [IdempotencyKey(), RefreshToken(login), Retry()]
    async with over(Engine(policies, rules=callmissed.RULES, env=desk.env), base_url=server.url) as client:
        clients.append(client)
        response = await client.get(BOTS)

    assert 200 == response.status_code
    assert [None, response.request.method] == [server.settle().seen[0].credential, "GET"]


async def test_a_token_is_sent_to_the_origins_it_was_declared_for(over: Any, desk: Any, odd: Any) -> None:
    mine, others = odd(lambda peer, request: peer.answer(200)), odd(lambda peer, request: peer.answer(200))
    async with over(engine(desk, "t0ken", origins={mine.url.upper(), "https://api.example:443"})) as client:
        await client.get(mine.url)
        await client.get(others.url)

    assert [True, False] == [b"t0ken" in server.requests[0] for server in (mine, others)]


async def test_the_default_port_is_part_of_no_origin(lib: Any, desk: Any) -> None:
    seen = []

    def answer(request: Any) -> Any:
        seen.append(request.headers.get("authorization"))
        return lib.http.Response(200)

    origins = {"https://API.example:443", "http://[::1]:80", "https://b\u00fccher.example"}
    async with lib.client(engine(desk, "t0ken", origins=origins), transport=lib.http.MockTransport(answer)) as client:
        for url in (
            "https://api.example/",
            "http://[::1]/x",
            "https://B\u00fccher.example",
            "http://api.example",
            "https://api.example:444",
        ):
            await client.get(url)

    assert ["Bearer t0ken"] * 3 + [None] * 2 == seen


# Redirects.


@pytest.mark.parametrize("status", [307, 308])
async def test_a_redirect_to_the_same_origin_keeps_key_and_token_and_call(over: Any, desk: Any, server: Server, status: int) -> None:
    token = server.api_key()
    server.script(POST, Redirect("same", status))
    async with over(engine(desk, token), base_url=server.url, follow_redirects=True) as client:
        response = await client.post(CALLS, json=BODY)

    counts = server.settle()
    assert (201, 2) == (response.status_code, counts.requests)
    assert [2] == list(counts.by_key.values())
    assert {token: 2} == counts.by_credential
    assert {"call.placed": 1} == counts.effects
    assert 1 == len({event.call for event in desk.events})
    assert 1 == desk.names().count("key.taken")


@pytest.mark.parametrize("status", [307, 308])
async def test_a_redirect_to_another_origin_carries_neither_key_nor_token(over: Any, desk: Any, server: Server, status: int) -> None:
    token = server.api_key()
    server.script(POST, Redirect("other", status))
    async with over(engine(desk, token), base_url=server.url, follow_redirects=True) as client:
        response = await client.post(CALLS, json=BODY)

    counts = server.settle()
    (there,) = counts.elsewhere
    assert {"origin": "other"} == response.json()
    assert ("POST", None, None) == (there.method, there.credential, there.key)
    assert token not in repr(there.headers)
    assert [1, {token: 1}] == [len(counts.by_key), counts.by_credential]


async def test_a_redirect_that_the_caller_follows_by_hand_carries_neither_elsewhere(over: Any, desk: Any, odd: Any) -> None:
    """However often: the client strips its own credentials from such a request, so that it may be sent without a thought."""
    away = odd(lambda peer, request: peer.answer(200))
    home = odd(lambda peer, request: peer.answer(307, location=away.url))
    async with over(engine(desk, "s3cret")) as client:
        response = await client.post(home.url, json=BODY)
        for request in (response.next_request, response.next_request, (await client.send(response.next_request)).request):
            await client.send(request)

    assert 4 == len(away.requests)
    assert not any(b"s3cret" in request or b"idempotency-key" in request.lower() for request in away.requests)


async def test_an_engine_in_a_transport_under_one_in_a_client_knows_another_origin_too(lib: Any, desk: Any, odd: Any) -> None:
    away = odd(lambda peer, request: peer.answer(200))
    home = odd(lambda peer, request: peer.answer(307, location=away.url))
    inner = lib.adapter.ResilientTransport(engine(desk, "s3cret"))
    async with lib.client(Engine(env=desk.env), transport=inner, follow_redirects=True) as client:
        await client.post(home.url, json=BODY)

    assert [True, False] == [b"s3cret" in request for request in (*home.requests, *away.requests)]
    assert [True, False] == [b"idempotency-key" in request.lower() for request in (*home.requests, *away.requests)]


async def test_an_engine_in_a_transport_under_one_in_a_client_has_one_key_for_all_hops(lib: Any, desk: Any, odd: Any) -> None:
    """D4: the first attempt's answer got lost, the second was sent elsewhere."""

    def play(peer: Any, request: bytes) -> None:
        hops = len(peer.odd.requests)
        peer.connection.close() if hops == 1 else peer.answer(307, location="/2") if hops == 2 else peer.answer(200)

    server = odd(play)
    inner = lib.adapter.ResilientTransport(Engine([IdempotencyKey(), Retry()], env=desk.env))
    async with lib.client(Engine(env=desk.env), transport=inner, follow_redirects=True) as client:
        for _ in range(2):
            assert 200 == (await client.post(server.url, json=BODY)).status_code

    keys = [line for each in server.requests for line in each.lower().split(b"\r\n") if line.startswith(b"idempotency-key")]
    assert [3, 1] == [keys.count(key) for key in dict.fromkeys(keys)]


@pytest.mark.parametrize("policies", [[IdempotencyKey(), Retry()], [Retry()]])
async def test_a_key_that_the_caller_set_goes_to_no_other_origin_either(over: Any, lib: Any, desk: Any, odd: Any, policies: Any) -> None:
    """And what is done there is done without a key, so that it is done once."""
    away = odd(lambda peer, request: peer.connection.close())
    home = odd(lambda peer, request: peer.answer(307, location=away.url))
    async with over(Engine(policies, env=desk.env), follow_redirects=True) as client:
        with pytest.raises(lib.http.TransportError):
            await client.post(home.url, json=BODY, headers={"Idempotency-Key": "order-42"})

    assert (1, 1) == (len(home.requests), len(away.requests))
    assert b"order-42" in home.requests[0]
    assert b"order-42" not in away.requests[0]


async def test_a_401_from_an_origin_that_gets_no_token_calls_for_no_other_token(over: Any, desk: Any, odd: Any) -> None:
    """It says nothing about the token; an origin that always says so would use up the refreshes of all calls."""
    away = odd(lambda peer, request: peer.answer(401))
    home = odd(lambda peer, request: peer.answer(307, location=away.url))
    async with over(engine(desk, "t", origins=home.url), follow_redirects=True) as client:
        there = await client.get(away.url)
        on_the_way = await client.get(home.url)

    assert [401, 401] == [there.status_code, on_the_way.status_code]
    assert (2, 1) == (len(away.requests), len(home.requests))


async def test_a_redirect_back_home_gets_them_again(over: Any, desk: Any, server: Server, odd: Any) -> None:
    token = server.api_key()
    home: Any = odd(lambda peer, request: peer.answer(307, location=away.url) if len(peer.odd.requests) < 2 else peer.answer(200))
    away: Any = odd(lambda peer, request: peer.answer(307, location=home.url))
    async with over(engine(desk, token), follow_redirects=True) as client:
        response = await client.post(home.url, json=BODY)

    keys = {line for request in home.requests for line in request.lower().split(b"\r\n") if line.startswith(b"idempotency-key: ")}
    assert (200, 2, 1) == (response.status_code, len(home.requests), len(away.requests))
    assert [1, 1] == [request.count(f"Authorization: Bearer {token}".encode()) for request in home.requests]
    assert 1 == len(keys)
    assert b"idempotency" not in away.requests[0].lower()
    assert token.encode() not in away.requests[0]
    assert all(request.endswith(b'{"to":"+1"}') for request in home.requests + away.requests)


async def test_a_redirect_that_becomes_a_get_needs_no_key(over: Any, desk: Any, server: Server) -> None:
    server.script(POST, Redirect("same", 303, BOTS))
    token = server.api_key()
    async with over(engine(desk, token), base_url=server.url, follow_redirects=True) as client:
        response = await client.post(CALLS, json=BODY)

    counts = server.settle()
    assert 200 == response.status_code
    assert [("POST", True), ("GET", False)] == [(seen.method, seen.key is not None) for seen in counts.seen]
    assert {token: 2} == counts.by_credential


async def test_a_redirect_that_the_caller_follows_by_hand_is_still_the_same_call(lib: Any, desk: Any, server: Server) -> None:
    server.script(POST, Redirect("same"))
    async with lib.over_transport(engine(desk, server.api_key()), base_url=server.url) as client:
        response = await client.post(CALLS, json=BODY)
        response = await client.send(response.next_request)

    assert 201 == response.status_code
    assert [2] == list(server.settle().by_key.values())


async def test_a_request_once_redirected_is_a_new_call_when_it_is_sent_again(over: Any, desk: Any, server: Server) -> None:
    server.script(POST, Redirect("same"), times=None)
    async with over(engine(desk, server.api_key()), base_url=server.url) as client:
        request = client.build_request("POST", CALLS, json=BODY)
        for _ in range(2):
            await client.send(request)

    assert [1, 1] == list(server.settle().by_key.values())


async def test_so_is_one_that_was_redirected_twice_and_the_one_that_this_led_to(over: Any, desk: Any, odd: Any) -> None:
    """A replayed key would have the peer leave the new wish undone, and the old deadline is over."""

    def play(peer: Any, request: bytes) -> None:
        peer.answer(200) if b" /2 " in request else peer.answer(307, location="/2" if b" /1 " in request else "/1")

    server = odd(play)
    async with over(engine(desk, "t"), follow_redirects=True) as client:
        request = client.build_request("POST", server.url, json=BODY)
        response = await client.send(request)
        await client.send(request)
        await client.send(response.request)

    keys = [line for each in server.requests for line in each.lower().split(b"\r\n") if line.startswith(b"idempotency-key")]
    assert [3, 3, 1] == [keys.count(key) for key in dict.fromkeys(keys)]


async def test_hops_share_the_call_s_repeats_and_its_time(lib: Any, desk: Any, server: Server) -> None:
    """A redirect is no repeat, and gives none back either."""
    server.script(POST, Answer(503), Redirect("same"), Answer(503), Answer(503))
    async with lib.over_transport(engine(desk, server.api_key()), base_url=server.url, follow_redirects=True) as client:
        response = await client.post(CALLS, json=BODY)

    assert 503 == response.status_code
    assert 4 == server.settle().requests
    assert [1, 3, 4] == [event.attempt for event in desk.of("attempt.failed")]
    assert ["attempts"] == [event.reason for event in desk.of("retry.gave_up")]
    assert 1 == len(server.counts().by_key)


async def test_a_redirect_into_another_engine_s_transport_is_that_engine_s_own_call(lib: Any, desk: Any, odd: Any) -> None:
    away = odd(lambda peer, request: peer.answer(200))
    home = odd(lambda peer, request: peer.answer(307, location=away.url))
    inner = lib.http.AsyncHTTPTransport(verify=False)
    mounts = {url: lib.adapter.ResilientTransport(engine(desk, token), inner) for url, token in ((home.url, "mine"), (away.url, "theirs"))}
    async with lib.http.AsyncClient(mounts=mounts, verify=False, follow_redirects=True) as client:
        response = await client.post(home.url, json=BODY)

    assert 200 == response.status_code
    assert [b"mine", b"theirs"] == [request.partition(b"Bearer ")[2].partition(b"\r\n")[0] for request in home.requests + away.requests]
    assert 2 == desk.names().count("key.taken")


# What happened at another origin happened without a key.


async def test_a_post_that_another_origin_may_have_done_is_not_repeated(over: Any, lib: Any, desk: Any, odd: Any) -> None:
    """D4: home would know the key again, but it was not home that did the work."""
    away = odd(lambda peer, request: peer.connection.close())
    home = odd(lambda peer, request: peer.answer(307, location=away.url))
    async with over(engine(desk, "t"), follow_redirects=True) as client:
        with pytest.raises(lib.http.TransportError):
            await client.post(home.url, json=BODY)

    assert (1, 1) == (len(home.requests), len(away.requests))
    assert ["unsafe"] == [event.reason for event in desk.of("retry.gave_up")]


async def test_a_post_that_another_origin_refused_is_repeated(over: Any, desk: Any, odd: Any) -> None:
    away = odd(lambda peer, request: peer.answer(429) if len(peer.odd.requests) < 2 else peer.answer(200))
    home = odd(lambda peer, request: peer.answer(307, location=away.url))
    async with over(engine(desk, "t"), follow_redirects=True) as client:
        response = await client.post(home.url, json=BODY)

    assert 200 == response.status_code
    assert 2 == len(away.requests)


@pytest.mark.parametrize("status", [301, 302, 303])
async def test_a_post_answered_with_see_other_is_not_repeated_because_the_hop_after_it_never_left(
    lib: Any, desk: Any, odd: Any, status: int
) -> None:
    """D4: the connection that failed was for the GET; the POST was done."""
    closed = odd(lambda peer, request: None)
    home = odd(lambda peer, request: peer.answer(status, location=closed.url))
    closed.close()
    async with lib.client(Engine([Retry()], env=desk.env), follow_redirects=True) as client:
        with pytest.raises(lib.http.ConnectError):
            await client.post(home.url, json=BODY)

    assert 1 == len(home.requests)
    assert ["unsafe"] == [event.reason for event in desk.of("retry.gave_up")]


async def test_with_a_key_it_is(lib: Any, desk: Any, odd: Any) -> None:
    closed = odd(lambda peer, request: None)
    home = odd(lambda peer, request: peer.answer(303, location=closed.url))
    closed.close()
    async with lib.client(Engine([IdempotencyKey(), Retry()], env=desk.env), follow_redirects=True) as client:
        with pytest.raises(lib.http.ConnectError):
            await client.post(home.url, json=BODY)

    assert 3 == len(home.requests)
    assert 1 == len({line for request in home.requests for line in request.lower().split(b"\r\n") if line.startswith(b"idempotency-key")})


@pytest.mark.parametrize(("status", "policies", "sent"), [(201, [], 1), (503, [], 1), (429, [], 3), (201, [IdempotencyKey()], 3)])
async def test_a_post_that_was_answered_is_not_repeated_because_a_hook_s_own_request_never_left(
    lib: Any, desk: Any, odd: Any, *, status: int, policies: list[Any], sent: int
) -> None:
    """D4: a collector of metrics that is down must not charge a card again."""
    closed = odd(lambda peer, request: None)
    home = odd(lambda peer, request: peer.answer(status))
    closed.close()

    async def report(response: Any) -> None:
        async with lib.http.AsyncClient(verify=False) as collector:
            await collector.post(closed.url)

    async with lib.client(Engine([*policies, Retry()], env=desk.env), event_hooks={"response": [report]}) as client:
        with pytest.raises(lib.http.ConnectError):
            await client.post(home.url, json=BODY)

    assert sent == len(home.requests)


async def test_the_breaker_counts_a_hop_against_the_origin_that_failed(lib: Any, desk: Any, odd: Any) -> None:
    """Under a transport each hop has a peer of its own."""
    away = odd(lambda peer, request: peer.answer(503))
    home = odd(lambda peer, request: peer.answer(307, location=away.url))
    breaker = CircuitBreaker(consecutive=1, failure_ratio=1)
    async with lib.over_transport(Engine([breaker], env=desk.env), follow_redirects=True) as client:
        await client.get(home.url)
        with pytest.raises(lib.adapter.HttpxCircuitOpen) as caught:
            await client.get(home.url)

    assert away.url == caught.value.key


# An auth flow's own errands.


async def test_what_an_auth_flow_asks_on_its_own_account_carries_neither_key_nor_token(lib: Any, desk: Any, server: Server) -> None:
    """Two requests of one key and different bodies would be a 409."""

    class Exchange(lib.http.Auth):  # type: ignore[misc]
        def auth_flow(self, request: Any) -> Any:
            yield lib.http.Request("POST", f"{server.url}/api/v1/messages", json={"to": "+1", "text": "first"})
            yield request

    token = server.api_key()
    async with lib.client(engine(desk, token), base_url=server.url, auth=Exchange()) as client:
        response = await client.post(CALLS, json=BODY)

    assert 201 == response.status_code
    assert [(None, False), (token, True)] == [(seen.credential, seen.key is not None) for seen in server.settle().seen]


async def test_what_an_auth_flow_sends_again_keeps_its_key(over: Any, lib: Any, desk: Any, odd: Any) -> None:
    """D4: before it was refused, an attempt may have done the work."""

    class Renewing(lib.http.Auth):  # type: ignore[misc]
        def auth_flow(self, request: Any) -> Any:
            response = yield request
            if response.status_code == 401:
                yield request

    def play(peer: Any, request: bytes) -> None:
        peer.connection.close() if len(peer.odd.requests) == 1 else peer.answer(401 if len(peer.odd.requests) == 2 else 200)

    server = odd(play)
    async with over(Engine([IdempotencyKey(), Retry()], env=desk.env), auth=Renewing()) as client:
        assert 200 == (await client.post(server.url, json=BODY)).status_code
        assert 200 == (await client.post(server.url, json=BODY)).status_code

    keys = [line for each in server.requests for line in each.lower().split(b"\r\n") if line.startswith(b"idempotency-key")]
    assert [3, 1] == [keys.count(key) for key in dict.fromkeys(keys)]


async def test_a_token_stays_at_the_base_url_of_its_client(lib: Any) -> None:
    """A signed link to somebody else's storage needs no token of ours, and must not have it."""
    seen: dict[str, str | None] = {}

    def answer(request: Any) -> Any:
        seen[request.url.host] = request.headers.get("Authorization")
        return lib.http.Response(200)

    engine = Engine([RefreshToken(lambda stale: "new", token="t")])
    async with lib.client(engine, base_url="https://api.example", transport=lib.http.MockTransport(answer)) as http:
        await http.get("/bots")
        await http.get("https://storage.example/file?signature=1")
    async with lib.client(engine, transport=lib.http.MockTransport(answer)) as http:
        await http.get("https://first.example/")

    assert {"api.example": "Bearer t", "storage.example": None, "first.example": "Bearer t"} == seen
