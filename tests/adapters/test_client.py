"""Each request of a `ResilientClient`, and of a client over a `ResilientTransport`, is one call of the engine."""

from __future__ import annotations

import contextlib
import gc
import inspect
import socket
import sys
import types
from collections.abc import AsyncIterator
from typing import Any

import httpx
import httpx2
import pytest

from resilience import AttemptTimeout, CircuitBreaker, Deadline, Engine, IdempotencyKey, Retry, current, history
from resilience.adapters._httpx import Library
from resilience.demo.faults import Answer, Drip, Reset, Truncate
from resilience.demo.serve import Server
from resilience.dialects import callmissed

pytestmark = pytest.mark.anyio

BOTS = "/api/v1/bots"
GET = f"GET {BOTS}"


def engine(desk: Any, *policies: Any) -> Engine:
    return Engine(policies or [Retry()], rules=callmissed.RULES, env=desk.env)


@pytest.fixture
def headers(server: Server) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.api_key()}"}


async def test_a_request_that_goes_well_is_sent_once(over: Any, desk: Any, server: Server, headers: dict[str, str]) -> None:
    async with over(engine(desk), base_url=server.url, headers=headers) as client:
        response = await client.get(BOTS)

    assert (200, {"data": []}) == (response.status_code, response.json())
    assert 1 == server.settle().requests
    assert ["call.succeeded"] == desk.names()


async def test_a_failing_answer_is_repeated_until_it_passes(over: Any, desk: Any, server: Server, headers: dict[str, str]) -> None:
    """D28."""
    server.script(GET, Answer(503), Reset())
    async with over(engine(desk), base_url=server.url, headers=headers) as client:
        response = await client.get(BOTS)

    assert 200 == response.status_code
    assert 3 == server.settle().requests
    assert [0.025, 0.05] == desk.slept


async def test_a_failing_answer_comes_back_as_it_came_once_no_attempt_is_left(
    over: Any, desk: Any, server: Server, headers: dict[str, str]
) -> None:
    """D11."""
    server.script(GET, Answer(503), times=3)
    async with over(engine(desk), base_url=server.url, headers=headers) as client:
        response = await client.get(BOTS)

    assert (503, "provider_error") == (response.status_code, response.json()["error"]["code"])
    assert [(1, 503, "provider_error"), (2, 503, "provider_error"), (3, 503, "provider_error")] == [
        (tried.attempt, tried.status, tried.code) for tried in history(response)
    ]


async def test_the_code_in_the_body_decides_and_not_the_status_alone(over: Any, desk: Any, server: Server, headers: dict[str, str]) -> None:
    """D2."""
    server.script(GET, Answer(429, "insufficient_credits"))
    async with over(engine(desk), base_url=server.url, headers=headers) as client:
        response = await client.get(BOTS)

    assert 429 == response.status_code
    assert 1 == server.settle().requests
    assert ["callmissed: code insufficient_credits"] == [event.rule for event in desk.of("call.failed_fast")]


async def test_an_exception_arrives_as_the_same_object(over: Any, lib: Any, desk: Any) -> None:
    """D11."""
    raised: list[Exception] = []

    async def refuse(request: Any) -> Any:
        raised.append(lib.http.ConnectError("no such host"))
        raise raised[-1]

    async with over(engine(desk), transport=lib.http.MockTransport(refuse)) as client:
        with pytest.raises(lib.http.ConnectError) as caught:
            await client.get("https://api.example/")

    assert 3 == len(raised)
    assert raised[-1] is caught.value
    assert "refuse" == inspect.getinnerframes(caught.tb)[-1].function
    assert [1, 2, 3] == [tried.attempt for tried in history(caught.value)]


async def test_a_body_cut_short_is_a_failed_attempt_of_the_client(lib: Any, desk: Any, server: Server, headers: dict[str, str]) -> None:
    server.script(GET, Truncate())
    async with lib.client(engine(desk), base_url=server.url, headers=headers) as client:
        response = await client.get(BOTS)

    assert {"data": []} == response.json()
    assert 2 == server.settle().requests


async def test_a_transport_judges_at_the_headers(lib: Any, desk: Any, server: Server, headers: dict[str, str]) -> None:
    server.script(GET, Truncate())
    async with lib.over_transport(engine(desk), base_url=server.url, headers=headers) as client:
        with pytest.raises(lib.http.TransportError):
            await client.get(BOTS)

    assert 1 == server.settle().requests
    assert ["call.succeeded"] == desk.names()
    assert "judges at the headers" in lib.adapter.ResilientTransport.__doc__


