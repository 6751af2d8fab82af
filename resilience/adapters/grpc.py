"""
An engine inside grpc.aio, as interceptors.

    from resilience import Engine, Retry
    from resilience.adapters.grpc import NO_RETRIES, interceptors
    from resilience.dialects import grpc as dialect

    engine, target = Engine([Retry()], rules=dialect.RULES), "dns:///api.example.com:443"
    channel = grpc.aio.secure_channel(target, credentials, options=NO_RETRIES, interceptors=interceptors(engine, target))

Retries, refreshes and all the rest happen inside; what comes out is grpc's own: its calls, its errors, and our errors as members of its
family, which `code` and `details` can be asked of.

**Each RPC is one call of the engine.**  A stream of responses is awaited as far as its first message, and may be repeated until then; what
breaks it later comes as it came.  There is no initial metadata to be had before that message.  Streamed requests can be read only once, so
an RPC with them is not repeated, unless they are a list or a tuple.  One whose requests are written by hand (``await call.write(...)``)
goes out as soon as the policies let it; what becomes of it is for guards to count, and for nobody to mend, an expired token included.  A
deadline bounds them all.

**Which RPCs may be repeated.**  gRPC knows no safe methods.  One that may have had effects is repeated only if *idempotent* names it, if it
went with an idempotency key, which goes into the metadata under the header's name, or if the engine's view says ``repeatable=True``.

**Time.**  An RPC's ``timeout=`` bounds the whole of it, as it does with gRPC's own retries (gRFC A6), repeats and waits included.  Each
attempt goes out with what is left, and the server sees it.  An `AttemptTimeout` ends with the first message of a stream, and
does not hold for an RPC whose requests are written by hand.

**Connections.**  After one was refused, gRPC makes no other for a second, then for longer; attempts in between fail at once, having sent
nothing.  An RPC with ``wait_for_ready=True`` waits instead, and the option ``grpc.initial_reconnect_backoff_ms`` shortens the pause.

**Retries of gRPC's own** multiply ours, and nothing here can see them: those of a service config, which the name's DNS record may hold, and
the transparent ones, of what the server's code has never seen.  `NO_RETRIES` turns both off.  With the former on, not even "never sent" is
certain, as it is the word of the last attempt only.

**Tokens.**  That of a `RefreshToken` goes into the metadata as ``authorization: Bearer ...``, in place of any that is there.  Over an
insecure channel too: gRPC refuses to send call credentials there, but does not know this for one.

Read in grpcio 1.70 and 1.85: ``aio/_interceptor.py`` (an interceptor of several kinds is registered for the first one only; requests
written by hand wait for the interceptors to be done), ``aio/_call.py``, ``aio/_channel.py``.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable
from types import TracebackType
from typing import Any, ClassVar, Final, cast

import anyio
import anyio.lowlevel
import grpc
import grpc.aio

from resilience import errors
from resilience.adapters._engines import checked_engine
from resilience.adapters._stamping import DEFAULT_HEADER, stamp_key, token_for
from resilience.adapters._twins import Twins, translating
from resilience.backend import lateness
from resilience.call import Call, current
from resilience.engine import Engine
from resilience.outcome import Signal
from resilience.reading.grpc_status import NOT_SENT

__all__ = [
    "NO_RETRIES",
    "GrpcAttemptTimedOut",
    "GrpcCircuitOpen",
    "GrpcDeadlineExceeded",
    "GrpcRefreshFailed",
    "GrpcRejected",
    "GrpcStreamFailed",
    "interceptors",
]

_BY_HAND: Final = "_proxy_writes_as_request_iterator"
if not hasattr(getattr(getattr(grpc.aio, "_interceptor", None), "InterceptedStreamUnaryCall", None), _BY_HAND):
    # Requests that are written by hand wait for the interceptors to be done.  One that takes them for others waits for them: for ever.
    raise ImportError(f"grpcio {grpc.__version__} is not known here: it does not tell which requests are written by hand")

NO_RETRIES: Final = (("grpc.enable_retries", 0),)
"""Channel options that turn off gRPC's own retries, the transparent ones included; to be added to others."""

