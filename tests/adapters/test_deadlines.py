"""What is left of a call's time bounds everything in it, the client's own timeouts and a streamed body included."""

from __future__ import annotations

import math
import time
from typing import Any

import anyio
import attrs
import pytest

from resilience import AttemptTimedOut, AttemptTimeout, CircuitBreaker, Deadline, DeadlineExceeded, Engine, Retry, history
from resilience.backend import lateness

pytestmark = pytest.mark.anyio

# trio is told of it when either client closes a body that was not read to its end, engine or not.
half_read = pytest.mark.filterwarnings("ignore:.*was garbage collected before it had been exhausted:ResourceWarning")


def hanging(peer: Any, request: bytes) -> None:
    peer.gone()


def dripping(peer: Any, request: bytes) -> None:
    """A head at once, then a byte now and then, for ever."""
    peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    while not peer.odd.over.wait(0.002):
        try:
            peer.connection.sendall(b"x")
        except OSError:
            return


# The call's own limits.


async def test_a_deadline_cuts_a_hung_request(over: Any, lib: Any, desk: Any, odd: Any) -> None:
    """D10."""
    server = odd(hanging)
    async with over(Engine([Deadline(0.03), Retry()], env=desk.env)) as client:
        began = time.monotonic()
        with pytest.raises(lib.adapter.HttpxDeadlineExceeded, match=r"exceeded its deadline of 0\.03 s after 1 attempt"):
            await client.get(server.url)

    assert 0.03 <= time.monotonic() - began < 2
    assert ["attempt"] == [event.where for event in desk.of("deadline.exceeded")]
    assert len(server.requests) <= 1


async def test_an_attempt_that_takes_too_long_is_repeated_where_that_is_safe(over: Any, lib: Any, desk: Any, odd: Any) -> None:
    """D10, D4."""
    server = odd(hanging)
    async with over(Engine([Retry(attempts=2), AttemptTimeout(0.02)], env=desk.env)) as client:
        with pytest.raises(lib.adapter.HttpxAttemptTimedOut, match=r"attempt 2 took longer than 0\.02 s"):
            await client.get(server.url)
        with pytest.raises(lib.adapter.HttpxAttemptTimedOut, match=r"attempt 1 took longer than 0\.02 s"):
            await client.post(server.url)

    assert ["attempts", "unsafe"] == [event.reason for event in desk.of("retry.gave_up")]


async def test_the_client_s_own_timeout_stays_its_own(over: Any, lib: Any, desk: Any, odd: Any) -> None:
    server = odd(hanging)
    own = lib.http.Timeout(5, read=0.02)
    async with over(Engine([Deadline(5), Retry(attempts=2), AttemptTimeout(4)], env=desk.env), timeout=own) as client:
        with pytest.raises(lib.http.ReadTimeout) as caught:
            await client.get(server.url)

    assert not isinstance(caught.value, TimeoutError)
    assert 2 == server.arrived(2)


async def test_a_body_that_drips_is_bounded_by_the_attempt(lib: Any, desk: Any, odd: Any) -> None:
    server = odd(dripping)
    async with lib.client(Engine([AttemptTimeout(0.03)], env=desk.env)) as client:
        with pytest.raises(AttemptTimedOut):
            await client.get(server.url)


async def test_the_caller_s_own_timeout_is_never_taken_for_ours(over: Any, desk: Any, odd: Any) -> None:
    """D10, D1."""
    server = odd(hanging)
    async with over(Engine([Deadline(5), Retry(), AttemptTimeout(4)], env=desk.env)) as client:
        with pytest.raises(TimeoutError) as caught:
            with anyio.fail_after(0.02):
                await client.get(server.url)

    assert not isinstance(caught.value, DeadlineExceeded | AttemptTimedOut)
    assert len(server.requests) <= 1
    assert [] == desk.of("attempt.failed")


# The client's timeouts.


class Watching:
    """An env whose time stands still, and a transport that notes the timeouts it is given."""

    def __init__(self, lib: Any, *statuses: int) -> None:
        self.now = 100.0
        self.given: list[Any] = []
        watching = self

        class Transport(lib.http.AsyncBaseTransport):  # type: ignore[misc]
            async def handle_async_request(self, request: Any) -> Any:
                watching.given.append(request.extensions.get("timeout"))
                watching.now += 1.0
                return lib.http.Response(statuses[len(watching.given) - 1])

        self.transport = Transport()