async def test_a_streamed_answer_is_judged_at_its_head_and_goes_on_streaming(
    over: Any, desk: Any, server: Server, headers: dict[str, str]
) -> None:
    server.script(GET, Answer(503), Drip(0, 4))
    async with over(engine(desk), base_url=server.url, headers=headers) as client:
        async with client.stream("GET", BOTS) as response:
            assert ["call.recovered"] == desk.names()[-1:]
            assert not response.is_stream_consumed
            parts = [part async for part in response.aiter_bytes()]

    assert b'{"data": []}' == b"".join(parts)


async def test_elapsed_is_known_as_ever(over: Any, desk: Any, server: Server, headers: dict[str, str]) -> None:
    server.script(GET, Answer(200), Answer(404))
    async with over(engine(desk, Deadline(5)), base_url=server.url, headers=headers) as client:
        responses = [await client.get(BOTS) for _ in range(2)]
        async with client.stream("GET", BOTS) as streamed:
            await streamed.aread()

    assert all(0 < response.elapsed.total_seconds() < 5 for response in (*responses, streamed))


async def test_the_caller_s_request_stays_as_it_was(lib: Any, desk: Any, server: Server, headers: dict[str, str]) -> None:
    server.script(f"POST {BOTS}", Answer(503))
    async with lib.client(engine(desk, IdempotencyKey(), Retry(), AttemptTimeout(5)), base_url=server.url, headers=headers) as client:
        request = client.build_request("POST", BOTS, json={"name": "Ann"})
        before = (request.headers.multi_items(), dict(request.extensions), request.content)
        response = await client.send(request, auth=("ada", "secret"))

    assert 401 == response.status_code  # Basic
    assert before == (request.headers.multi_items(), dict(request.extensions), request.content)


async def test_a_request_may_be_sent_again_as_another_call(over: Any, desk: Any, server: Server, headers: dict[str, str]) -> None:
    async with over(engine(desk, IdempotencyKey()), base_url=server.url, headers=headers) as client:
        request = client.build_request("POST", BOTS, json={"name": "Ann"})
        statuses = [(await client.send(request)).status_code for _ in range(2)]

    assert [201, 409] == statuses
    assert 2 == len(server.settle().by_key)


async def test_redirects_happen_inside_one_attempt_of_the_client(lib: Any, desk: Any, odd: Any) -> None:
    def play(peer: Any, request: bytes) -> None:
        peer.answer(200, b"there") if b"/new" in request else peer.answer(302, location="/new")

    server = odd(play)
    async with lib.client(engine(desk), base_url=server.url, follow_redirects=True) as client:
        response = await client.get("/old")

    assert ("there", [302]) == (response.text, [hop.status_code for hop in response.history])
    assert [1] == [event.attempt for event in desk.of("call.succeeded")]


async def test_auth_flows_happen_inside_one_attempt_of_the_client(lib: Any, desk: Any, odd: Any) -> None:
    challenge = 'Digest realm="r", nonce="n", algorithm=MD5, qop="auth"'

    def play(peer: Any, request: bytes) -> None:
        peer.answer(200, b"in") if b"authorization: digest" in request.lower() else peer.answer(401, b"{}", www_authenticate=challenge)

    server = odd(play)
    async with lib.client(engine(desk), base_url=server.url, auth=lib.http.DigestAuth("ada", "secret")) as client:
        response = await client.get("/")

    assert "in" == response.text
    assert 2 == len(server.requests)
    assert ["call.succeeded"] == desk.names()


async def test_a_hook_that_raises_for_status_still_lets_the_code_decide(
    lib: Any, desk: Any, server: Server, headers: dict[str, str]
) -> None:
    """D2: a common hook, and one that closes the response before anyone has read it."""

    async def complain(response: Any) -> None:
        response.raise_for_status()

    server.script(GET, Answer(429, "insufficient_credits"))
    hooks = {"response": [complain]}
    async with lib.client(engine(desk), base_url=server.url, headers=headers, event_hooks=hooks) as client:
        with pytest.raises(lib.http.HTTPStatusError) as caught:
            await client.get(BOTS)

    assert 429 == caught.value.response.status_code
    assert "insufficient_credits" == history(caught.value)[0].code
    assert 1 == server.settle().requests