_SLACK = 0.05  # seconds by which an attempt's own deadline comes after the latest of ours, which can say whose it is
_METHOD = r"/[^/]+/[^/]+"
_SCHEMES = r"(?:(?:dns|ipv4|ipv6|passthrough|xds):(?://[^/]*/)?)?"  # gRPC, doc/naming.md
_PORTS: Final = {"http": "80", "https": "443"}
# What C core says, 1.70 to 1.85, of RPCs for which it had no connection: by pick_first, by round_robin, by the resolver.
_UNREACHED = ("failed to connect to all addresses", "connections to all backends failing", "errors resolving ", "DNS resolution failed")
_FAILING: Final = grpc.ChannelConnectivity.TRANSIENT_FAILURE.value[0]
_STARTED: Final = object()  # the first item of a stream whose requests are written by hand
_NOTHING: Final = object()


# Errors


class _Code(str):
    """The code of a twin: as a str that of the failure that led there, empty for none; called, as grpc does it, its status."""

    __slots__ = ("status",)
    status: grpc.StatusCode

    def __call__(self) -> grpc.StatusCode:
        return self.status

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (str(self),)


class _Twin(grpc.aio.AioRpcError):  # type: ignore[misc]  # whose type nobody knows
    """What makes one of our errors one of grpc's: it answers to the same methods."""

    status_code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNAVAILABLE
    _led_by: str | None = None

    def __init__(self, message: str = "") -> None:
        Exception.__init__(self, message)

    @property
    def code(self) -> Any:
        """Ours is an attribute, grpc's a method; this is both."""
        code = _Code(self._led_by or "")
        code.status = self.status_code
        return code

    @code.setter
    def code(self, code: str | None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]  # what it gives can be called
        self._led_by = str(code) if code else None

    def details(self) -> str:
        """What it says."""
        return str(self)

    def debug_error_string(self) -> str:
        """The same."""
        return str(self)

    def initial_metadata(self) -> grpc.aio.Metadata:
        """Empty, as no server has said it."""
        return grpc.aio.Metadata()

    def trailing_metadata(self) -> grpc.aio.Metadata:
        """Likewise."""
        return grpc.aio.Metadata()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class GrpcRejected(errors.Rejected, _Twin):
    """`resilience.Rejected`, as grpc raises it: ``UNAVAILABLE``."""


class GrpcCircuitOpen(errors.CircuitOpen, _Twin):
    """`resilience.CircuitOpen`, as grpc raises it: ``UNAVAILABLE``."""


class GrpcDeadlineExceeded(errors.DeadlineExceeded, _Twin):
    """`resilience.DeadlineExceeded`, as grpc raises it: ``DEADLINE_EXCEEDED``."""

    status_code = grpc.StatusCode.DEADLINE_EXCEEDED

    def _message(self) -> str:
        facts: dict[str, Any] = {name: getattr(self, name) for name in self.facts}
        facts["code"] = self._led_by  # an empty code is none
        return str(errors.DeadlineExceeded(**facts))


class GrpcAttemptTimedOut(errors.AttemptTimedOut, _Twin):
    """`resilience.AttemptTimedOut`, as grpc raises it: ``DEADLINE_EXCEEDED``."""

    status_code = grpc.StatusCode.DEADLINE_EXCEEDED


class GrpcRefreshFailed(errors.RefreshFailed, _Twin):
    """`resilience.RefreshFailed`, as grpc raises it: ``UNAUTHENTICATED``."""

    status_code = grpc.StatusCode.UNAUTHENTICATED


class GrpcStreamFailed(errors.StreamFailed, _Twin):
    """`resilience.StreamFailed`, as grpc raises it: ``UNKNOWN``."""

    status_code = grpc.StatusCode.UNKNOWN


_TWINS: Final[Twins] = {
    errors.Rejected: GrpcRejected,
    errors.CircuitOpen: GrpcCircuitOpen,
    errors.DeadlineExceeded: GrpcDeadlineExceeded,
    errors.AttemptTimedOut: GrpcAttemptTimedOut,
    errors.RefreshFailed: GrpcRefreshFailed,
    errors.StreamFailed: GrpcStreamFailed,
}


