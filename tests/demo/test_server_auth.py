"""Sessions expire and are renewed by rotating refresh tokens; the endpoints for that allow five requests a minute."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TypeAlias

import httpx2
import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.demo.limits import SlidingWindow
from resilience.demo.serve import Server
from resilience.demo.server import LOGIN, Settings
from resilience.demo.tokens import Tenant

LOG_IN, REFRESH, REGISTER = "/api/v1/auth/login", "/api/v1/auth/refresh", "/api/v1/auth/register"
AT_LEISURE = Settings(auth_limit=1_000)

Connect: TypeAlias = Callable[..., httpx2.Client]


def ask(client: httpx2.Client, token: str) -> tuple[int, str | None]:
    response = client.get("/api/v1/bots", headers={"Authorization": f"Bearer {token}"})
    return response.status_code, response.json().get("error", {}).get("code")


def refresh(client: httpx2.Client, token: str) -> httpx2.Response:
    return client.post(REFRESH, json={"refresh_token": token})


# Sessions.


def test_a_login_opens_a_session_of_a_day(connect: Connect) -> None:
    with Server() as server, connect(server) as client:
        tokens = client.post(LOG_IN, json=dict(LOGIN)).json()
        answer = ask(client, tokens["access_token"])

    claims = jwt.decode(tokens["access_token"], options={"verify_signature": False})
    assert (200, None) == answer
    assert ("bearer", 86_400) == (tokens["token_type"], tokens["expires_in"])
    assert 86_400 - 5 < claims["exp"] - time.time() <= 86_400
    assert 1 == server.counts().logins


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({**LOGIN, "password": "wrong"}, 401),
        ({**LOGIN, "email": "eve@acme.example"}, 401),
        ({**LOGIN, "password": "\ud800"}, 401),
        ({"email": LOGIN["email"]}, 422),
    ],
)
def test_a_login_that_proves_nothing_opens_nothing(body: dict[str, str], status: int, connect: Connect) -> None:
    with Server() as server, connect(server) as client:
        response = client.post(LOG_IN, content=json.dumps(body))

    assert status == response.status_code
    assert 0 == server.counts().logins


def test_an_account_can_be_registered_once(connect: Connect) -> None:
    eve = {"email": "eve@globex.example", "password": "s3cret"}
    with Server() as server, connect(server) as client:
        first, second = client.post(REGISTER, json=eve), client.post(REGISTER, json=eve)
        answer = ask(client, client.post(LOG_IN, json=eve).json()["access_token"])

    assert [201, 409] == [first.status_code, second.status_code]
    assert (200, None) == answer
    assert {"tenant.registered": 1} == server.counts().effects


def test_a_token_is_refused_once_its_life_is_over(connect: Connect) -> None:
    with Server(Settings(session_seconds=0.03)) as server, connect(server) as client:
        session = server.sign_in()
        time.sleep(0.035)
        answer = ask(client, session.access_token)

    assert (401, "token_expired") == answer
    assert 0.03 == session.expires_in


def test_a_scenario_can_let_all_tokens_expire_and_the_refresh_still_works(connect: Connect) -> None:
    with Server() as server, connect(server) as client:
        old = server.sign_in()
        server.expire_tokens()
        expired = ask(client, old.access_token)
        new = refresh(client, old.refresh_token).json()
        answers = [ask(client, new["access_token"]), ask(client, old.access_token), ask(client, server.sign_in().access_token)]

    assert (401, "token_expired") == expired
    assert [(200, None), (401, "token_expired"), (200, None)] == answers
    assert 1 == server.counts().refreshes


def test_a_token_signed_by_somebody_else_is_refused(connect: Connect) -> None:
    with Server() as server, connect(server) as client:
        claims = jwt.decode(server.sign_in().access_token, options={"verify_signature": False})
        forged = jwt.encode(claims, b"x" * 32, algorithm="HS256")
        unsigned = jwt.encode(claims, None, algorithm="none")
        answers = [ask(client, forged), ask(client, unsigned)]

    assert [(401, "invalid_token")] * 2 == answers


def test_a_session_belongs_to_its_tenant(server: Server, connect: Connect) -> None:
    server.add_tenant(Tenant("globex"))
    headers = {name: {"Authorization": f"Bearer {server.sign_in(name).access_token}"} for name in ("acme", "globex")}
    with connect(server) as client:
        client.post("/api/v1/bots", json={"name": "Ann"}, headers=headers["acme"])
        bots = {name: len(client.get("/api/v1/bots", headers=headers[name]).json()["data"]) for name in headers}

    assert {"acme": 1, "globex": 0} == bots


# Rotation.


def test_a_refresh_token_is_good_for_one_use_and_names_its_successor(connect: Connect) -> None:
    with Server(AT_LEISURE) as server, connect(server) as client:
        tokens = [server.sign_in().refresh_token]
        for _ in range(3):
            tokens.append(refresh(client, tokens[-1]).json()["refresh_token"])

    assert 4 == len(set(tokens))
    assert (3, 0) == (server.counts().refreshes, server.counts().revocations)


def test_a_refresh_token_that_comes_back_revokes_its_whole_family_and_no_other(connect: Connect) -> None:
    """D5: rotating tokens, refreshed by two tasks at once, log everybody out."""
    with Server(AT_LEISURE) as server, connect(server) as client:
        first, bystander = server.sign_in(), server.sign_in()
        second = refresh(client, first.refresh_token).json()
        reused = refresh(client, first.refresh_token)
        newest = refresh(client, second["refresh_token"])
        answers = [ask(client, token) for token in (first.access_token, second["access_token"], bystander.access_token)]

    assert (401, "refresh_token_reused") == (reused.status_code, reused.json()["error"]["code"])
    assert (401, "session_revoked") == (newest.status_code, newest.json()["error"]["code"])
    assert [(401, "session_revoked"), (401, "session_revoked"), (200, None)] == answers
    assert (1, 1) == (server.counts().refreshes, server.counts().revocations)


def test_an_unknown_refresh_token_revokes_nothing(connect: Connect) -> None:
    with Server() as server, connect(server) as client:
        session = server.sign_in()
        response = refresh(client, "made up")
        answer = ask(client, session.access_token)

    assert (401, "invalid_refresh_token") == (response.status_code, response.json()["error"]["code"])
    assert (200, None) == answer


# Limits.


def test_the_auth_endpoints_together_allow_five_requests_a_minute(connect: Connect) -> None:
    with Server() as server, connect(server) as client:
        tokens = client.post(LOG_IN, json=dict(LOGIN)).json()
        for _ in range(3):
            tokens = refresh(client, tokens["refresh_token"]).json()
        client.post(LOG_IN, json={**LOGIN, "password": "wrong"})
        refused = [refresh(client, tokens["refresh_token"]), client.post(LOG_IN, json=dict(LOGIN))]
        answer = ask(client, tokens["access_token"])

    assert [429, 429] == [response.status_code for response in refused]
    assert {"rate_limit_exceeded"} == {response.json()["error"]["code"] for response in refused}
    assert {("5", "0")} == {(response.headers["X-RateLimit-Limit"], response.headers["X-RateLimit-Remaining"]) for response in refused}
    assert all(55 <= int(response.headers["Retry-After"]) <= 60 for response in refused)
    assert (200, None) == answer
    assert (1, 3, 0) == (server.counts().logins, server.counts().refreshes, server.counts().revocations)


def test_a_limited_refresh_uses_up_no_token(connect: Connect) -> None:
    with Server(Settings(auth_limit=1, auth_window=0.03)) as server, connect(server) as client:
        token = server.sign_in().refresh_token
        while (response := refresh(client, token)).status_code != 429:
            token = response.json()["refresh_token"]
        hint = response.headers["Retry-After"]
        while (response := refresh(client, token)).status_code == 429:
            time.sleep(0.005)

    assert "1" == hint  # whole seconds, rounded up
    assert 200 == response.status_code
    assert 0 == server.counts().revocations


def test_a_forwarded_address_is_not_believed(connect: Connect) -> None:
    with Server() as server, connect(server) as client:
        statuses = [
            client.post(LOG_IN, json=dict(LOGIN), headers={"X-Forwarded-For": f"10.0.0.{number}"}).status_code for number in range(6)
        ]

    assert [200] * 5 + [429] == statuses


def test_a_key_may_make_as_many_requests_as_its_plan_allows(server: Server, connect: Connect) -> None:
    server.add_tenant(Tenant("small", plan="free"))
    small, other = server.api_key("small"), server.api_key("small")
    with connect(server) as client:
        responses = [client.get("/api/v1/bots", headers={"Authorization": f"Bearer {small}"}) for _ in range(61)]
        answer = ask(client, other)

    assert [200] * 60 + [429] == [response.status_code for response in responses]
    assert {"60"} == {response.headers["X-RateLimit-Limit"] for response in responses}
    assert [str(left) for left in (*range(59, -1, -1), 0)] == [response.headers["X-RateLimit-Remaining"] for response in responses]
    assert ["Retry-After" in response.headers for response in responses] == [False] * 60 + [True]
    assert (200, None) == answer  # each key is counted for itself


def test_an_address_may_make_two_hundred_requests_a_minute(server: Server, connect: Connect) -> None:
    key = server.api_key()
    with connect(server) as client:
        answers = [ask(client, key) for _ in range(201)]
        unrouted = client.get("/api/v1/nothing")

    assert [(200, None)] * 200 + [(429, "rate_limit_exceeded")] == answers
    assert (429, "200") == (unrouted.status_code, unrouted.headers["X-RateLimit-Limit"])


def test_refusals_keep_the_limits_headers(server: Server, connect: Connect) -> None:
    with connect(server) as client:
        response = client.get("/api/v1/bots/bot_0", headers={"Authorization": f"Bearer {server.api_key()}"})

    assert (404, "3000", "2999") == (
        response.status_code,
        response.headers["X-RateLimit-Limit"],
        response.headers["X-RateLimit-Remaining"],
    )


@given(steps=st.lists(st.floats(min_value=0, max_value=2), max_size=60), limit=st.integers(min_value=1, max_value=5))
def test_no_stretch_of_a_window_ever_holds_more_than_its_limit(steps: list[float], limit: int) -> None:
    window, now, admitted = SlidingWindow(3.0), 0.0, [-100.0]
    for step in steps:
        now += step
        if window.take("somebody", limit, now).retry_after is None:
            admitted.append(now)

    assert all(sum(end - 3.0 < at <= end for at in admitted) <= limit for end in admitted)


@given(steps=st.lists(st.floats(min_value=0, max_value=2), max_size=60), limit=st.integers(min_value=1, max_value=5))
def test_whoever_waits_as_long_as_told_is_admitted(steps: list[float], limit: int) -> None:
    window, now = SlidingWindow(3.0), 0.0
    for step in steps:
        now += step
        room = window.take("somebody", limit, now)
        if room.retry_after is not None:
            now += room.retry_after * (1 + 1e-9) + 1e-9

            assert window.take("somebody", limit, now).retry_after is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("window", 0.0),
        ("window", float("nan")),
        ("auth_window", -1.0),
        ("address_limit", 0),
        ("auth_limit", 0),
        ("session_seconds", 0.0),
        ("key_seconds", 0.0),
        ("work_seconds", -0.1),
        ("key_limits", {"free": 0}),
        ("key_limits", {"golden": 1}),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=r"must be|must be in"):
        Settings(**{field: value})  # type: ignore[arg-type]
