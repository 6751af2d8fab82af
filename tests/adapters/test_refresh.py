"""The acceptance test that the whole library stands for: many calls, one expired token, a refresh endpoint that allows five a minute."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from resilience import Token, callmissed
from resilience.demo.serve import Server
from resilience.demo.server import Settings

pytestmark = pytest.mark.anyio

TASKS = 100
ROOM = Settings(address_limit=1_000, key_limits=dict.fromkeys(["free", "starter", "pro", "enterprise"], 1_000))


@pytest.mark.parametrize("over", ["client"], indirect=True)
async def test_a_hundred_calls_share_one_refresh_of_their_expired_token(over: Any, lib: Any, desk: Any, server: Server) -> None:
    """D5, D6, B46: 1 refresh, 200 calls, no failure."""
    server.start_over(ROOM)
    session = server.sign_in()
    server.expire_tokens()
    refresh_token = session.refresh_token

    async def login(stale: str | None) -> Token:
        nonlocal refresh_token
        async with lib.http.AsyncClient(base_url=server.url, verify=False) as plain:
            response = await plain.post("/api/v1/auth/refresh", json={"refresh_token": refresh_token})
            response.raise_for_status()
        body = response.json()
        refresh_token = body["refresh_token"]
        return Token(body["access_token"], expires_in=body["expires_in"])

    engine = callmissed.engine(login, token=session.access_token, env=desk.env)
    statuses: list[int] = []
    async with over(engine, base_url=server.url, limits=lib.http.Limits(max_connections=20), timeout=30) as client:

        async def fetch() -> None:
            statuses.append((await client.get("/api/v1/bots")).status_code)

        async with anyio.create_task_group() as group:
            for _ in range(TASKS):
                group.start_soon(fetch)

    counts = server.settle()
    assert [200] * TASKS == statuses
    assert (1, 0) == (counts.refreshes, counts.revocations)
    assert 2 * TASKS == len(counts.of("GET /api/v1/bots"))
    assert {session.access_token: TASKS} == {token: n for token, n in counts.by_credential.items() if token == session.access_token}
    assert 1 == desk.names().count("token.refreshed")
