"""Each RPC of a channel with our interceptors is one call of the engine: grpcio itself, and a server of its own on a real socket."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeAlias

import anyio
import attrs
import grpc
import grpc.aio
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from resilience import (
    AttemptTimedOut,
    AttemptTimeout,
    CircuitBreaker,
    CircuitOpen,
    Constant,
    Deadline,
    DeadlineExceeded,
    Engine,
    IdempotencyKey,
    Phase,
    RefreshFailed,
    RefreshToken,
    Rejected,
    ResilienceError,
    Retry,
    Signal,
    StreamFailed,
    StreamTimeout,
    fail_fast,
    history,
    read,
)
from resilience.adapters.grpc import (
    NO_RETRIES,
    GrpcAttemptTimedOut,
    GrpcCircuitOpen,
    GrpcDeadlineExceeded,
    GrpcRefreshFailed,
    GrpcRejected,
    GrpcStreamFailed,
    interceptors,
)
from resilience.backend import lateness
from resilience.dialects import grpc as dialect
from resilience.dialects import http
from tests.conftest import ON_ASYNCIO

pytestmark = pytest.mark.anyio

ASK, TELL, GIVE, TALK = (f"/test.Peer/{name}" for name in ("Ask", "Tell", "Give", "Talk"))
CODE = grpc.StatusCode


@pytest.fixture(scope="module", params=ON_ASYNCIO)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """grpc.aio knows asyncio only."""
    return request.param


# The server


@attrs.frozen
class No:
    """A status other than OK, its words, and the metadata that trail it."""

    code: Any = CODE.UNAVAILABLE
    words: str = "not now"
    metadata: tuple[tuple[str, str | bytes], ...] = ()


Play: TypeAlias = Callable[[bytes, Any], Awaitable[bytes]]
Step: TypeAlias = bytes | No | Play


@attrs.frozen
class Seen:
    """An RPC as it arrived."""

    method: str
    metadata: dict[str, str]
    seconds_left: float | None


class Peer(grpc.GenericRpcHandler):  # type: ignore[misc]
    """
    A server that answers as a test says, bytes for bytes.

    Attributes:
        script: What becomes of the RPCs to come, one after another: an answer, a refusal, a function that gives one of them, or for a
            stream of answers a list of those.  Then all is well.
        seen: The RPCs so far.
        got: The requests so far.
    """

    def __init__(self) -> None:
        self.script: list[Any] = []
        self.seen: list[Seen] = []
        self.got: list[bytes] = []
        self.server = grpc.aio.server()
        self.server.add_generic_rpc_handlers([self])
        self.target = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"

    def service(self, details: Any) -> Any:
        handlers = {
            ASK: grpc.unary_unary_rpc_method_handler(self.ask),
            TELL: grpc.unary_stream_rpc_method_handler(self.tell),
            GIVE: grpc.stream_unary_rpc_method_handler(self.give),
            TALK: grpc.stream_stream_rpc_method_handler(self.talk),
        }
        return handlers.get(details.method)

    async def ask(self, request: bytes, context: Any) -> bytes:
        return await self._play(self._arrived(ASK, context, b"ok"), request, context)

    async def tell(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for step in self._arrived(TELL, context, [b"1", b"2", b"3"]):
            yield await self._play(step, request, context)

    async def give(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        step = self._arrived(GIVE, context, None)
        got = [request async for request in requests]
        self.got += got
        return b"+".join(got) if step is None else await self._play(step, b"", context)

    async def talk(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        step = self._arrived(TALK, context, None)
        if step is not None:
            yield await self._play(step, b"", context)
        async for request in requests:
            self.got.append(request)
            if request == b"die":
                await context.abort(CODE.UNAVAILABLE, "dead")
            yield request.upper()

    def _arrived(self, method: str, context: Any, otherwise: Any) -> Any:
        metadata = {str(key): str(value) for key, value in context.invocation_metadata()}
        self.seen.append(Seen(method, metadata, context.time_remaining()))
        return self.script.pop(0) if self.script else otherwise

    async def _play(self, step: Step, request: bytes, context: Any) -> bytes:
        if isinstance(step, No):
            await context.abort(step.code, step.words, trailing_metadata=step.metadata)
        return step if isinstance(step, bytes) else await step(request, context)  # type: ignore[operator]  # abort raises

    def sent(self, name: str) -> list[str | None]:
        """What each RPC brought along as *name*."""
        return [one.metadata.get(name) for one in self.seen]


@pytest.fixture(scope="module", autouse=True)
async def one_loop(anyio_backend: Any) -> AsyncIterator[None]:
    """grpc.aio has one queue of events for the whole process, and late ones must not come to a loop that is closed."""
    yield
    await anyio.wait_all_tasks_blocked()


@pytest.fixture
async def peer(anyio_backend: Any) -> AsyncIterator[Peer]:
    served = Peer()
    await served.server.start()
    yield served
    await served.server.stop(None)


@pytest.fixture
async def other(anyio_backend: Any) -> AsyncIterator[Peer]:
    served = Peer()
    await served.server.start()
    yield served
    await served.server.stop(None)


@pytest.fixture
def closed() -> Iterator[str]:
    """A port where nobody listens, and nobody else here will."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


class Hang:
    """Answers nothing, and notes when it is told to stop."""

    def __init__(self) -> None:
        self.begun = anyio.Event()
        self.left = anyio.Event()

    async def __call__(self, request: bytes, context: Any) -> bytes:
        self.begun.set()
        try:
            await anyio.sleep(60)
        finally:
            self.left.set()
        return b"too late"


def throttled(seconds: int) -> No:
    """As a server in Python says it with grpcio-status."""
    held = any_pb2.Any()
    held.Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=seconds)))
    status = rpc_status.to_status(status_pb2.Status(code=CODE.RESOURCE_EXHAUSTED.value[0], message="slow down", details=[held]))
    return No(CODE.RESOURCE_EXHAUSTED, "slow down", tuple(status.trailing_metadata))


def pushback(value: str, code: Any = CODE.UNAVAILABLE) -> No:
    return No(code, metadata=(("grpc-retry-pushback-ms", value),))