async def timeouts(lib: Any, over: Any, desk: Any, own: Any, *policies: Any, digits: int = 1) -> list[dict[str, float]]:
    """What the transport was given in each of two attempts, a second apart."""
    watching = Watching(lib, 503, 200)
    env = attrs.evolve(desk.env, now=lambda: watching.now)
    async with over(Engine([*policies[:1], Retry(), *policies[1:]], env=env), transport=watching.transport, timeout=own) as client:
        await client.get("https://api.example")
    return [{name: round(seconds, digits) for name, seconds in given.items() if seconds is not None} for given in watching.given]


async def test_no_timeout_of_the_client_is_longer_than_the_time_left(lib: Any, over: Any, desk: Any) -> None:
    assert [
        {"connect": 2.7, "read": 5.0, "write": 3.0, "pool": 2.7},
        {"connect": 2.7, "read": 4.0, "write": 3.0, "pool": 2.7},
    ] == await timeouts(lib, over, desk, None, Deadline(5), AttemptTimeout(3))


@pytest.mark.parametrize("seconds", [0.5, 9.0, 3600.0])
async def test_the_client_s_own_come_after_ours_which_may_come_late(lib: Any, over: Any, desk: Any, seconds: float) -> None:
    """On asyncio a limit of an hour may come half a minute late, and it alone can say whose it is."""
    by_deadline, *_ = await timeouts(lib, over, desk, None, Deadline(seconds), digits=3)
    by_attempt, *_ = await timeouts(lib, over, desk, None, Deadline(9 * seconds), AttemptTimeout(seconds), digits=3)

    assert seconds + lateness(seconds) < min(by_deadline.values())
    assert seconds + lateness(seconds) < by_attempt["write"]


