"""
An engine inside aiohttp, as a client middleware.

    from resilience import callmissed
    from resilience.adapters.aiohttp import ResilientMiddleware

    async with aiohttp.ClientSession("https://api.example.com", middlewares=(ResilientMiddleware(callmissed.engine(login)),)) as session:
        async with session.get("/api/v1/bots") as response:
            bots = await response.json()

Retries, refreshes and all the rest happen inside; what comes out is aiohttp's own: its responses, its exceptions, and our errors as members
of its family.

    session.get ─▶ [ timer of ClientTimeout.total: redirects, one repeat of aiohttp's own ─▶ middleware ─▶ Engine ─▶ attempt ─▶ connection ]

Each request on the wire, each hop of a redirect too, comes to the middleware by itself, as a `ClientRequest` made anew from what the caller
passed.  What belongs together across them is a `_Trail`.  It is kept among the traces of the caller's request, the one thing that all its
hops share and that ends when it does.

Read in aiohttp 3.14: ``client.py`` (``_request``), ``client_reqrep.py`` (a response that is read to its end frees its connection by itself;
the writer of a body runs on until its response is closed), ``payload.py`` (what rewinds, and what goes on reading at its end),
``streams.py``, ``tracing.py``.
"""

from __future__ import annotations

import copy
import functools
import inspect
import math
import weakref
from collections.abc import Container
from types import SimpleNamespace, TracebackType
from typing import Any, Final, cast

import aiohttp
from aiohttp import payload
from aiohttp.client_middlewares import ClientHandlerType
from aiohttp.client_reqrep import ClientRequest
from aiohttp.helpers import BaseTimerContext
from aiohttp.multipart import MultipartWriter
from aiohttp.tracing import Trace
from yarl import URL

from resilience import errors
from resilience.adapters._bodies import DRAIN_SECONDS, DRAIN_SHARE, decoded
from resilience.adapters._engines import checked_engine
from resilience.adapters._stamping import DEFAULT_HEADER, stamp_key, token_for
from resilience.adapters._twins import Twins, translating, twin_of
from resilience.backend import Cutoff
from resilience.call import Call, out_of_time
from resilience.engine import Engine
from resilience.env import Env
from resilience.history import behind_of, keep_history
from resilience.outcome import Failure
from resilience.reading.envelope import LARGEST

__all__ = [
    "AiohttpAttemptTimedOut",
    "AiohttpCircuitOpen",
    "AiohttpDeadlineExceeded",
    "AiohttpRefreshFailed",
    "AiohttpRejected",
    "ResilientMiddleware",
]

_ROOT: Final = "_resilience_root"
_FAILED = 400  # RFC 9110, 15: from here on the request was not fulfilled
_UNFINISHED = 300  # from here on, what comes next may belong to the same wish: a redirect's next hop, an auth flow's next try
_FOLLOWED = frozenset({301, 302, 303, 307, 308})  # what aiohttp follows

if not (
    {"timer", "traces"} <= inspect.signature(ClientRequest).parameters.keys()
    and hasattr(ClientRequest, "update_expect_continue")
    and hasattr(payload.Payload, "consumed")
    and hasattr(payload.AsyncIterablePayload, "_cached_chunks")
    and {"_buffer", "_cursor", "_size", "_timer"} <= set(getattr(aiohttp.StreamReader, "__slots__", ()))
):
    # Better no adapter than one that hands a token to wherever a redirect leads, or sends what is left of a file for all of it.
    raise ImportError(
        f"aiohttp {aiohttp.__version__} is not known here: it does not tell which requests belong together, what is used up, "
        "or how to put back what was read"
    )


# Errors


class AiohttpRejected(errors.Rejected, aiohttp.ClientConnectionError):
    """`resilience.Rejected`, as aiohttp raises it."""


class AiohttpCircuitOpen(errors.CircuitOpen, aiohttp.ClientConnectionError):
    """`resilience.CircuitOpen`, as aiohttp raises it."""


class AiohttpDeadlineExceeded(errors.DeadlineExceeded, aiohttp.ServerTimeoutError):
    """`resilience.DeadlineExceeded`, as aiohttp raises it."""


class AiohttpAttemptTimedOut(errors.AttemptTimedOut, aiohttp.ServerTimeoutError):
    """`resilience.AttemptTimedOut`, as aiohttp raises it."""


class AiohttpRefreshFailed(errors.RefreshFailed, aiohttp.ClientConnectionError):
    """`resilience.RefreshFailed`, as aiohttp raises it."""


_TWINS: Final[Twins] = {
    errors.Rejected: AiohttpRejected,
    errors.CircuitOpen: AiohttpCircuitOpen,
    errors.DeadlineExceeded: AiohttpDeadlineExceeded,
    errors.AttemptTimedOut: AiohttpAttemptTimedOut,
    errors.RefreshFailed: AiohttpRefreshFailed,
}