# Parts of an RPC


class _Trip:
    """
    One RPC of the caller's, through all its attempts.

    Attributes:
        proceed: The rest of the way: other interceptors, then the channel.
        details: What the caller asked for beside the request: method, timeout, metadata.
        request: The request, or an iterator of requests.
        method: The full name of its method.
        idempotent: Whether it was named as one that may be repeated.
        once: Whether the request can be read only once.
        rpc: The latest attempt, as grpc has it.
    """

    __slots__ = ("details", "idempotent", "method", "once", "proceed", "request", "rpc")

    def __init__(self, proceed: Callable[..., Awaitable[Any]], details: Any, request: Any, *, once: bool) -> None:
        self.proceed = proceed
        self.details = details
        self.request = request
        self.method: str = details.method.decode() if isinstance(details.method, bytes) else details.method
        self.idempotent = False
        self.once = once
        self.rpc: Any = None


class _Fields:
    """Metadata as headers: keys ignore case, and setting one replaces all that it had."""

    def __init__(self, metadata: Iterable[tuple[str, str | bytes]] | None) -> None:
        self.pairs = [(key, value) for key, value in metadata or ()]

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.pairs if key.lower() == name.lower() and isinstance(value, str)), None)

    def __setitem__(self, name: str, value: str) -> None:
        key = name.lower()  # capitals are no key, gRPC says
        self.pairs = [pair for pair in self.pairs if pair[0].lower() != key] + [(key, value)]


class _Watched:
    """An attempt while it lasts: its RPC ends with it, and the error that ends it says whether that was ever sent."""

    def __init__(self, rpc: Any) -> None:
        self._rpc = rpc

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._rpc.cancel()  # nothing, where it has ended
        if isinstance(error, grpc.aio.AioRpcError):
            setattr(error, NOT_SENT, _never_sent(error, self._rpc))
        elif isinstance(error, anyio.get_cancelled_exc_class()):
            # grpc may have swallowed a cancellation and raised one of its own, by which no scope knows its own.  Let the scope try again.
            await anyio.lowlevel.checkpoint_if_cancelled()


class _Messages:
    """The messages of a stream whose first was awaited already."""

    def __init__(self, first: list[Any], rest: AsyncIterator[Any]) -> None:
        self._first = first
        self._rest = rest

    def __aiter__(self) -> _Messages:
        return self

    async def __anext__(self) -> Any:
        if self._first:
            return self._first.pop()
        return await anext(self._rest)


class _Upload:
    """An RPC whose requests are written by hand: grpc's own, but that its one response comes by way of the engine."""

    def __init__(self, rpc: Any, answers: AsyncIterator[Any]) -> None:
        self._rpc = rpc
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rpc, name)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._answer().__await__()

    async def _answer(self) -> Any:
        async for answer in self._answers:
            await anext(self._answers, None)  # that was all
            return answer
        return await self._rpc  # asked for once more


# The interceptors