@half_read
async def test_an_attempt_that_waits_for_a_connection_of_our_own_is_no_fault_of_the_peer_s(
    over: Any, lib: Any, desk: Any, odd: Any
) -> None:
    """A crowd of our own must not open the circuit of a peer that is well; and what was never sent may be sent again."""
    server = odd(lambda peer, request: peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"))
    breaker = CircuitBreaker(consecutive=1, failure_ratio=1)
    hurried = Engine([Retry(attempts=2), breaker, AttemptTimeout(0.2)], env=desk.env)
    transport = lib.http.AsyncHTTPTransport(verify=False, trust_env=False, limits=lib.http.Limits(max_connections=1))
    async with over(hurried, transport=transport, timeout=60) as client:
        crowd = lib.http.AsyncClient(transport=transport)
        async with crowd.stream("GET", server.url):
            with pytest.raises(lib.http.PoolTimeout) as caught:
                await client.post(server.url)

    assert ["not_sent", "not_sent"] == [tried.phase for tried in history(caught.value)]
    assert "closed" == breaker.era(server.url)


async def test_a_shorter_timeout_of_the_client_s_own_stays(lib: Any, over: Any, desk: Any) -> None:
    own = lib.http.Timeout(2, connect=4.5)

    assert [
        {"connect": 4.5, "read": 2.0, "write": 2.0, "pool": 2.0},
        {"connect": 4.0, "read": 2.0, "write": 2.0, "pool": 2.0},
    ] == await timeouts(lib, over, desk, own, Deadline(5))


async def test_one_that_leaves_no_headway_to_an_attempt_is_shortened(lib: Any, over: Any, desk: Any) -> None:
    """All four would fit into the attempt; those that come before sending are to say so in time."""
    given, _ = await timeouts(lib, over, desk, lib.http.Timeout(4.6), Deadline(60), AttemptTimeout(5))

    assert {"connect": 4.5, "read": 4.6, "write": 4.6, "pool": 4.5} == given


@pytest.mark.parametrize("own", [{"connect": 1.0}, {"connect": 1.0, "read": None, "write": 9.0}])
async def test_timeouts_that_a_request_brings_itself_are_shortened_and_stay_as_they_are(lib: Any, over: Any, desk: Any, own: Any) -> None:
    watching, before = Watching(lib, 200), dict(own)
    env = attrs.evolve(desk.env, now=lambda: watching.now)
    async with over(Engine([Deadline(5)], env=env), transport=watching.transport) as client:
        await client.get("https://api.example", extensions={"timeout": own})

    assert {"connect": 1, "read": 5, "write": 5, "pool": 5} == {name: round(seconds) for name, seconds in watching.given[0].items()}
    assert before == own


async def test_without_limits_the_client_s_timeouts_are_its_own(lib: Any, over: Any, desk: Any) -> None:
    own = lib.http.Timeout(2, pool=None)

    assert [{"connect": 2, "read": 2, "write": 2}] * 2 == await timeouts(lib, over, desk, own)


async def test_a_transport_used_bare_gets_what_is_left_too(lib: Any, desk: Any) -> None:
    watching = Watching(lib, 200)
    env = attrs.evolve(desk.env, now=lambda: watching.now)
    transport = lib.adapter.ResilientTransport(Engine([Deadline(5)], env=env), watching.transport)
    await transport.handle_async_request(lib.http.Request("GET", "https://api.example"))

    assert {"connect", "read", "write", "pool"} == set(watching.given[0])


# Streams.


def halting(peer: Any, request: bytes) -> None:
    """A head and the first byte at once, then nothing."""
    peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\nx")
    peer.gone()


async def test_a_streamed_body_is_bounded_by_the_deadline_after_the_call(over: Any, lib: Any, desk: Any, odd: Any) -> None:
    server = odd(halting)
    async with over(Engine([Deadline(10), Retry()], env=desk.stopped())) as client:
        async with client.stream("GET", server.url) as response:
            parts = response.aiter_raw()
            first = await anext(parts)
            desk.now += 9.99
            with pytest.raises(lib.adapter.HttpxDeadlineExceeded, match="deadline of 10 s after 1 attempt") as caught:
                await anext(parts)

    assert b"x" == first
    assert response.request is caught.value.request
    assert ["call.succeeded", "deadline.exceeded"] == desk.names()
    assert "streaming" == desk.events[-1].where


@half_read
async def test_what_is_unread_when_the_time_is_up_is_not_read_then(over: Any, desk: Any, odd: Any) -> None:
    server = odd(lambda peer, request: peer.answer(200, b"x" * 10))
    async with over(Engine([Deadline(10)], env=desk.stopped())) as client:
        async with client.stream("GET", server.url) as response:
            desk.now += 10
            with pytest.raises(DeadlineExceeded):
                await response.aread()


async def test_a_stream_cut_by_the_deadline_frees_its_connection(over: Any, lib: Any, desk: Any, odd: Any) -> None:
    """D29."""
    server = odd(lambda peer, request: halting(peer, request) if len(peer.odd.requests) < 2 else peer.answer(200))
    inner = lib.http.AsyncHTTPTransport(verify=False, limits=lib.http.Limits(max_connections=1))
    async with over(Engine([Deadline(10)], env=desk.stopped()), transport=inner, timeout=lib.http.Timeout(5, pool=1)) as client:
        async with client.stream("GET", server.url) as response:
            desk.now += 9.99
            with pytest.raises(DeadlineExceeded):
                await response.aread()
            status = (await client.get(server.url)).status_code

    assert 200 == status


async def test_a_failed_response_is_bounded_likewise_beyond_what_was_drained(over: Any, desk: Any, odd: Any) -> None:
    def play(peer: Any, request: bytes) -> None:
        peer.send(b"HTTP/1.1 404 No\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 200_000)
        peer.gone()

    server = odd(play)
    async with over(Engine([Deadline(10)], env=desk.stopped())) as client:
        async with client.stream("GET", server.url) as response:
            desk.now += 9.99
            with pytest.raises(DeadlineExceeded):
                await response.aread()

    assert 404 == response.status_code


async def test_an_error_that_the_cut_provoked_is_the_cause(over: Any, lib: Any, desk: Any) -> None:
    class Stream(lib.http.AsyncByteStream):  # type: ignore[misc]
        async def __aiter__(self) -> Any:
            try:
                await anyio.sleep(60)
            except BaseException:
                raise KeyError("cut") from None
            yield b""

    transport = lib.http.MockTransport(lambda request: lib.http.Response(200, stream=Stream()))
    async with over(Engine([Deadline(10)], env=desk.stopped()), transport=transport) as client:
        async with client.stream("GET", "https://api.example") as response:
            desk.now += 9.99
            with pytest.raises(DeadlineExceeded) as caught:
                await response.aread()

    assert isinstance(caught.value.__cause__, KeyError)


async def test_a_stream_closed_unread_frees_its_connection(over: Any, lib: Any, desk: Any, odd: Any) -> None:
    """D29."""
    server = odd(lambda peer, request: halting(peer, request) if len(peer.odd.requests) < 2 else peer.answer(200))
    inner = lib.http.AsyncHTTPTransport(verify=False, limits=lib.http.Limits(max_connections=1))
    async with over(Engine([Deadline(10)], env=desk.env), transport=inner, timeout=lib.http.Timeout(5, pool=1)) as client:
        async with client.stream("GET", server.url):
            pass
        response = await client.get(server.url)

    assert 200 == response.status_code


async def test_a_stream_in_time_is_whole_and_its_errors_are_its_own(over: Any, lib: Any, desk: Any, odd: Any) -> None:
    def play(peer: Any, request: bytes) -> None:
        if b"/whole" in request:
            peer.answer(200, b"x" * 300_000)
        else:
            peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx")
            peer.connection.close()

    server = odd(play)
    async with over(Engine([Deadline(5)], env=desk.env)) as client:
        async with client.stream("GET", f"{server.url}/whole") as response:
            assert 300_000 == len(await response.aread())
        async with client.stream("GET", f"{server.url}/part") as response:
            with pytest.raises(lib.http.RemoteProtocolError):
                await response.aread()


async def test_a_cancelled_reader_is_cancelled_and_not_late(over: Any, desk: Any, odd: Any) -> None:
    """D1."""
    server = odd(dripping)
    async with over(Engine([Deadline(5)], env=desk.env)) as client:
        async with client.stream("GET", server.url) as response:
            with anyio.move_on_after(0.02) as scope:
                await response.aread()

    assert scope.cancelled_caught
    assert [] == desk.of("deadline.exceeded")


async def test_a_stream_may_be_read_and_closed_in_another_task(over: Any, desk: Any, odd: Any) -> None:
    """B39: no scope and no context variable is held across an item."""
    server = odd(lambda peer, request: peer.answer(200, b"x" * 300_000))
    async with over(Engine([Deadline(5)], env=desk.env)) as client:
        response = await client.send(client.build_request("GET", server.url), stream=True)
        parts = response.aiter_raw()
        sizes = []

        async def read_one() -> None:
            sizes.append(len(await anext(parts)))

        async def read_and_close() -> None:
            sizes.extend([len(part) async for part in parts])
            await response.aclose()

        for job in (read_one, read_one, read_and_close):
            async with anyio.create_task_group() as group:
                group.start_soon(job)

    assert 300_000 == sum(sizes)


async def test_the_error_of_a_late_read_knows_the_attempts_before(over: Any, desk: Any, odd: Any) -> None:
    server = odd(lambda peer, request: peer.answer(503) if len(peer.odd.requests) < 2 else halting(peer, request))
    async with over(Engine([Deadline(10), Retry()], env=desk.stopped())) as client:
        async with client.stream("GET", server.url) as response:
            desk.now += 9.99
            with pytest.raises(DeadlineExceeded) as caught:
                await response.aread()

    assert 2 == caught.value.attempts
    assert [503] == [tried.status for tried in history(caught.value)]


async def test_a_switch_of_protocols_is_left_alone(over: Any, lib: Any, desk: Any) -> None:
    """A web socket lives as long as it likes."""
    transport = lib.http.MockTransport(lambda request: lib.http.Response(101, stream=lib.http.ByteStream(b"")))
    async with over(Engine([Deadline(5)], env=desk.env), transport=transport) as client:
        async with client.stream("GET", "https://api.example") as response:
            kinds = {type(response.stream).__module__, type(getattr(response.stream, "_stream", None)).__module__}

    assert not any(kind.startswith("resilience") for kind in kinds)


async def test_without_a_deadline_a_stream_is_the_client_s_own(over: Any, desk: Any, odd: Any) -> None:
    server = odd(lambda peer, request: peer.answer(200))
    async with over(Engine([Retry()], env=desk.env)) as client:
        async with client.stream("GET", server.url) as response:
            kind = type(response.stream).__module__

    assert not kind.startswith("resilience")
    assert math.inf > response.elapsed.total_seconds()