# What belongs together


_SILENT: Final = aiohttp.TraceConfig()
_SILENT.freeze()


class _Trail(Trace):
    """
    What one request of the caller's has led to so far: a trace that tells nobody anything, and is told when the request is over.

    Attributes:
        owner: Whose trail it is; engines may be nested in one session.
        home: The origin of the first request.
        root: The latest request, as aiohttp made it.
        call: Its call.
        redirected: Whether its response leads on to another.
        error: What it raised, with the traceback as it was then.
    """

    def __init__(self, owner: ResilientMiddleware, home: str) -> None:
        super().__init__(cast("Any", None), _SILENT, SimpleNamespace())
        self.owner = owner
        self.home = home
        self.root: weakref.ref[ClientRequest] | None = None
        self.call: Call[Any] | None = None
        self.redirected = False
        self.error: tuple[Exception, TracebackType | None] | None = None

    async def send_request_end(self, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002 - the caller has its response
        self.call = self.error = None

    async def send_request_exception(self, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002 - the caller has its error
        self.call = self.error = None


class _Ride:
    """
    One call's way through the middleware.

    Attributes:
        origin: The origin of its request.
        home: That of the caller's first request.
        earlier: The call of the hop before; its key goes on.
        follows: Whether this is the same call to everyone but the engine.
        call: The call, once there is one.
    """

    __slots__ = ("call", "earlier", "follows", "home", "origin")

    call: Call[Any]

    def __init__(self, origin: str, trail: _Trail | None) -> None:
        self.origin = origin
        self.call = cast("Call[Any]", None)
        self.home, self.earlier, self.follows = (origin, None, False) if trail is None else (trail.home, trail.call, trail.redirected)


class _Bound(BaseTimerContext):
    """
    The timer of a body that is yet to be read: it goes on being bounded by its call's deadline, beside the timer that it has.

    aiohttp enters it around each wait for more, so that no scope is open in between.
    """

    def __init__(self, response: aiohttp.ClientResponse, call: Call[Any], env: Env) -> None:
        self._response = weakref.ref(response)
        self._call = call
        self._env = env
        content: Any = response.content
        self._own: Any = content._timer  # noqa: SLF001
        self._scope: Cutoff | None = None

    def assert_timeout(self) -> None:
        self._own.assert_timeout()
        response = self._response()
        if self._call.ends <= self._env.now() and response is not None and not response.content.is_eof():
            raise self._late()

    def __enter__(self) -> BaseTimerContext:
        left = self._call.ends - self._env.now()
        if left <= 0:
            raise self._late()
        self._own.__enter__()
        self._scope = self._env.cutoff(left)
        self._scope.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        scope, self._scope = self._scope, None
        assert scope is not None  # noqa: S101 - `with` enters first
        if scope.__exit__(kind, error, traceback):
            self._own.__exit__(None, None, None)
            raise self._late()
        self._own.__exit__(kind, error, traceback)

    def _late(self) -> errors.ResilienceError:
        """What is answered to whoever reads on: the call has ended, and its time is up."""
        response, call = self._response(), self._call
        if response is not None:
            response.close()
        error = out_of_time(call, "streaming").error
        assert isinstance(error, errors.ResilienceError)  # noqa: S101 - it is a DeadlineExceeded
        twin = twin_of(error, _TWINS)
        keep_history(twin, call.tries)
        return twin


# The middleware


class ResilientMiddleware:
    """
    An engine as a client middleware: ``aiohttp.ClientSession(middlewares=(ResilientMiddleware(engine),))``.

    **It judges at the headers.**  The reading of a body happens above it: one that is cut short after a 200 is no failure here, is not
    repeated and trips no breaker, and a limit to each attempt ends with the headers.  The deadline goes on bounding the body.  A failing
    response is returned as it came, once no attempt is left; what was read of it, to find its code, is still there to be read.

    The request goes out as a copy.  It carries the call's idempotency key, where its method asks for one and it has none of its own, and
    the token of a `RefreshToken`, in place of any ``Authorization`` of the session's or the caller's.  A redirect to the same origin
    belongs to the call of the request before it: same key, same deadline, same allowance of repeats.  Any other origin gets neither key nor
    token; a token is for the origin of the session's base URL, where there is one, unless `RefreshToken.origins` says otherwise.  A body
    that can be read only once, such as an async generator or a pipe, is sent once; after that the call is not repeated.

    What aiohttp does around a middleware, and what comes of it:

    - ``ClientTimeout.total``, five minutes by default, runs around all attempts and all waits between them.  When it is over the caller
      gets aiohttp's own `TimeoutError`, and no attempt is made after it.  Give the engine a `Deadline` below it.  ``sock_connect`` and
      ``sock_read`` hold for each attempt; what is left of a deadline cannot be given to aiohttp, and cuts an attempt from outside.  One
      that is cut while it waits for a connection counts as sent, so set ``connect`` below an `AttemptTimeout`: aiohttp's own error says
      that nothing was sent, which lets a POST be repeated.
    - Once in each request aiohttp repeats what has an idempotent method and lost its connection, without a word.  That is above the
      middleware, so it comes here again; it gets the same error again, and nothing is sent.  Requests are as many as attempts, and an
      engine without `Retry` repeats nothing.
    - ``raise_for_status`` is asked after the engine has returned: its error says nothing of the attempts before it.
    - Cookies are kept of the last response only.

    Middlewares listed before this one see one request for all its attempts, those after it see each attempt.  One object may serve any
    number of sessions.  Events name a request by method and host; a path may hold secrets.

    Args:
        engine: An `Engine`, or a view of one (``engine.using(...)``).

    Raises:
        TypeError: No engine.
    """

    def __init__(self, engine: Engine) -> None:
        checked_engine(engine, "ResilientMiddleware")
        self._env = engine.env
        self._engine = engine.view(prepare=_prepare, translate=translating(_TWINS))

    async def __call__(self, req: ClientRequest, handler: ClientHandlerType) -> aiohttp.ClientResponse:
        """
        Send one request as one call of the engine, or as the next hop of one.

        Raises:
            aiohttp.ClientError: What the last attempt raised, or one of ours: `AiohttpCircuitOpen`, `AiohttpDeadlineExceeded` ...
        """
        if not isinstance(req, ClientRequest):
            raise TypeError(f"ResilientMiddleware: expected a request of aiohttp, got {type(req).__module__}.{type(req).__qualname__}")
        root: ClientRequest = getattr(req, _ROOT, req)
        trail = self._trail_of(req)
        anew = trail is not None and trail.root is not None and trail.root() is not root
        if trail is not None and trail.error is not None and anew:
            error, traceback = trail.error
            try:
                raise error.with_traceback(traceback)  # aiohttp's own repeat
            finally:
                del error, traceback
        ride = _Ride(_origin(req.url), trail)
        try:
            response = await self._engine.call(self._attempt, ride, req, handler)
        except Exception as error:
            self._leave(req, root, ride, error)
            raise
        if response.status >= _UNFINISHED:
            self._leave(req, root, ride, redirected=response.status in _FOLLOWED)
        return response

    # Trails.

    def _trail_of(self, req: ClientRequest) -> _Trail | None:
        for one in _traces(req):
            if isinstance(one, _Trail) and one.owner is self:
                return one
        return None

    def _leave(
        self, req: ClientRequest, root: ClientRequest, ride: _Ride, error: Exception | None = None, *, redirected: bool = False
    ) -> None:
        """Let the next request of the same wish know of this one."""
        trail = self._trail_of(req)
        if trail is None:
            trail = _Trail(self, ride.home)
            _traces(req).append(trail)
        trail.root, trail.call, trail.redirected = weakref.ref(root), ride.call, redirected
        trail.error = None if error is None else (error, error.__traceback__)

    # One attempt.

    async def _attempt(self, ride: _Ride, req: ClientRequest, handler: ClientHandlerType) -> aiohttp.ClientResponse:
        call, env = ride.call, self._env
        until = math.inf if call.cutoff == math.inf else env.now() + call.cutoff
        body = req.body
        sent = _stamped(req, ride)
        try:
            response = await handler(sent)
        except Exception:
            if _is_over(req):
                call.final = "deadline"
            raise
        finally:
            if not _rewinds(body) and (sent.response is not None or (body and body.consumed)):
                call.replayable = False
        if response.status >= _FAILED:
            try:
                await self._drain(response, min(until, call.ends))
            except BaseException:
                response.close()
                raise
            if _is_over(req):
                call.final = "deadline"
        content: Any = response.content
        if call.ends < math.inf and not content.is_eof():
            content._timer = _Bound(response, call, env)  # noqa: SLF001
        return response

    async def _drain(self, response: aiohttp.ClientResponse, until: float) -> None:
        """Read on as far as an envelope reaches, and put it back: whoever reads the response finds its body, and so does the engine."""
        content, parts, size = response.content, list[bytes](), 0
        scope = self._env.cutoff(min(DRAIN_SECONDS, DRAIN_SHARE * max(0.0, until - self._env.now())))
        try:
            with scope:
                while size <= LARGEST and not content.at_eof():
                    parts.append(await content.readany())
                    size += len(parts[-1])
        except Exception as error:  # noqa: BLE001 - the status stands, whatever became of the body
            for one in behind_of(error):
                if isinstance(one, BaseException):
                    one.__traceback__ = None  # the stream keeps its error, and would keep these frames with it
        finally:
            body = b"".join(parts)
            _put_back(content, body)
        if not body.lstrip().startswith((b"{", b"[")):  # aiohttp has unpacked it, unless it was told not to
            body = decoded(body, response.headers.get("content-encoding", ""))
        response.__dict__["_content"] = body  # a place of ours, where `resilience.reading` looks for a body


def _prepare(call: Call[Any]) -> None:
    ride: _Ride = call.args[0]
    req: ClientRequest = call.args[1]
    call.method = req.method
    call.path = req.url.raw_path
    call.peer = origin = ride.origin
    call.label = f"{req.method} {origin.partition('://')[2]}"  # a path may hold secrets, and labels are logged
    call.closer = _discard
    if ride.earlier is not None:
        if ride.follows:
            call.follow(ride.earlier)
        else:
            # Something around us tries again.  What an attempt before that may have done must not be done under another key.
            call.minted = ride.earlier.minted
    ride.call = call


async def _discard(failure: Failure) -> None:
    """Free the connection of a response that is thrown away.  One that was read to its end has none, and stays readable."""
    response = failure.value if failure.error is None else getattr(failure.error, "response", None)
    if isinstance(response, aiohttp.ClientResponse) and not response.content.is_eof():
        response.close()


# Requests


def _stamped(req: ClientRequest, ride: _Ride) -> ClientRequest:
    """A copy of *req* as it goes out: with key and token where they belong."""
    call = ride.call
    sent = _copied(req)
    setattr(sent, _ROOT, getattr(req, _ROOT, req))
    sent.headers = req.headers.copy()
    sent.update_expect_continue()  # the future in which a 100 is waited for serves once
    audience: Container[str]
    if call.origins is not None:
        audience = _normal_origins(call.origins)
    else:
        base = getattr(req.session, "_base_url", None)
        audience = (ride.home if base is None else _origin_of_base(base),)
    own = sent.headers.get(call.key_header or DEFAULT_HEADER)
    stamp_key(sent.headers, call, own, method=req.method, away=ride.origin != ride.home)
    token = token_for(call, ride.origin, audience)
    if token is not None:
        sent.headers["Authorization"] = token
    return sent


def _copied(req: ClientRequest) -> ClientRequest:
    """The request again, as `copy.copy` makes it, which finds out each time how to."""
    if type(req) is not ClientRequest or _HAS_SLOTS:
        return copy.copy(req)
    sent = object.__new__(ClientRequest)
    sent.__dict__.update(req.__dict__)
    return sent


def _origin(url: URL) -> str:
    """Scheme, host and port as aiohttp has normalised them: in lower case, without the scheme's own port."""
    return str(url.origin())


_HAS_SLOTS: Final = any("__slots__" in vars(kind) for kind in ClientRequest.__mro__)
_origin_of_base = functools.lru_cache(maxsize=256)(_origin)


@functools.lru_cache(maxsize=256)
def _normal_origins(origins: frozenset[str]) -> frozenset[str]:
    return frozenset(_origin(URL(origin)) for origin in origins)


def _traces(req: Any) -> list[Trace]:
    """What traces the caller's request: the same list for every request that it leads to."""
    return cast("list[Trace]", req._traces)  # noqa: SLF001


def _is_over(req: Any) -> bool:
    """
    Whether the time of ``ClientTimeout.total`` is up.

    It strikes once.  An attempt after that would still be sent, and its answer never be looked at.
    """
    try:
        req._timer.assert_timeout()  # noqa: SLF001
    except TimeoutError:
        return True
    return False


def _rewinds(body: Any) -> bool:
    """Whether aiohttp can send this body again: bytes, or a form of bytes and of files that it rewinds itself."""
    if not body:
        return True
    if body.consumed:
        return False
    if isinstance(body, MultipartWriter):
        return all(_rewinds(part) for part, *_ in body)
    if isinstance(body, payload.AsyncIterablePayload):
        return cast("Any", body)._cached_chunks is not None  # noqa: SLF001
    if isinstance(body, payload.IOBasePayload):
        try:
            return cast("Any", body)._value.seekable() is True  # noqa: SLF001
        except Exception:  # noqa: BLE001 - a closed file, or something that only reads
            return False
    return isinstance(body, payload.BytesPayload)


# Bodies


def _put_back(content: Any, data: bytes) -> None:
    """What `StreamReader.unread_data` does, which works and warns that it is to go."""
    if data:
        content._buffer.appendleft(data)  # noqa: SLF001
        content._size += len(data)  # noqa: SLF001
        content._cursor -= len(data)  # noqa: SLF001