def engine(desk: Any, *policies: Any, rules: Any = dialect.RULES) -> Engine:
    return Engine(policies, rules=rules, env=desk.env)


def channel(target: str, engine: Engine, idempotent: Any = (), *, options: Any = (), outside: Any = (), inside: Any = ()) -> Any:
    ours = interceptors(engine, target, idempotent=idempotent)
    return grpc.aio.insecure_channel(target, options=[*NO_RETRIES, *options], interceptors=[*outside, *ours, *inside])


async def error_of(rpc: Any) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        await rpc
    return caught.value


class TestAnRpc:
    async def test_is_one_call_and_each_of_its_attempts_one_rpc(self, desk: Any, peer: Peer) -> None:
        """D9."""
        peer.script = [No(), No(CODE.INTERNAL)]
        async with channel(peer.target, engine(desk, Retry(backoff=Constant(0.5))), [ASK]) as open_channel:
            answer = await open_channel.unary_unary(ASK)(b"")

        assert b"ok" == answer
        assert [ASK] * 3 == [one.method for one in peer.seen]
        assert [0.5, 0.5] == desk.slept
        assert ["attempt.failed", "retry.scheduled", "attempt.failed", "retry.scheduled", "call.recovered"] == desk.names()
        assert {ASK} == {event.operation for event in desk.events}
        assert ["UNAVAILABLE", "INTERNAL"] == [event.code for event in desk.of("attempt.failed")]

    async def test_is_grpc_s_own_call_to_its_caller(self, desk: Any, peer: Peer) -> None:
        async def with_metadata(request: bytes, context: Any) -> bytes:
            await context.send_initial_metadata((("first", "1"),))
            context.set_trailing_metadata((("last", "2"),))
            return request.upper()

        peer.script = [No(), with_metadata]
        ended: list[Any] = []
        async with channel(peer.target, engine(desk, Retry()), [ASK]) as open_channel:
            rpc = open_channel.unary_unary(ASK, request_serializer=str.encode, response_deserializer=bytes.decode)("hello")
            rpc.add_done_callback(ended.append)

            assert ("HELLO", "HELLO") == (await rpc, await rpc)
            assert (CODE.OK, "") == (await rpc.code(), await rpc.details())
            assert ("1", "2") == ((await rpc.initial_metadata())["first"], (await rpc.trailing_metadata())["last"])
            assert rpc.done()
            assert not rpc.cancelled()
            assert [rpc] == ended

    async def test_that_fails_raises_grpc_s_own_error_with_its_history(self, desk: Any, peer: Peer) -> None:
        """D11."""
        peer.script = [No(words="one"), No(words="two"), No(words="three")]
        async with channel(peer.target, engine(desk, Retry()), [ASK]) as open_channel:
            rpc = open_channel.unary_unary(ASK)(b"")
            error = await error_of(rpc)

            assert CODE.UNAVAILABLE is await rpc.code()
        assert (grpc.aio.AioRpcError, CODE.UNAVAILABLE, "three") == (type(error), error.code(), error.details())
        assert [1, 2, 3] == [tried.attempt for tried in history(error)]
        assert ["attempts"] == [event.reason for event in desk.of("retry.gave_up")]

    async def test_is_not_repeated_where_nobody_said_that_it_may_be(self, desk: Any, peer: Peer) -> None:
        """D4."""
        peer.script = [No()]
        async with channel(peer.target, engine(desk, Retry()), ["/test.Peer/Other"]) as open_channel:
            error = await error_of(open_channel.unary_unary(ASK)(b""))

        assert (CODE.UNAVAILABLE, 1) == (error.code(), len(peer.seen))
        assert ["unsafe"] == [event.reason for event in desk.of("retry.gave_up")]

    @pytest.mark.parametrize("said", ["by name", "by a function", "by the view"])
    async def test_is_repeated_where_somebody_did(self, desk: Any, peer: Peer, said: str) -> None:
        peer.script = [No()]
        plain = engine(desk, Retry())
        view = plain.using(repeatable=True) if said == "by the view" else plain
        idempotent: Any = {"by name": {ASK}, "by a function": lambda name: name.endswith("/Ask")}.get(said, ())
        async with channel(peer.target, view, idempotent) as open_channel:
            await open_channel.unary_unary(ASK)(b"")

        assert 2 == len(peer.seen)

    async def test_that_its_server_refused_before_any_work_is_repeated_whatever_it_does(self, desk: Any, peer: Peer) -> None:
        peer.script = [No(CODE.RESOURCE_EXHAUSTED)]
        async with channel(peer.target, engine(desk, Retry())) as open_channel:
            await open_channel.unary_unary(ASK)(b"")

        assert 2 == len(peer.seen)

    async def test_that_fails_for_good_is_asked_for_once(self, desk: Any, peer: Peer) -> None:
        peer.script = [No(CODE.NOT_FOUND)]
        async with channel(peer.target, engine(desk, Retry()), [ASK]) as open_channel:
            await error_of(open_channel.unary_unary(ASK)(b""))

        assert (1, ["attempt.failed", "call.failed_fast"]) == (len(peer.seen), desk.names())

    async def test_whose_answer_a_dialect_takes_for_a_failure_is_repeated(self, desk: Any, peer: Peer) -> None:
        peer.script = [b"overloaded"]
        rules = dialect.RULES.extend("acme", by_result=lambda answer: read(ConnectionError()) if answer == b"overloaded" else None)
        async with channel(peer.target, engine(desk, Retry(), rules=rules), [ASK]) as open_channel:
            rpc = open_channel.unary_unary(ASK)(b"")

            assert (b"ok", CODE.OK) == (await rpc, await rpc.code())
        assert 2 == len(peer.seen)

    async def test_inside_another_call_shares_its_repeats(self, desk: Any, peer: Peer) -> None:
        peer.script = [No()] * 9
        async with channel(peer.target, engine(desk, Retry(attempts=3)), [ASK]) as open_channel:
            rpc = open_channel.unary_unary(ASK)
            outer = engine(desk, Retry(attempts=3))

            async def twice() -> bytes:
                answer: bytes = await rpc(b"")
                return answer

            await error_of(outer.call(twice))

        assert 3 == len(peer.seen)
        assert ["grpc"] == [event.outer for event in desk.of("engine.nested")]

    async def test_can_be_cancelled_at_once(self, desk: Any, peer: Peer) -> None:
        """D1."""
        hang = Hang()
        peer.script = [hang]
        async with channel(peer.target, engine(desk, Retry(), AttemptTimeout(50)), [ASK]) as open_channel:
            async with anyio.create_task_group() as group:
                group.start_soon(error_of, open_channel.unary_unary(ASK)(b""))
                await hang.begun.wait()
                group.cancel_scope.cancel()
            with anyio.fail_after(5):
                await hang.left.wait()

        assert 1 == len(peer.seen)

    async def test_can_be_cancelled_by_its_own_method_while_it_waits_for_a_repeat(self, desk: Any, peer: Peer) -> None:
        peer.script = [No()]
        waiting = anyio.Event()

        async def wait(seconds: float) -> None:
            waiting.set()
            await anyio.sleep(60)

        slow = Engine([Retry()], rules=dialect.RULES, env=attrs.evolve(desk.env, sleep=wait))
        async with channel(peer.target, slow, [ASK]) as open_channel:
            rpc = open_channel.unary_unary(ASK)(b"")
            await waiting.wait()

            assert rpc.cancel()
            with pytest.raises(asyncio.CancelledError):
                await rpc
        assert 1 == len(peer.seen)

    async def test_that_waits_for_a_repeat_ends_with_its_channel(self, desk: Any, peer: Peer) -> None:
        peer.script = [No()]
        waiting = anyio.Event()

        async def wait(seconds: float) -> None:
            waiting.set()
            await anyio.sleep(60)

        slow = Engine([Retry()], rules=dialect.RULES, env=attrs.evolve(desk.env, sleep=wait))
        async with channel(peer.target, slow, [ASK]) as open_channel:
            rpc = open_channel.unary_unary(ASK)(b"")
            await waiting.wait()

        with pytest.raises(asyncio.CancelledError):
            await rpc

    async def test_takes_its_metadata_along_on_each_attempt(self, desk: Any, peer: Peer) -> None:
        peer.script = [No()]
        async with channel(peer.target, engine(desk, Retry()), [ASK]) as open_channel:
            await open_channel.unary_unary(ASK)(b"", metadata=(("tenant", "7"), ("colour", "red")))

        assert (["7", "7"], ["red", "red"]) == (peer.sent("tenant"), peer.sent("colour"))

    async def test_goes_through_interceptors_before_ours_once_and_after_ours_each_time(self, desk: Any, peer: Peer) -> None:
        class Counting(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
            rpcs = 0

            async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
                self.rpcs += 1
                return await continuation(client_call_details, request)

        outside, inside = Counting(), Counting()
        peer.script = [No()]
        async with channel(peer.target, engine(desk, Retry()), [ASK], outside=[outside], inside=[inside]) as open_channel:
            await open_channel.unary_unary(ASK)(b"")

        assert (1, 2) == (outside.rpcs, inside.rpcs)


class TestWaits:
    """D3."""

    async def test_last_as_long_as_the_details_ask(self, desk: Any, peer: Peer) -> None:
        peer.script = [throttled(7)]
        async with channel(peer.target, engine(desk, Retry())) as open_channel:
            await open_channel.unary_unary(ASK)(b"")

        assert 2 == len(peer.seen)
        assert 7.0 <= desk.slept[0] <= 7.7

    async def test_last_as_long_as_the_server_pushes_back(self, desk: Any, peer: Peer) -> None:
        peer.script = [pushback("2500")]
        async with channel(peer.target, engine(desk, Retry()), [ASK]) as open_channel:
            await open_channel.unary_unary(ASK)(b"")

        assert 2 == len(peer.seen)
        assert 2.5 <= desk.slept[0] <= 2.75

    @pytest.mark.parametrize("value", ["-1", "-500", "never"])
    async def test_end_where_it_says_that_no_repeat_is_wanted(self, desk: Any, peer: Peer, value: str) -> None:
        peer.script = [pushback(value)]
        async with channel(peer.target, engine(desk, Retry()), [ASK]) as open_channel:
            await error_of(open_channel.unary_unary(ASK)(b""))

        assert 1 == len(peer.seen)
        assert ["grpc: the peer's own word"] == [event.rule for event in desk.of("call.failed_fast")]

    async def test_that_are_too_long_are_not_begun(self, desk: Any, peer: Peer) -> None:
        peer.script = [throttled(3600)]
        async with channel(peer.target, engine(desk, Retry())) as open_channel:
            error = await error_of(open_channel.unary_unary(ASK)(b""))

        assert ([], 3600.0) == (desk.slept, history(error)[0].retry_after)


class TestTheConnection:
    async def test_that_was_refused_sent_nothing_and_any_rpc_is_repeated(self, desk: Any, closed: str) -> None:
        """D4: safe whatever the RPC does."""
        async with channel(closed, engine(desk, Retry(attempts=3))) as open_channel:
            error = await error_of(open_channel.unary_unary(ASK)(b""))

        assert ["not_sent"] * 3 == [tried.phase for tried in history(error)]
        assert Phase.NOT_SENT is read(error).phase

    @pytest.mark.parametrize("policy", ["pick_first", "round_robin"])
    async def test_is_told_by_every_way_of_choosing_one(self, desk: Any, closed: str, policy: str) -> None:
        config = (("grpc.service_config", json.dumps({"loadBalancingConfig": [{policy: {}}]})),)
        async with channel(closed, engine(desk), options=config) as open_channel:
            unary = await error_of(open_channel.unary_unary(ASK)(b""))
            streamed = await error_of(anext(aiter(open_channel.unary_stream(TELL)(b""))))

        assert [Phase.NOT_SENT] * 2 == [read(unary).phase, read(streamed).phase]

    async def test_of_a_server_to_somebody_else_is_not_ours(self, desk: Any, peer: Peer, closed: str) -> None:
        """It passes on what its own call failed with, and may have done its part before."""

        async def pass_on(request: bytes, context: Any) -> bytes:
            async with grpc.aio.insecure_channel(closed) as further:
                try:
                    await further.unary_unary(ASK)(request)
                except grpc.aio.AioRpcError as error:
                    await context.abort(error.code(), error.details())
            return b""

        peer.script = [pass_on]
        async with channel(peer.target, engine(desk, Retry())) as open_channel:
            error = await error_of(open_channel.unary_unary(ASK)(b""))

        assert "failed to connect to all addresses" in error.details()
        assert (1, Phase.UNKNOWN) == (len(peer.seen), read(error).phase)

    async def test_that_breaks_may_have_carried_the_rpc(self, desk: Any, peer: Peer) -> None:
        hang = Hang()
        peer.script = [hang]
        async with channel(peer.target, engine(desk, Retry())) as open_channel:
            rpc = open_channel.unary_unary(ASK)(b"")
            await hang.begun.wait()
            await peer.server.stop(None)
            error = await error_of(rpc)

        assert (CODE.UNAVAILABLE, ["unknown"]) == (error.code(), [tried.phase for tried in history(error)])

    async def test_in_the_hands_of_another_interceptor_may_have_carried_the_rpc(self, desk: Any, closed: str) -> None:
        """What it did before it failed is not known."""

        class Awaiting(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
            async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
                return await (await continuation(client_call_details, request))

        async with channel(closed, engine(desk), inside=[Awaiting()]) as open_channel:
            error = await error_of(open_channel.unary_unary(ASK)(b""))

        assert Phase.UNKNOWN is read(error).phase


class TestTime:
    """D10."""

    async def test_that_is_left_is_told_to_the_server(self, desk: Any, peer: Peer) -> None:
        async with channel(peer.target, engine(desk, Deadline(20), AttemptTimeout(7))) as open_channel:
            await open_channel.unary_unary(ASK)(b"")
            await open_channel.unary_unary(ASK)(b"", timeout=3)
            assert [b"1", b"2", b"3"] == [message async for message in open_channel.unary_stream(TELL)(b"")]

        bounded, asked, streamed = (one.seconds_left for one in peer.seen)
        assert bounded is not None
        assert asked is not None
        assert streamed is not None
        assert bounded < 7.2
        assert asked < 3.2
        assert 7.2 < streamed < 20.4  # an attempt's limit ends with the first message

    @pytest.mark.parametrize("seconds", [0.5, 9.0, 3600.0])
    async def test_that_is_left_ends_for_grpc_after_it_has_for_us(self, desk: Any, peer: Peer, seconds: float) -> None:
        """On asyncio a limit of an hour may come half a minute late, and it alone can say whose it is."""
        given: list[float] = []

        class Noting(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
            async def intercept_unary_unary(self, go_on: Any, details: Any, request: Any) -> Any:
                given.append(details.timeout)
                return await go_on(details, request)

        stopped = Engine([AttemptTimeout(seconds)], rules=dialect.RULES, env=desk.stopped())
        async with channel(peer.target, stopped, inside=[Noting()]) as open_channel:
            await open_channel.unary_unary(ASK)(b"")

        assert seconds + lateness(seconds) < given[0]

    async def test_without_limit_is_told_to_nobody(self, desk: Any, peer: Peer) -> None:
        async with channel(peer.target, engine(desk)) as open_channel:
            await open_channel.unary_unary(ASK)(b"")

        assert "grpc-timeout" not in peer.seen[0].metadata
        assert peer.seen[0].seconds_left is None or peer.seen[0].seconds_left > 1e6

    @pytest.mark.parametrize("whose", ["the engine's", "the caller's"])
    async def test_that_is_up_ends_the_call_and_the_rpc(self, desk: Any, peer: Peer, whose: str) -> None:
        hang = Hang()
        peer.script = [hang]
        policies = [Deadline(0.3), Retry()] if whose == "the engine's" else [Retry()]
        async with channel(peer.target, engine(desk, *policies), [ASK]) as open_channel:
            rpc = open_channel.unary_unary(ASK)(b"", timeout=None if whose == "the engine's" else 0.3)
            error = await error_of(rpc)
            with anyio.fail_after(5):
                await hang.left.wait()

            assert CODE.DEADLINE_EXCEEDED is await rpc.code()
        assert isinstance(error, GrpcDeadlineExceeded)
        assert f"{ASK}: exceeded its deadline of 0.3 s after 1 attempt(s)" == error.details()
        assert (1, ["attempt"]) == (len(peer.seen), [event.where for event in desk.of("deadline.exceeded")])

    async def test_of_the_caller_s_bounds_all_attempts_together(self, desk: Any, peer: Peer) -> None:
        """gRFC A6: "gRPC's call deadline applies across all attempts for a given RPC"."""
        peer.script = [pushback("5000")]
        async with channel(peer.target, engine(desk, Retry()), [ASK]) as open_channel:
            error = await error_of(open_channel.unary_unary(ASK)(b"", timeout=3))

        assert (CODE.UNAVAILABLE, 1, []) == (error.code(), len(peer.seen), desk.slept)
        assert ["deadline"] == [event.reason for event in desk.of("retry.gave_up")]

    async def test_that_is_up_before_it_begins_starts_nothing(self, desk: Any, peer: Peer) -> None:
        async with channel(peer.target, engine(desk)) as open_channel:
            error = await error_of(open_channel.unary_unary(ASK)(b"", timeout=0))

        assert (CODE.DEADLINE_EXCEEDED, []) == (error.code(), peer.seen)

    async def test_of_one_attempt_is_up_and_the_next_one_is_answered(self, desk: Any, peer: Peer) -> None:
        hang = Hang()
        peer.script = [hang]
        async with channel(peer.target, engine(desk, Retry(), AttemptTimeout(0.3)), [ASK]) as open_channel:
            assert b"ok" == await open_channel.unary_unary(ASK)(b"")
            with anyio.fail_after(5):
                await hang.left.wait()

        assert ["AttemptTimedOut"] == [event.error for event in desk.of("attempt.failed")]


class TestTokens:
    async def test_are_renewed_once_for_twenty_calls(self, desk: Any, peer: Peer) -> None:
        """D5."""
        stale: list[str | None] = []

        async def login(old: str | None) -> str:
            stale.append(old)
            return "new"

        async def checked(request: bytes, context: Any) -> bytes:
            if dict(context.invocation_metadata())["authorization"] != "Bearer new":
                await context.abort(CODE.UNAUTHENTICATED, "expired")
            return b"ok"

        peer.script = [checked] * 40
        answers: list[bytes] = []
        async with channel(peer.target, engine(desk, RefreshToken(login, token="old"))) as open_channel:

            async def ask() -> None:
                answers.append(await open_channel.unary_unary(ASK)(b"", metadata=(("authorization", "Bearer mine"),)))

            async with anyio.create_task_group() as group:
                for _ in range(20):
                    group.start_soon(ask)

        assert (["old"], [b"ok"] * 20) == (stale, answers)
        assert sorted(["Bearer old"] * 20 + ["Bearer new"] * 20) == sorted(map(str, peer.sent("authorization")))

    async def test_that_cannot_be_had_are_an_error_of_grpc_s_family(self, desk: Any, peer: Peer) -> None:
        async def login(old: str | None) -> str:
            raise ConnectionError

        async with channel(peer.target, engine(desk, RefreshToken(login))) as open_channel:
            error = await error_of(open_channel.unary_unary(ASK)(b""))

        assert (GrpcRefreshFailed, CODE.UNAUTHENTICATED, []) == (type(error), error.code(), peer.seen)
        assert isinstance(error.__cause__, ConnectionError)

    @pytest.mark.parametrize(
        ("target", "origins", "sent"),
        [
            ("api.example.com", None, True),
            ("api.example.com", "https://api.example.com", True),
            ("dns:///API.example.com:443", "https://api.example.com", True),
            ("dns:api.example.com:8443", "https://api.example.com:8443", True),
            ("dns://8.8.8.8/api.example.com:80", "http://api.example.com", True),
            ("ipv6:[::1]:50051", "http://[::1]:50051", True),
            ("api.example.com:444", "https://api.example.com", False),
            ("api.example.com", "https://example.com", False),
            ("unix:/run/api.example.com", "https://api.example.com", False),
        ],
    )
    async def test_go_to_the_origins_that_they_are_for(self, desk: Any, peer: Peer, target: str, origins: Any, sent: bool) -> None:
        policy = RefreshToken(lambda old: "new", token="secret", origins=origins)
        ours = interceptors(engine(desk, policy), target)
        async with grpc.aio.insecure_channel(peer.target, interceptors=ours) as open_channel:
            await open_channel.unary_unary(ASK)(b"")

        assert ["Bearer secret" if sent else None] == peer.sent("authorization")

    async def test_that_were_not_sent_are_not_renewed(self, desk: Any, peer: Peer) -> None:
        peer.script = [No(CODE.UNAUTHENTICATED)]
        policy = RefreshToken(lambda old: "new", token="secret", origins="https://api.example.com")
        async with channel(peer.target, engine(desk, policy)) as open_channel:
            error = await error_of(open_channel.unary_unary(ASK)(b""))

        assert (CODE.UNAUTHENTICATED, 1, []) == (error.code(), len(peer.seen), desk.of("token.refreshed"))


class TestKeys:
    async def test_are_the_same_on_each_attempt_and_others_for_the_next_call(self, desk: Any, peer: Peer) -> None:
        """B47."""
        peer.script = [No(), No()]
        async with channel(peer.target, engine(desk, IdempotencyKey(header="X-Request-Key"), Retry())) as open_channel:
            await open_channel.unary_unary(ASK)(b"")
            await open_channel.unary_unary(ASK)(b"")

        first, second, third, fourth = peer.sent("x-request-key")
        assert first
        assert first == second == third != fourth

    async def test_of_the_caller_s_are_left_alone(self, desk: Any, peer: Peer) -> None:
        peer.script = [No()]
        async with channel(peer.target, engine(desk, IdempotencyKey(), Retry())) as open_channel:
            await open_channel.unary_unary(ASK)(b"", metadata=(("idempotency-key", "mine"),))

        assert ["mine", "mine"] == peer.sent("idempotency-key")

    async def test_are_for_rpcs_that_need_one(self, desk: Any, peer: Peer) -> None:
        async with channel(peer.target, engine(desk, IdempotencyKey(), Retry()), [ASK]) as open_channel:
            await open_channel.unary_unary(ASK)(b"")

        assert [None] == peer.sent("idempotency-key")

    async def test_made_of_data_are_made_of_the_method_too(self, desk: Any, peer: Peer) -> None:
        view = engine(desk, IdempotencyKey(), Retry()).using(key_from=("order", 42))
        async with channel(peer.target, view) as open_channel:
            await open_channel.unary_unary(ASK)(b"")
            await open_channel.unary_unary(ASK)(b"")
            await open_channel.stream_unary(GIVE)([b"a"])

        first, second, third = peer.sent("idempotency-key")
        assert first == second != third


class TestTheCircuit:
    async def test_of_each_target_is_its_own(self, desk: Any, peer: Peer, other: Peer) -> None:
        shared = engine(desk, CircuitBreaker(consecutive=2))
        peer.script = [No(), No(CODE.INTERNAL)]
        async with channel(peer.target, shared) as ill, channel(other.target, shared) as well:
            for _ in range(2):
                await error_of(ill.unary_unary(ASK)(b""))
            error = await error_of(ill.unary_unary(ASK)(b""))

            assert b"ok" == await well.unary_unary(ASK)(b"")
        assert (GrpcCircuitOpen, CODE.UNAVAILABLE, peer.target, 2) == (type(error), error.code(), error.key, len(peer.seen))
        assert "INTERNAL" == error.code

    async def test_is_not_tripped_by_what_a_healthy_server_says(self, desk: Any, peer: Peer) -> None:
        peer.script = [
            No(code)
            for code in (CODE.RESOURCE_EXHAUSTED, CODE.NOT_FOUND, CODE.ABORTED, CODE.UNIMPLEMENTED, CODE.UNAUTHENTICATED, CODE.CANCELLED)
        ]
        async with channel(peer.target, engine(desk, CircuitBreaker(consecutive=1, failure_ratio=1))) as open_channel:
            for _ in range(6):
                await error_of(open_channel.unary_unary(ASK)(b""))

        assert ([], 6) == (desk.of("breaker.opened"), len(peer.seen))

    async def test_counts_a_stream_that_breaks_after_it_began(self, desk: Any, peer: Peer) -> None:
        """B15."""
        peer.script = [[b"1", No()]]
        async with channel(peer.target, engine(desk, CircuitBreaker(consecutive=1, failure_ratio=1))) as open_channel:
            messages = aiter(open_channel.unary_stream(TELL)(b""))
            await anext(messages)
            assert [] == desk.of("breaker.opened")
            await error_of(anext(messages))

        assert 1 == len(desk.of("breaker.opened"))


class TestAStreamOfAnswers:
    """D12."""

    async def test_is_asked_for_again_until_its_first_message(self, desk: Any, peer: Peer) -> None:
        peer.script = [[No()], [No(CODE.RESOURCE_EXHAUSTED)]]
        async with channel(peer.target, engine(desk, Retry()), [TELL]) as open_channel:
            rpc = open_channel.unary_stream(TELL)(b"")

            assert [b"1", b"2", b"3"] == [message async for message in rpc]
            assert CODE.OK is await rpc.code()
        assert 3 == len(peer.seen)
        assert "call.recovered" in desk.names()

    @pytest.mark.parametrize("by", ["iteration", "reading"])
    async def test_that_breaks_after_it_ends_there(self, desk: Any, peer: Peer, by: str) -> None:
        peer.script = [[No()], [b"1", b"2", No(CODE.INTERNAL, "broken")]]
        got: list[bytes] = []
        async with channel(peer.target, engine(desk, Retry()), [TELL]) as open_channel:
            rpc = open_channel.unary_stream(TELL)(b"")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await (iterated if by == "iteration" else read_on)(rpc, got)

        assert ([b"1", b"2"], 2, "broken") == (got, len(peer.seen), caught.value.details())
        assert [0, 2] == [tried.items for tried in history(caught.value)]
        assert ["delivered"] == [event.reason for event in desk.of("retry.gave_up")]

    async def test_may_be_empty(self, desk: Any, peer: Peer) -> None:
        peer.script = [[], []]
        async with channel(peer.target, engine(desk, Retry())) as open_channel:
            assert [] == [message async for message in open_channel.unary_stream(TELL)(b"")]
            assert grpc.aio.EOF is await open_channel.unary_stream(TELL)(b"").read()

    async def test_may_report_a_failure_in_a_message(self, desk: Any, peer: Peer) -> None:
        """B65."""
        peer.script = [[b"overloaded"], [b"1", b"overloaded"]]
        rules = dialect.RULES.extend(
            "acme", by_item=lambda item: Signal(code="UNAVAILABLE", kind="UNAVAILABLE") if item == b"overloaded" else None
        )
        async with channel(peer.target, engine(desk, Retry(), rules=rules), [TELL]) as open_channel:
            messages = aiter(open_channel.unary_stream(TELL)(b""))
            assert b"1" == await anext(messages)
            error = await error_of(anext(messages))

        assert (GrpcStreamFailed, "UNAVAILABLE", 1, 2) == (type(error), error.code, error.items, len(peer.seen))

    async def test_can_be_left_early_and_its_server_learns_of_it(self, desk: Any, peer: Peer) -> None:
        hang = Hang()
        peer.script = [[b"1", hang]]
        async with channel(peer.target, engine(desk, CircuitBreaker())) as open_channel:
            rpc = open_channel.unary_stream(TELL)(b"")
            assert b"1" == await rpc.read()
            await hang.begun.wait()

            assert rpc.cancel()
            with anyio.fail_after(5):
                await hang.left.wait()
            assert CODE.CANCELLED is await rpc.code()

    async def test_is_bounded_by_the_deadline_to_its_end(self, desk: Any, peer: Peer) -> None:
        hang = Hang()
        peer.script = [[b"1", hang]]
        async with channel(peer.target, engine(desk, Deadline(0.3), AttemptTimeout(0.2))) as open_channel:
            messages = aiter(open_channel.unary_stream(TELL)(b""))
            assert b"1" == await anext(messages)
            error = await error_of(anext(messages))
            with anyio.fail_after(5):
                await hang.left.wait()

        assert (GrpcDeadlineExceeded, CODE.DEADLINE_EXCEEDED) == (type(error), error.code())
        assert ["streaming"] == [event.where for event in desk.of("deadline.exceeded")]

    async def test_may_be_told_not_to_pause_for_long(self, desk: Any, peer: Peer) -> None:
        hang = Hang()
        peer.script = [[b"1", hang]]
        async with channel(peer.target, engine(desk, StreamTimeout(idle=0.2))) as open_channel:
            messages = aiter(open_channel.unary_stream(TELL)(b""))
            assert b"1" == await anext(messages)
            error = await error_of(anext(messages))
            with anyio.fail_after(5):
                await hang.left.wait()

        assert isinstance(error, GrpcAttemptTimedOut)


async def iterated(rpc: Any, got: list[bytes]) -> None:
    async for message in rpc:
        got.append(message)  # noqa: PERF401 - what came before the error is to be kept


async def read_on(rpc: Any, got: list[bytes]) -> None:
    while (message := await rpc.read()) is not grpc.aio.EOF:
        got.append(message)


class TestAStreamOfRequests:
    async def test_in_a_list_can_be_sent_again(self, desk: Any, peer: Peer) -> None:
        peer.script = [No()]
        async with channel(peer.target, engine(desk, Retry()), [GIVE]) as open_channel:
            assert b"a+b" == await open_channel.stream_unary(GIVE)([b"a", b"b"])

        assert [b"a", b"b"] * 2 == peer.got

    async def test_in_a_list_can_be_sent_again_until_the_first_answer(self, desk: Any, peer: Peer) -> None:
        peer.script = [No()]
        async with channel(peer.target, engine(desk, Retry()), [TALK]) as open_channel:
            assert [b"A", b"B"] == [message async for message in open_channel.stream_stream(TALK)((b"a", b"b"))]

        assert 2 == len(peer.seen)

    @pytest.mark.parametrize("kind", ["sync", "async"])
    async def test_from_an_iterator_is_sent_once(self, desk: Any, peer: Peer, kind: str) -> None:
        """B50."""

        async def later() -> AsyncIterator[bytes]:
            yield b"a"

        peer.script = [No(CODE.RESOURCE_EXHAUSTED), No(CODE.RESOURCE_EXHAUSTED)]
        async with channel(peer.target, engine(desk, Retry()), [GIVE, TALK]) as open_channel:
            given = await error_of(open_channel.stream_unary(GIVE)(iter([b"a"]) if kind == "sync" else later()))
            talked = await error_of(anext(aiter(open_channel.stream_stream(TALK)(iter([b"a"]) if kind == "sync" else later()))))

        assert [CODE.RESOURCE_EXHAUSTED] * 2 == [given.code(), talked.code()]
        assert (2, ["unrepeatable"] * 2) == (len(peer.seen), [event.reason for event in desk.of("retry.gave_up")])

    async def test_from_an_iterator_has_its_token_renewed_for_the_next_one(self, desk: Any, peer: Peer) -> None:
        peer.script = [No(CODE.UNAUTHENTICATED)]
        async with channel(peer.target, engine(desk, RefreshToken(lambda old: "new", token="old"))) as open_channel:
            error = await error_of(open_channel.stream_unary(GIVE)(iter([b"a"])))
            await open_channel.stream_unary(GIVE)(iter([b"a"]))

        assert CODE.UNAUTHENTICATED is error.code()
        assert ["Bearer old", "Bearer new"] == peer.sent("authorization")

    async def test_goes_both_ways_at_once(self, desk: Any, peer: Peer) -> None:
        async with channel(peer.target, engine(desk, Deadline(20), Retry(), CircuitBreaker())) as open_channel:

            async def requests() -> AsyncIterator[bytes]:
                yield b"one"
                yield b"two"

            assert [b"ONE", b"TWO"] == [message async for message in open_channel.stream_stream(TALK)(requests())]


class TestRequestsWrittenByHand:
    async def test_are_answered_as_ever(self, desk: Any, peer: Peer) -> None:
        async with channel(peer.target, engine(desk, Deadline(20), Retry(), CircuitBreaker(), AttemptTimeout(10))) as open_channel:
            rpc = open_channel.stream_unary(GIVE)()
            await rpc.write(b"a")
            await rpc.write(b"b")
            await rpc.done_writing()

            assert (b"a+b", b"a+b") == (await rpc, await rpc)
            assert CODE.OK is await rpc.code()
        assert ["call.succeeded"] == desk.names()

    async def test_and_answers_may_take_turns(self, desk: Any, peer: Peer) -> None:
        policies = [Deadline(20), RefreshToken(lambda old: "new", token="secret"), Retry(), CircuitBreaker(), AttemptTimeout(10)]
        async with channel(peer.target, engine(desk, *policies)) as open_channel:
            rpc = open_channel.stream_stream(TALK)()
            await rpc.write(b"a")
            assert b"A" == await rpc.read()
            await rpc.write(b"b")
            assert b"B" == await rpc.read()
            await rpc.done_writing()
            assert grpc.aio.EOF is await rpc.read()

        assert (["Bearer secret"], ["call.succeeded"]) == (peer.sent("authorization"), desk.names())

    async def test_that_fail_are_not_repeated_but_counted(self, desk: Any, peer: Peer) -> None:
        peer.script = [No(), None]
        async with channel(peer.target, engine(desk, Retry(), CircuitBreaker(consecutive=2)), [GIVE, TALK]) as open_channel:
            rpc = open_channel.stream_unary(GIVE)()
            await rpc.done_writing()
            given = await error_of(rpc)
            talk = open_channel.stream_stream(TALK)()
            await talk.write(b"die")
            talked = await error_of(talk.read())
            await talk.done_writing()  # else grpc goes on waiting for more to send
            refused = await error_of(open_channel.stream_unary(GIVE)())

        assert ([CODE.UNAVAILABLE] * 2, 2) == ([given.code(), talked.code()], len(peer.seen))
        assert [(0,), (0,)] == [tuple(tried.items for tried in history(error)) for error in (given, talked)]
        assert isinstance(refused, GrpcCircuitOpen)

    async def test_are_bounded_by_the_deadline(self, desk: Any, peer: Peer) -> None:
        async with channel(peer.target, engine(desk, Deadline(0.3))) as open_channel:
            rpc = open_channel.stream_unary(GIVE)()
            await rpc.write(b"a")
            given = await error_of(rpc)
            talked = await error_of(open_channel.stream_stream(TALK)().read())

        assert [GrpcDeadlineExceeded] * 2 == [type(given), type(talked)]

    async def test_of_an_rpc_that_was_not_let_out_cannot_be_written(self, desk: Any, peer: Peer) -> None:
        breaker = CircuitBreaker(key=lambda call: "all")
        async with channel(peer.target, engine(desk, breaker)) as open_channel:
            breaker.isolate("all")
            rpc = open_channel.stream_stream(TALK)()
            with pytest.raises(asyncio.InvalidStateError):
                await rpc.write(b"a")

        assert [] == peer.seen


class TestRetriesOfGrpcsOwn:
    CONFIG = json.dumps(
        {
            "methodConfig": [
                {
                    "name": [{}],
                    "retryPolicy": {
                        "maxAttempts": 3,
                        "initialBackoff": "0.01s",
                        "maxBackoff": "0.01s",
                        "backoffMultiplier": 1,
                        "retryableStatusCodes": ["UNAVAILABLE"],
                    },
                }
            ]
        }
    )

    @pytest.mark.parametrize(("options", "rpcs"), [((), 6), (NO_RETRIES, 2)])
    async def test_multiply_ours_unless_they_are_turned_off(self, desk: Any, peer: Peer, options: Any, rpcs: int) -> None:
        """D9."""
        peer.script = [No()] * 9
        ours = interceptors(engine(desk, Retry(attempts=2)), peer.target, idempotent=[ASK])
        settings = [("grpc.service_config", self.CONFIG), *options]
        async with grpc.aio.insecure_channel(peer.target, options=settings, interceptors=ours) as open_channel:
            error = await error_of(open_channel.unary_unary(ASK)(b""))

        assert (rpcs, 2) == (len(peer.seen), len(history(error)))


class TestOurErrors:
    @pytest.mark.parametrize(
        ("kind", "plain", "code"),
        [
            (GrpcRejected, Rejected, CODE.UNAVAILABLE),
            (GrpcCircuitOpen, CircuitOpen, CODE.UNAVAILABLE),
            (GrpcDeadlineExceeded, DeadlineExceeded, CODE.DEADLINE_EXCEEDED),
            (GrpcAttemptTimedOut, AttemptTimedOut, CODE.DEADLINE_EXCEEDED),
            (GrpcRefreshFailed, RefreshFailed, CODE.UNAUTHENTICATED),
            (GrpcStreamFailed, StreamFailed, CODE.UNKNOWN),
        ],
    )
    @pytest.mark.parametrize("led_by", [None, "UNAVAILABLE"])
    def test_are_grpc_s_and_ours_and_survive_pickling_and_copying(self, kind: Any, plain: Any, code: Any, led_by: str | None) -> None:
        """B60."""
        facts: dict[str, Any] = {"operation": ASK, "retry_after": 2.0, "status": None, "code": led_by}
        made = kind(**facts)
        for error in (made, pickle.loads(pickle.dumps(made)), copy.copy(made), copy.deepcopy(made)):
            assert type(error) is kind
            assert isinstance(error, plain)
            assert isinstance(error, grpc.aio.AioRpcError)
            assert (code, str(error), str(error)) == (error.code(), error.details(), error.debug_error_string())
            assert ((), ()) == (tuple(error.initial_metadata()), tuple(error.trailing_metadata()))
            assert (led_by or "", 2.0) == (error.code, error.retry_after)
            assert str(plain(**facts)) == str(error)
            assert f"{kind.__name__}({str(error)!r})" == repr(error)

    @pytest.mark.parametrize("error", [GrpcCircuitOpen(code="UNAVAILABLE"), GrpcAttemptTimedOut(), GrpcRefreshFailed(status=401)])
    def test_are_read_as_ours(self, error: Any) -> None:
        plain = next(base for base in type(error).__mro__ if base.__module__ == "resilience.errors")
        facts = {name: getattr(error, name) for name in error.facts if name != "code"}
        ours = read(plain(**facts, code=str(error.code) or None))
        theirs = read(error)

        assert (ours.status, ours.phase, ours.retry_after) == (theirs.status, theirs.phase, theirs.retry_after)
        assert dialect.RULES.classify(ours) == dialect.RULES.classify(theirs)

    async def test_end_an_rpc_like_any_other_of_grpc_s(self, desk: Any, peer: Peer) -> None:
        breaker = CircuitBreaker(key=lambda call: "all")
        async with channel(peer.target, engine(desk, breaker)) as open_channel:
            breaker.isolate("all")
            rpc = open_channel.unary_unary(ASK)(b"")

            assert (CODE.UNAVAILABLE, ()) == (await rpc.code(), tuple(await rpc.trailing_metadata()))
            assert f"{ASK}: circuit isolated for all" == await rpc.details()
            assert rpc.done()
            assert not rpc.cancelled()
            with pytest.raises(ResilienceError):
                await rpc


class TestSettings:
    def test_begin_with_an_engine(self) -> None:
        with pytest.raises(TypeError, match=r"interceptors: engine: expected an Engine or a view of one \(engine.using"):
            interceptors("engine", "target")  # type: ignore[arg-type]

    @pytest.mark.parametrize("target", [None, "", b"target"])
    def test_go_on_with_a_target(self, desk: Any, target: Any) -> None:
        with pytest.raises(TypeError, match="interceptors: target: expected the channel's target"):
            interceptors(engine(desk), target)

    @pytest.mark.parametrize("idempotent", ["/test.Peer/Ask", 5, None])
    def test_end_with_names(self, desk: Any, idempotent: Any) -> None:
        with pytest.raises(TypeError, match="interceptors: idempotent: expected a set of methods' names or a function"):
            interceptors(engine(desk), "target", idempotent=idempotent)

    @pytest.mark.parametrize("name", ["Ask", "test.Peer/Ask", "/Ask", "/a/b/c", 5])
    def test_end_with_names_in_full(self, desk: Any, name: Any) -> None:
        with pytest.raises(ValueError, match="interceptors: idempotent: expected full names such as '/package.Service/Method', got"):
            interceptors(engine(desk), "target", idempotent=[name])

    def test_warn_of_rules_that_know_no_status(self, desk: Any) -> None:
        with pytest.warns(UserWarning, match="the rules 'http' know none of gRPC's statuses"):
            interceptors(engine(desk, rules=http.RULES), "target")

    def test_take_any_rules_that_do(self, desk: Any) -> None:
        rules = http.RULES.extend("acme", by_code={"UNAVAILABLE": fail_fast()})

        assert 4 == len(interceptors(engine(desk, rules=rules), "target"))

    async def test_that_fail_when_asked_are_the_caller_s_to_see(self, desk: Any) -> None:
        def unsure(name: str) -> bool:
            raise LookupError(name)

        unary, *_ = interceptors(engine(desk), "target", idempotent=unsure)
        with pytest.raises(LookupError, match=ASK):
            await unary.intercept_unary_unary(None, grpc.aio.ClientCallDetails(ASK.encode(), None, None, None, None), b"")