async def test_the_running_call_is_seen_from_a_hook(lib: Any, desk: Any, server: Server, headers: dict[str, str]) -> None:
    attempts = []

    async def look(request: Any) -> None:
        attempts.append((current().attempt, current().method, current().path, current().peer))

    server.script(GET, Answer(503))
    async with lib.client(engine(desk), base_url=server.url, headers=headers, event_hooks={"request": [look]}) as client:
        await client.get(f"{BOTS}?limit=1")

    assert [(1, "GET", BOTS, server.url), (2, "GET", BOTS, server.url)] == attempts


async def test_events_name_a_request_by_method_and_host_and_say_nothing_else_of_it(over: Any, desk: Any, odd: Any) -> None:
    """D17, B61: a marker planted in path, query, headers, body, user info, token and key."""
    server = odd(lambda peer, request: peer.answer(500, b'{"error": {"code": "oops", "message": "MARKER"}}', x_marker="MARKER"))
    host = server.url.removeprefix("http://")
    keyed = engine(desk, IdempotencyKey(), Retry(attempts=2)).using(key="MARKER")
    async with over(keyed, headers={"Authorization": "Bearer MARKER"}) as client:
        response = await client.post(
            f"http://MARKER:MARKER@{host}/MARKER?MARKER=MARKER", json={"MARKER": 1}, headers={"X-MARKER": "MARKER"}
        )

    assert 500 == response.status_code
    assert 2 == len(server.requests)
    assert {f"POST {host}"} == {event.operation for event in desk.events}
    assert "MARKER" not in repr(desk.events)
    assert "MARKER" not in keyed.describe()


async def test_a_view_brings_its_settings(over: Any, desk: Any, server: Server, headers: dict[str, str]) -> None:
    server.script(GET, Answer(503), times=None)
    view = engine(desk).using(attempts=2, operation="list bots")
    async with over(view, base_url=server.url, headers=headers) as client:
        await client.get(BOTS)

    assert 2 == server.settle().requests
    assert {"list bots"} == {event.operation for event in desk.events}


async def test_a_fixed_key_used_for_two_calls_is_warned_of(over: Any, desk: Any, server: Server, headers: dict[str, str]) -> None:
    view = engine(desk, IdempotencyKey()).using(key="order-42")
    async with over(view, base_url=server.url, headers=headers) as client:
        await client.post(BOTS, json={"name": "Ann"})
        await client.post(BOTS, json={"name": "Bob"})

    assert 1 == desk.names().count("key.reused")


async def test_each_origin_has_a_circuit_of_its_own(over: Any, desk: Any, odd: Any, lib: Any) -> None:
    """D37."""
    down, up = odd(lambda peer, request: peer.answer(503)), odd(lambda peer, request: peer.answer(200))
    async with over(engine(desk, CircuitBreaker(consecutive=2))) as client:
        for _ in range(2):
            await client.get(down.url)
        with pytest.raises(lib.adapter.HttpxCircuitOpen) as caught:
            await client.get(down.url)
        response = await client.get(up.url)

    assert 200 == response.status_code
    assert 2 == len(down.requests)
    assert down.url == caught.value.key


async def test_a_pool_of_one_survives_three_failures(over: Any, lib: Any, desk: Any, server: Server, headers: dict[str, str]) -> None:
    """D29, B51, and on one connection."""
    server.script(GET, Answer(503), Answer(503))
    limits = lib.http.Limits(max_connections=1)
    inner = lib.http.AsyncHTTPTransport(verify=False, limits=limits)
    async with over(engine(desk), transport=inner, base_url=server.url, headers=headers, timeout=lib.http.Timeout(5, pool=0.5)) as client:
        response = await client.get(BOTS)
        async with client.stream("GET", BOTS) as streamed:
            await streamed.aread()

    assert [200, 200] == [response.status_code, streamed.status_code]
    assert 4 == server.settle().requests


