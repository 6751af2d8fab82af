"""The stand-in answers as the documented API does: every status and code, in the envelope of each family."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, cast

import anthropic
import httpx2
import openai
import pytest

import resilience.demo
from resilience.demo.faults import Answer
from resilience.demo.serve import Server
from resilience.demo.server import Settings
from resilience.demo.tokens import Tenant

CHAT = {"model": "missed-1", "messages": [{"role": "user", "content": "Who called?"}]}
MESSAGES = {**CHAT, "max_tokens": 10}

Connect: TypeAlias = Callable[..., httpx2.Client]


def error_of(response: httpx2.Response) -> Any:
    return response.json()["error"]


# The documented table, provoked honestly.


@pytest.mark.parametrize(
    ("status", "code", "provoke"),
    [
        (400, "invalid_request", lambda client: client.post("/api/v1/calls", content=b'{"to": ')),
        (400, "invalid_request", lambda client: client.post("/api/v1/calls", content=b"[" * 100_000)),
        (400, "invalid_request", lambda client: client.get("/api/v1/bots", params={"limit": "many"})),
        (400, "invalid_request", lambda client: client.get("/api/v1/bots", params={"limit": "0"})),
        (400, "invalid_request", lambda client: client.post("/api/v1/calls", json={"to": "+1"}, headers={"Idempotency-Key": "k" * 256})),
        (401, "missing_authorization", lambda client: client.get("/api/v1/bots", headers={"Authorization": ""})),
        (401, "missing_authorization", lambda client: client.get("/api/v1/bots", headers={"Authorization": "Basic YTpi"})),
        (401, "missing_authorization", lambda client: client.get("/api/v1/bots", headers={"Authorization": "", "x-api-key": "cm_0"})),
        (401, "invalid_api_key", lambda client: client.get("/api/v1/bots", headers={"Authorization": "Bearer cm_unknown"})),
        (401, "invalid_token", lambda client: client.get("/api/v1/bots", headers={"Authorization": "Bearer a.b.c"})),
        (403, "domain_not_allowed", lambda client: client.post("/api/v1/bots", json={"name": "Ann", "domain": "evil.example"})),
        (404, "not_found", lambda client: client.get("/api/v1/bots/bot_0")),
        (404, "not_found", lambda client: client.post("/api/v1/calls", json={"to": "+1", "bot_id": "bot_0"})),
        (404, "not_found", lambda client: client.get("/api/v1/nothing")),
        (405, "method_not_allowed", lambda client: client.delete("/api/v1/calls")),
        (422, "validation_failed", lambda client: client.post("/api/v1/calls", json={})),
        (422, "validation_failed", lambda client: client.post("/api/v1/calls", json={"to": 1})),
        (422, "validation_failed", lambda client: client.post("/api/v1/calls", json=["+1"])),
        (422, "validation_failed", lambda client: client.post("/api/v1/bots", json={"name": "Ann", "domain": ["acme.example"]})),
    ],
)
def test_native_endpoints_name_what_is_wrong(
    client: httpx2.Client, status: int, code: str, provoke: Callable[[httpx2.Client], httpx2.Response]
) -> None:
    response = provoke(client)

    assert (status, code) == (response.status_code, error_of(response)["code"])
    assert {"code", "message", "type"} == set(error_of(response))
    assert "application/json" == response.headers["content-type"]


def test_a_credit_used_up_is_a_402_and_nothing_happens(server: Server, connect: Connect) -> None:
    server.add_tenant(Tenant("poor", credits=7))
    with connect(server, server.api_key("poor")) as client:
        statuses = [client.post("/api/v1/calls", json={"to": "+1"}).status_code for _ in range(2)]
        response = client.post("/api/v1/calls", json={"to": "+1"})

    assert [201, 402] == statuses
    assert ("insufficient_credits", "billing_error") == (error_of(response)["code"], error_of(response)["type"])
    assert {"call.placed": 1} == server.counts().effects
    assert 5 == server.counts().credits


def test_a_budget_reached_is_a_402_though_credits_are_left(server: Server, connect: Connect) -> None:
    server.add_tenant(Tenant("thrifty", credits=100, budget=2))
    with connect(server, server.api_key("thrifty")) as client:
        responses = [client.post("/api/v1/messages", json={"to": "+1", "text": "hello"}) for _ in range(3)]

    assert [201, 201, 402] == [response.status_code for response in responses]
    assert ("budget_exceeded", "billing_error") == (error_of(responses[2])["code"], error_of(responses[2])["type"])
    assert {"message.sent": 2} == server.counts().effects


def test_a_key_may_do_what_its_scopes_say(server: Server, connect: Connect) -> None:
    with connect(server, server.api_key(scopes=frozenset({"bots:read"}))) as client:
        allowed, refused = client.get("/api/v1/bots"), client.post("/api/v1/bots", json={"name": "Ann"})

    assert 200 == allowed.status_code
    assert (403, "permission_denied") == (refused.status_code, error_of(refused)["code"])
    assert {} == server.counts().effects


def test_a_search_provider_has_to_be_on_the_plan(client: httpx2.Client) -> None:
    allowed = client.post("/v1/chat/completions", json={**CHAT, "search_provider": "web"})
    refused = client.post("/v1/chat/completions", json={**CHAT, "search_provider": "deep"})

    assert 200 == allowed.status_code
    assert (403, "search_provider_not_allowed") == (refused.status_code, error_of(refused)["code"])


def test_an_api_key_works_until_it_is_revoked(server: Server, connect: Connect) -> None:
    key = server.api_key()
    with connect(server, key) as client:
        server.expire_tokens()
        before = client.get("/api/v1/bots")
        server.revoke(key)
        after = client.get("/api/v1/bots")

    assert 200 == before.status_code
    assert (401, "invalid_api_key") == (after.status_code, error_of(after)["code"])
    assert "Bearer" == after.headers["WWW-Authenticate"]


# Bots.


def test_a_bot_is_made_read_changed_replaced_and_deleted(server: Server, client: httpx2.Client) -> None:
    made = client.post("/api/v1/bots", json={"name": "Ann", "domain": "acme.example"})
    url = f"/api/v1/bots/{made.json()['id']}"
    listed = client.get("/api/v1/bots", params={"limit": "1"})
    changed = client.patch(url, json={"name": "Bea"})
    replaced = client.put(url, json={"name": "Cleo"})
    read = client.get(url)
    deleted = client.delete(url)
    gone = client.get(url)

    assert (201, {"id": made.json()["id"], "name": "Ann", "domain": "acme.example"}) == (made.status_code, made.json())
    assert [made.json()] == listed.json()["data"]
    assert {**made.json(), "name": "Bea"} == changed.json()
    assert {**made.json(), "name": "Cleo", "domain": None} == replaced.json() == read.json()
    assert (204, b"") == (deleted.status_code, deleted.content)
    assert (404, "not_found") == (gone.status_code, error_of(gone)["code"])
    assert {"bot.created": 1, "bot.updated": 2, "bot.deleted": 1} == server.counts().effects


def test_a_second_bot_of_the_same_name_is_a_409(server: Server, client: httpx2.Client) -> None:
    client.post("/api/v1/bots", json={"name": "Ann"})
    bea = client.post("/api/v1/bots", json={"name": "Bea"}).json()
    duplicates = [client.post("/api/v1/bots", json={"name": "Ann"}), client.patch(f"/api/v1/bots/{bea['id']}", json={"name": "Ann"})]

    assert [(409, "conflict")] * 2 == [(response.status_code, error_of(response)["code"]) for response in duplicates]
    assert {"bot.created": 2} == server.counts().effects


def test_a_change_that_is_refused_changes_nothing(client: httpx2.Client) -> None:
    ann = client.post("/api/v1/bots", json={"name": "Ann"}).json()
    url = f"/api/v1/bots/{ann['id']}"
    refused = client.put(url, json={"name": "Bea", "domain": "evil.example"})

    assert 403 == refused.status_code
    assert ann == client.get(url).json()


def test_another_tenants_bot_does_not_exist(server: Server, client: httpx2.Client, connect: Connect) -> None:
    server.add_tenant(Tenant("globex"))
    bot = client.post("/api/v1/bots", json={"name": "Ann"}).json()
    with connect(server, server.api_key("globex")) as other:
        response = other.get(f"/api/v1/bots/{bot['id']}")
        listed = other.get("/api/v1/bots")

    assert (404, "not_found") == (response.status_code, error_of(response)["code"])
    assert [] == listed.json()["data"]


def test_calls_cost_credits_and_are_listed(server: Server, client: httpx2.Client) -> None:
    for number in ("+1", "+2"):
        client.post("/api/v1/calls", json={"to": number})

    assert ["+1", "+2"] == [call["to"] for call in client.get("/api/v1/calls").json()["data"]]
    assert (10, {"call.placed": 2}) == (server.counts().credits, server.counts().effects)


# The other two families.


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 422, 429, 500, 501, 503])
def test_each_family_has_an_envelope_of_its_own(server: Server, client: httpx2.Client, status: int) -> None:
    for path in ("/api/v1/calls", "/v1/chat/completions", "/v1/messages"):
        server.script(f"POST {path}", Answer(status, "some_code"))
    native, openai_like, anthropic_like = (client.post(path, json={}) for path in ("/api/v1/calls", "/v1/chat/completions", "/v1/messages"))

    assert {status} == {response.status_code for response in (native, openai_like, anthropic_like)}
    assert {"code", "message", "type"} == set(error_of(native))
    assert "some_code" == error_of(native)["code"]
    assert {"message", "type", "param", "code"} == set(error_of(openai_like))
    if status >= 500:  # the page: code may be null, and then type has to serve
        assert (None, "some_code") == (error_of(openai_like)["code"], error_of(openai_like)["type"])
    else:
        assert "some_code" == error_of(openai_like)["code"]
    assert {"type", "error"} == set(anthropic_like.json())
    assert "error" == anthropic_like.json()["type"]
    assert {"type", "message"} == set(error_of(anthropic_like))


def test_embeddings_are_not_live_yet(client: httpx2.Client) -> None:
    response = client.post("/v1/embeddings", json={"model": "missed-1", "input": "Who called?"})

    assert 501 == response.status_code
    assert {"message", "type", "param", "code"} == set(error_of(response))
    assert (None, "not_implemented") == (error_of(response)["code"], error_of(response)["type"])


def test_the_anthropic_endpoint_takes_a_key_from_either_header(server: Server, connect: Connect) -> None:
    key = server.api_key()
    with connect(server) as client:
        responses = [
            client.post("/v1/messages", json=MESSAGES, headers=headers)
            for headers in ({"x-api-key": key}, {"Authorization": f"Bearer {key}"}, {"x-api-key": "cm_unknown"}, {})
        ]

    assert [200, 200, 401, 401] == [response.status_code for response in responses]
    assert "authentication_error" == error_of(responses[2])["type"]
    assert {key: 2, "cm_unknown": 1, None: 1} == server.counts().by_credential


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/chat/completions", {**CHAT, "model": "missed-9"}, 404),
        ("/v1/chat/completions", {"model": "missed-1"}, 422),
        ("/v1/chat/completions", {**CHAT, "stream": True}, 501),
        ("/v1/messages", {**MESSAGES, "model": "missed-9"}, 404),
        ("/v1/messages", {"model": "missed-1"}, 422),
    ],
)
def test_a_completion_that_cannot_be_made_costs_nothing(
    server: Server, client: httpx2.Client, path: str, body: dict[str, Any], status: int
) -> None:
    assert status == client.post(path, json=body).status_code
    assert ({}, 0) == (server.counts().effects, server.counts().credits)


def test_the_openai_sdk_is_content_with_it(server: Server) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.api_key(), max_retries=0) as sdk:
        models = [model.id for model in sdk.models.list()]
        completion = sdk.chat.completions.create(model="missed-1", messages=[{"role": "user", "content": "Who called?"}])
        server.script("POST /v1/chat/completions", Answer(429, headers={"Retry-After": "1"}))
        with pytest.raises(openai.RateLimitError) as caught:
            sdk.chat.completions.create(model="missed-1", messages=[{"role": "user", "content": "Who called?"}])

    assert ["missed-1", "missed-1-mini"] == models
    assert "You missed a call." == completion.choices[0].message.content
    assert "rate_limit_exceeded" == caught.value.code
    assert 1 == server.counts().credits


def test_the_anthropic_sdk_is_content_with_it(server: Server) -> None:
    with anthropic.Anthropic(base_url=server.url, api_key=server.api_key(), max_retries=0) as sdk:
        message = sdk.messages.create(model="missed-1", max_tokens=10, messages=[{"role": "user", "content": "Who called?"}])
        server.script("POST /v1/messages", Answer(403))
        with pytest.raises(anthropic.PermissionDeniedError):
            sdk.messages.create(model="missed-1", max_tokens=10, messages=[{"role": "user", "content": "Who called?"}])

    assert ["You missed a call."] == [part.text for part in message.content if part.type == "text"]


# What surrounds every answer.


def test_errors_are_compressed_for_those_who_accept_it_when_so_set(connect: Connect) -> None:
    with Server(Settings(gzip_errors=True)) as server, connect(server, server.api_key()) as client:
        compressed = client.get("/api/v1/bots/bot_0")
        plain = client.get("/api/v1/bots/bot_0", headers={"Accept-Encoding": "identity"})
        success = client.get("/api/v1/bots")

    assert ["gzip", None, None] == [response.headers.get("content-encoding") for response in (compressed, plain, success)]
    assert "not_found" == error_of(compressed)["code"] == error_of(plain)["code"]


def test_every_answer_has_a_date(client: httpx2.Client) -> None:
    """Without one, a Retry-After that is a date cannot be corrected by the server's own clock (D3)."""
    assert "GMT" in client.get("/api/v1/bots").headers["date"]
    assert "GMT" in client.get("/api/v1/nothing").headers["date"]