class _Adapter:
    """One engine in one channel."""

    def __init__(self, engine: Engine, target: str, idempotent: Callable[[str], bool]) -> None:
        self._engine = engine.view(prepare=self._prepare, translate=translating(_TWINS))
        self._env = engine.env
        self._target = target
        self._idempotent = idempotent

    async def answer(self, trip: _Trip) -> Any:
        """Run an RPC with one response; the attempt of it that was answered."""
        self._look_up(trip)
        await self._engine.call(self._answered, trip)
        return trip.rpc

    async def messages(self, trip: _Trip) -> _Messages:
        """Run an RPC whose responses are streamed, as far as the first."""
        self._look_up(trip)
        stream = self._engine.stream(self._streamed, trip)
        first = await anext(stream, _NOTHING)
        return _Messages([] if first is _NOTHING else [first], stream)

    async def by_hand(self, trip: _Trip) -> AsyncIterator[Any]:
        """Start an RPC whose requests are to be written by hand; what it answers."""
        self._look_up(trip)
        answers = self._engine.stream(self._started, trip)
        await anext(answers)
        return answers

    def _look_up(self, trip: _Trip) -> None:
        trip.idempotent = bool(self._idempotent(trip.method))

    # One attempt.

    async def _answered(self, trip: _Trip) -> Any:
        rpc = await self._begin(trip, whole=True)
        async with _Watched(rpc):
            return await _answer_of(rpc)

    async def _streamed(self, trip: _Trip) -> AsyncIterator[Any]:
        rpc = await self._begin(trip, whole=False)
        async with _Watched(rpc):
            async for message in rpc:
                yield message

    async def _started(self, trip: _Trip) -> AsyncIterator[Any]:
        rpc = await self._begin(trip, whole=False)
        async with _Watched(rpc):
            yield _STARTED
            flow = current().flow
            if flow is not None:
                flow.count = 0  # the caller is given no such item
            if hasattr(rpc, "__aiter__"):
                async for message in rpc:
                    yield message
            else:
                yield await _answer_of(rpc)

    async def _begin(self, trip: _Trip, *, whole: bool) -> Any:
        """Start an attempt, which lasts for the *whole* RPC or until its first message."""
        call = current()
        if trip.once:
            call.replayable = False
        fields = _Fields(trip.details.metadata)
        audience = {self._target} if call.origins is None or self._is_one_of(call.origins) else set[str]()
        here = self._target
        stamp_key(fields, call, fields.get(call.key_header or DEFAULT_HEADER), method=_method(trip), away=False)
        token = token_for(call, here, audience)
        if token is not None:
            fields["Authorization"] = token
        left = min(call.ends - self._env.now(), call.cutoff if whole else math.inf)
        outgoing = grpc.aio.ClientCallDetails(
            trip.details.method,
            None if left == math.inf else max(0.0, left) + lateness(left) + _SLACK,
            grpc.aio.Metadata(*fields.pairs),
            trip.details.credentials,
            trip.details.wait_for_ready,
        )
        trip.rpc = await trip.proceed(outgoing, trip.request)
        return trip.rpc

    # Calls.

    def _prepare(self, call: Call[Any]) -> None:
        trip: _Trip = call.args[0]
        call.method = _method(trip)
        call.path = call.label = trip.method
        call.peer = self._target
        timeout = trip.details.timeout
        if timeout is not None:
            call.end_by(call.started + timeout, timeout)

    def _is_one_of(self, origins: frozenset[str]) -> bool:
        return _authority(self._target) in {_authority(rest, _PORTS.get(scheme.lower(), "")) for scheme, rest in map(_parted, origins)}


def _method(trip: _Trip) -> str:
    """What stands for the RPC among HTTP's methods: what may be repeated, and what may not."""
    return "GET" if trip.idempotent else "POST"


def _parted(origin: str) -> tuple[str, str]:
    scheme, _, rest = origin.partition("://")
    return scheme, rest


@functools.lru_cache(maxsize=256)
def _authority(name: str, port: str = "443") -> str:
    """Host and port of a gRPC target, or of an origin without its scheme; *port* where it has none."""
    host = re.sub(rf"\A{_SCHEMES}", "", name).lower()
    return host if re.search(r":[0-9]+\Z", host) else f"{host}:{port}"


async def _answer_of(rpc: Any) -> Any:
    # Waiting for the answer itself, grpc would take a cancellation for its own, and raise another.
    await rpc.code()
    return await rpc


def _never_sent(error: Any, rpc: Any) -> bool:
    """
    Whether it is certain that an RPC that ended in *error* never left.

    The words alone do not say so: a server passes on what a call of its own failed with.  But then we have a connection, to that server.
    """
    try:
        state = rpc._cython_call._channel.check_connectivity_state(False)  # noqa: SLF001 - an interceptor is given no channel
    except Exception:  # noqa: BLE001 - another interceptor's idea of a call, or another version's
        return False
    unreached = error.code() is grpc.StatusCode.UNAVAILABLE and (error.details() or "").startswith(_UNREACHED)
    return unreached and state == _FAILING