@pytest.mark.parametrize("lib", ["httpx2"], indirect=True)
async def test_failing_calls_leave_nothing_of_ours_to_the_garbage_collector(
    over: Any, desk: Any, server: Server, odd: Any, headers: dict[str, str]
) -> None:
    """
    D34, B62: neither failures returned nor errors raised.

    Each response of httpx 0.28 is a cycle, by the stream that times it.  And from CPython 3.12 on, where a traceback keeps the frames
    around those it shows, a lost connection leaves httpx2 itself a cycle, which our objects then hang on.
    """
    lost_connections = sys.version_info < (3, 12)

    def cut_short(peer: Any, request: bytes) -> None:
        peer.answer(503, b"{", content_length="99")
        peer.connection.shutdown(socket.SHUT_RDWR)

    cut = odd(cut_short)
    server.script(GET, Answer(503), times=None)
    server.script(f"POST {BOTS}", Reset(), times=None)

    async def body() -> AsyncIterator[bytes]:
        yield b"{}"

    async with over(engine(desk, Deadline(9), IdempotencyKey(), Retry(attempts=2)), base_url=server.url, headers=headers) as client:

        async def fail() -> None:
            await client.get(BOTS)
            async with client.stream("GET", BOTS):
                pass
            async with client.stream("GET", cut.url) as response:
                with pytest.raises(httpx2.RemoteProtocolError):
                    await response.aread()
            for content in (b"{}", body()) if lost_connections else ():
                with contextlib.suppress(Exception):
                    await client.post(BOTS, content=content)

        await fail()
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            await fail()
            gc.collect()
            ours = {type(one).__name__ for one in gc.garbage if type(one).__module__.startswith("resilience")}
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()

    assert set() == ours


# What is refused.


async def test_what_is_no_engine_is_refused_by_name(lib: Any) -> None:
    for seam in (lib.adapter.ResilientClient, lib.adapter.ResilientTransport):
        with pytest.raises(TypeError, match=r"engine: expected an Engine or a view of one.*'https://api.example'"):
            seam("https://api.example")


async def test_a_sync_transport_is_refused(lib: Any) -> None:
    with pytest.raises(TypeError, match=r"ResilientClient: transport: .*engines are async only"):
        lib.client(Engine(), transport=lib.http.HTTPTransport(verify=False))
    with pytest.raises(TypeError, match=r"ResilientTransport: transport: .*engines are async only"):
        lib.adapter.ResilientTransport(Engine(), lib.http.HTTPTransport(verify=False))
    with pytest.raises(TypeError, match="expected an async transport, got 'socket'"):
        lib.adapter.ResilientTransport(Engine(), "socket")


async def test_a_sync_client_is_told_that_it_cannot_be_served(lib: Any) -> None:
    transport = lib.adapter.ResilientTransport(Engine(), lib.http.MockTransport(lambda request: lib.http.Response(200)))
    client = lib.http.Client(transport=transport)
    with pytest.raises(TypeError, match="async only"):
        client.get("https://api.example")
    with pytest.raises(TypeError, match="async only"), lib.http.Client(transport=transport):
        pass


async def test_a_request_of_the_other_library_is_refused(over: Any, lib: Any, desk: Any) -> None:
    other: Any = httpx if lib.http is httpx2 else httpx2
    async with over(engine(desk)) as client:
        with pytest.raises((TypeError, RuntimeError)):
            await client.send(other.Request("GET", "http://127.0.0.1:9"))
        transport = lib.adapter.ResilientTransport(engine(desk), lib.http.MockTransport(lambda request: lib.http.Response(200)))
        with pytest.raises(TypeError, match=f"expected a request of {lib.http.__name__}, got"):
            await transport.handle_async_request(other.Request("GET", "http://127.0.0.1:9"))


async def test_a_closed_client_says_so(lib: Any, desk: Any) -> None:
    client = lib.client(engine(desk))
    await client.aclose()

    with pytest.raises(RuntimeError, match="closed"):
        await client.get("http://127.0.0.1:9")


async def test_a_transport_closes_the_one_inside(lib: Any) -> None:
    closed = []

    class Inner(lib.http.AsyncBaseTransport):  # type: ignore[misc]
        async def aclose(self) -> None:
            closed.append(self)

    inner = Inner()
    async with lib.adapter.ResilientTransport(Engine(), inner):
        pass
    await lib.adapter.ResilientTransport(Engine(), inner).aclose()

    assert [inner, inner] == closed


class Stamped:
    """A client of the future, with a place for stamps."""

    _transport_for_url = None


@pytest.mark.parametrize("client", [object, Stamped])
def test_a_library_without_the_places_for_stamps_and_bodies_is_refused_at_import(client: type) -> None:
    """Better no adapter than one that silently sends neither key nor token."""
    future = types.SimpleNamespace(__name__="httpx3", __version__="3.0", AsyncClient=client, Response=lambda *_, **__: object())

    with pytest.raises(ImportError, match=r"httpx3 3\.0 is not known here"):
        Library(future, {})