def test_a_failure_of_the_stand_in_is_a_500_to_the_client_and_an_error_to_the_scenario(connect: Connect) -> None:
    """A bug in it must never pass for a fault that was asked for."""
    broken = Tenant("broken", domains=cast("frozenset[str]", 3))

    def scenario() -> httpx2.Response:
        with Server() as server:
            server.add_tenant(broken)
            with connect(server, server.api_key("broken")) as client:
                responses.append(client.post("/api/v1/bots", json={"name": "Ann", "domain": "acme.example"}))
            return responses[0]

    responses: list[httpx2.Response] = []
    with pytest.raises(RuntimeError, match=r"POST /api/v1/bots: TypeError"):
        scenario()

    assert (500, "internal_error") == (responses[0].status_code, error_of(responses[0])["code"])


def test_the_stand_in_knows_nothing_of_the_engine() -> None:
    """It is a peer: were they to share a function, a bug in it would agree with itself."""
    folder = Path(resilience.demo.__path__[0])
    stand_in = [folder / f"{name}.py" for name in "envelopes exchange faults ledger limits port replays serve server stage tokens".split()]
    imported: set[str] = set()
    for file in stand_in:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module))

    assert set() == {name for name in imported if name.split(".")[0] == "resilience" and not name.startswith("resilience.demo.")}
    assert not {"structlog", "anyio"} & imported