# grpc registers an interceptor for one kind of RPC, so there are four.


class _UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]  # as above
    def __init__(self, adapter: _Adapter) -> None:
        self._adapter = adapter

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._adapter.answer(_Trip(continuation, client_call_details, request, once=False))


class _UnaryStream(grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[misc]  # as above
    def __init__(self, adapter: _Adapter) -> None:
        self._adapter = adapter

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._adapter.messages(_Trip(continuation, client_call_details, request, once=False))


class _StreamUnary(grpc.aio.StreamUnaryClientInterceptor):  # type: ignore[misc]  # as above
    def __init__(self, adapter: _Adapter) -> None:
        self._adapter = adapter

    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        trip = _Trip(continuation, client_call_details, request_iterator, once=not isinstance(request_iterator, list | tuple))
        if not _is_by_hand(request_iterator):
            return await self._adapter.answer(trip)
        answers = await self._adapter.by_hand(trip)
        return _Upload(trip.rpc, answers)


class _StreamStream(grpc.aio.StreamStreamClientInterceptor):  # type: ignore[misc]  # as above
    def __init__(self, adapter: _Adapter) -> None:
        self._adapter = adapter

    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        trip = _Trip(continuation, client_call_details, request_iterator, once=not isinstance(request_iterator, list | tuple))
        return await (self._adapter.by_hand(trip) if _is_by_hand(request_iterator) else self._adapter.messages(trip))


def _is_by_hand(requests: Any) -> bool:
    """Whether *requests* are what the caller will write: grpc's stand-in for them, which waits for the interceptors to be done."""
    return inspect.isasyncgen(requests) and requests.ag_code.co_name == _BY_HAND


def interceptors(
    engine: Engine, target: str, *, idempotent: Iterable[str] | Callable[[str], bool] = ()
) -> list[grpc.aio.ClientInterceptor]:
    """
    Interceptors that make each RPC of a channel one call of an engine.

    Interceptors that come after them in the channel's list see every attempt, those before them every RPC of the caller's.

    Args:
        engine: An `Engine`, or a view of one (``engine.using(...)``), with the rules of `resilience.dialects.grpc` or of an API.
        target: The channel's, which interceptors are not told: whom a `CircuitBreaker` counts the failures of, and what must be among
            `RefreshToken.origins`, by host and port, where there are any.
        idempotent: The full names of methods that may be repeated whatever became of them, ``"/package.Service/Method"``, or a function
            that tells by the name.

    Returns:
        One for each of gRPC's four kinds of RPC.

    Raises:
        TypeError: No engine, no target, no names.
        ValueError: What is no full name of a method.

    Warns:
        UserWarning: The engine's rules know nothing of gRPC's statuses.
    """
    checked_engine(engine, "interceptors")
    if not isinstance(target, str) or not target:
        raise TypeError(f"interceptors: target: expected the channel's target, such as 'dns:///api.example.com:443', got {target!r}")
    if engine.rules.classify(Signal(code="UNAVAILABLE", kind="UNAVAILABLE")) is engine.rules.default:
        told = f"interceptors: engine: the rules {engine.rules.name!r} know none of gRPC's statuses; use resilience.dialects.grpc.RULES"
        warnings.warn(told, UserWarning, stacklevel=2)
    adapter = _Adapter(engine, target, _checked(idempotent))
    return [kind(adapter) for kind in (_UnaryUnary, _UnaryStream, _StreamUnary, _StreamStream)]


def _checked(idempotent: Any) -> Callable[[str], bool]:
    if callable(idempotent):
        return idempotent  # type: ignore[no-any-return]  # asked by its result
    if isinstance(idempotent, str | bytes) or not isinstance(idempotent, Iterable):
        raise TypeError(f"interceptors: idempotent: expected a set of methods' names or a function, got {idempotent!r}")
    names = frozenset(cast("Iterable[object]", idempotent))
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(_METHOD, name):
            raise ValueError(f"interceptors: idempotent: expected full names such as '/package.Service/Method', got {name!r}")
    return names.__contains__
