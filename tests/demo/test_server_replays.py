"""A result is stored under its Idempotency-Key, and an action runs once however often it is asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import httpx2
import pytest

from resilience.demo.faults import Answer, Reset
from resilience.demo.serve import Server
from resilience.demo.server import Settings
from resilience.demo.tokens import Tenant

CALLS = "/api/v1/calls"

Connect: TypeAlias = Callable[..., httpx2.Client]


def place(client: httpx2.Client, key: str | None, to: str = "+1") -> httpx2.Response:
    return client.post(CALLS, json={"to": to}, headers={} if key is None else {"Idempotency-Key": key})


def test_the_same_key_and_body_give_the_first_result_again(server: Server, client: httpx2.Client) -> None:
    first, second = place(client, "k1"), place(client, "k1")

    assert (201, first.content) == (second.status_code, second.content)
    assert [None, "true"] == [response.headers.get("Idempotent-Replayed") for response in (first, second)]
    counts = server.counts()
    assert ({"call.placed": 1}, 5, 1) == (counts.effects, counts.credits, counts.replays)
    assert {"k1": 2} == counts.by_key
    assert [False, True] == [seen.replayed for seen in counts.seen]


def test_another_key_is_another_action(server: Server, client: httpx2.Client) -> None:
    ids = {place(client, key).json()["id"] for key in ("k1", "k2", None, None)}

    assert 4 == len(ids)
    assert {"call.placed": 4} == server.counts().effects


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("POST", CALLS, {"to": "+2"}), ("POST", "/api/v1/bots", {"to": "+1"}), ("POST", "/v1/messages", {"to": "+1"})],
)
def test_the_same_key_with_another_request_is_a_409(
    server: Server, client: httpx2.Client, method: str, path: str, body: dict[str, str]
) -> None:
    place(client, "k1")
    response = client.request(method, path, json=body, headers={"Idempotency-Key": "k1"})

    assert 409 == response.status_code
    assert {"call.placed": 1} == server.counts().effects


def test_the_409_has_a_code_of_its_own(client: httpx2.Client) -> None:
    place(client, "k1")

    assert "idempotency_conflict" == place(client, "k1", "+2").json()["error"]["code"]


def test_keys_belong_to_their_tenant(server: Server, client: httpx2.Client, connect: Connect) -> None:
    server.add_tenant(Tenant("globex"))
    with connect(server, server.api_key("globex")) as other:
        responses = [place(client, "k1"), place(other, "k1", "+2")]

    assert [201, 201] == [response.status_code for response in responses]


def test_a_key_is_known_under_every_credential_of_its_tenant(server: Server, client: httpx2.Client, connect: Connect) -> None:
    """A repeat after a refresh comes with another token (B47)."""
    with connect(server, server.sign_in().access_token) as again:
        first, second = place(client, "k1"), place(again, "k1")

    assert first.content == second.content
    assert {"call.placed": 1} == server.counts().effects


def test_a_key_expires(connect: Connect) -> None:
    with Server(Settings(key_seconds=0.03)) as server, connect(server, server.api_key()) as client:
        place(client, "k1")
        time.sleep(0.035)
        again = place(client, "k1", "+2")

    assert 201 == again.status_code
    assert ({"call.placed": 2}, 0) == (server.counts().effects, server.counts().replays)


def test_put_and_patch_are_keyed_too_and_delete_is_not(server: Server, client: httpx2.Client) -> None:
    url = "/api/v1/bots/" + client.post("/api/v1/bots", json={"name": "Ann"}).json()["id"]
    keyed = {"Idempotency-Key": "k1"}, {"Idempotency-Key": "k2"}
    for _ in range(2):
        client.put(url, json={"name": "Bea"}, headers=keyed[0])
        client.patch(url, json={"name": "Cleo"}, headers=keyed[1])
    statuses = [client.delete(url, headers={"Idempotency-Key": "k3"}).status_code for _ in range(2)]

    assert {"bot.created": 1, "bot.updated": 2, "bot.deleted": 1} == server.counts().effects
    assert [204, 404] == statuses


def test_completions_are_replayed_too(server: Server, client: httpx2.Client) -> None:
    body = {"model": "missed-1", "messages": [], "max_tokens": 1}
    for path in ("/v1/chat/completions", "/v1/messages"):
        first, second = (client.post(path, json=body, headers={"Idempotency-Key": path}) for _ in range(2))

        assert first.content == second.content

    assert 2 == server.counts().credits


def test_a_refusal_is_not_stored(server: Server, connect: Connect) -> None:
    """Were it, a client that pays its bill and repeats would be refused for ever."""
    tenant = Tenant("poor", credits=0)
    server.add_tenant(tenant)
    with connect(server, server.api_key("poor")) as client:
        refused = place(client, "k1")
        tenant.credits = 5
        granted = place(client, "k1")

    assert [402, 201] == [refused.status_code, granted.status_code]
    assert "Idempotent-Replayed" not in granted.headers


def test_a_duplicate_that_comes_while_the_first_is_at_work_waits_for_it(connect: Connect) -> None:
    with (
        Server(Settings(work_seconds=0.03)) as server,
        connect(server, server.api_key()) as client,
        ThreadPoolExecutor() as threads,
    ):
        responses = list(threads.map(lambda _: place(client, "k1"), range(4)))

    assert [201] * 4 == [response.status_code for response in responses]
    assert 1 == len({response.content for response in responses})
    assert ({"call.placed": 1}, 3) == (server.counts().effects, server.counts().replays)


def test_a_duplicate_that_waited_for_a_refusal_runs_itself(connect: Connect) -> None:
    tenant = Tenant("poor", credits=0)
    with (
        Server(Settings(work_seconds=0.03)) as server,
        ThreadPoolExecutor() as threads,
    ):
        server.add_tenant(tenant)
        with connect(server, server.api_key("poor")) as client:
            responses = list(threads.map(lambda _: place(client, "k1"), range(2)))

    assert [402, 402] == [response.status_code for response in responses]
    assert 0 == server.counts().replays


def test_without_a_key_a_lost_answer_costs_twice_and_with_one_it_does_not(server: Server, client: httpx2.Client) -> None:
    """D4, as the server counts it."""
    server.script(f"POST {CALLS}", Reset("after"), times=2)
    for key in (None, "k1"):
        with pytest.raises(httpx2.TransportError):
            place(client, key)
    without, keyed = place(client, None), place(client, "k1")

    assert [None, "true"] == [response.headers.get("Idempotent-Replayed") for response in (without, keyed)]
    assert {"call.placed": 3} == server.counts().effects


def test_a_500_after_the_work_is_followed_by_the_stored_result(server: Server, client: httpx2.Client) -> None:
    server.script(f"POST {CALLS}", Answer(500, when="after"))
    failed, again = place(client, "k1"), place(client, "k1")

    assert [500, 201] == [failed.status_code, again.status_code]
    assert ({"call.placed": 1}, 1) == (server.counts().effects, server.counts().replays)
