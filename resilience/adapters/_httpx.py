"""
The adapter for httpx2 and httpx, written once; `httpx2.py` and `httpx.py` say which of the two it is for.

    ResilientClient.send ─▶ Engine ─▶ attempt ─▶ AsyncClient.send: auth, redirects ─▶ hop ─▶ transport
    ResilientTransport ─────────────────────────────────────────▶ Engine ─▶ attempt ─▶ hop ─▶ transport

A *hop* is one request on the wire and its response's head.  On its way out a copy of the request is stamped with the attempt's token, the
call's key and the time that is left; on its way back a response that reports a failure is drained, so that whoever sees it first, a hook,
an auth flow or the engine, finds its body, and so does whoever reads it last.

What belongs together across hops is a `Ride`.  It travels in ``request.extensions``, which redirects inherit: hops back at the home origin
carry token and key, hops anywhere else carry neither.

Read in httpx 0.28 and httpx2 2.16: ``_client.py`` (redirects inherit extensions, stream and headers; auth flows send the same request
again), ``_content.py`` (an async file sent twice is sent empty), ``_multipart.py`` (rewinds what can be rewound, and says nothing about
what cannot).
"""

from __future__ import annotations

import contextlib
import functools
import math
import weakref
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar, cast

import attrs

from resilience.adapters._bodies import DRAIN_SECONDS, DRAIN_SHARE, Drained, Once, close_both, decoded
from resilience.adapters._copies import copier, finder, setter
from resilience.adapters._engines import checked_engine
from resilience.adapters._stamping import DEFAULT_HEADER, stamp_key, token_for
from resilience.adapters._twins import Twins, twin_of
from resilience.backend import lateness, was_cut
from resilience.call import Call, out_of_time
from resilience.engine import Engine
from resilience.errors import ResilienceError
from resilience.history import keep_history
from resilience.outcome import Failure, Phase
from resilience.reading.envelope import LARGEST
from resilience.reading.phase import phase_of
from resilience.reading.repeats import COUNT_HEADER
from resilience.repeating import repeatable

__all__ = ["FAILED", "Adapter", "Library"]

T = TypeVar("T")

_RIDE: Final = "resilience.ride"
_HOME: Final = "resilience.home"
_DRAINED: Final = "resilience.drained"

_TIMEOUTS: Final = {"connect", "read", "write", "pool"}
_CLOSE_SECONDS = 1.0
_HEADWAY = 0.9  # of an attempt's limit: by then the client says itself that it never got as far as sending, which blames no peer
_SLACK = 0.01  # seconds by which the client's own timeouts come after the latest of ours, which can say whose they are
_MOST_KEPT = 16 * 2**20  # bytes of a failed response, packed or unpacked: nobody reads more, and a body may have no end
_SHOULD_RETRY = "x-should-retry"
_COUNT_HEADER = COUNT_HEADER.lower().encode()
FAILED = 400  # RFC 9110, 15: from here on the request was not fulfilled
_UPGRADED = 101
_REDIRECTION = range(300, 400)
_UNAUTHORISED = frozenset({401, 407})
# RFC 9110, 15.4.4: "see other" may answer a request that was carried out, and clients treat 300 to 302 alike.
_SEE_OTHER = range(300, 304)
_NOTHING_DONE = frozenset({307, 308, *(status for status in range(400, 500) if phase_of(status) is Phase.REFUSED)})


# Parts of a ride


class Ride:
    """
    What one logical request takes along through its hops.

    Attributes:
        call: The call; under a transport, that of the latest hop.
        url: Where the call's request goes ...
        origin: ... and the origin of that.
        home: The origin of the first request.
        base: That of the client's ``base_url``, if it has one: whose token it is, where its policy does not say.
        began: When the present attempt began, in the engine's seconds ...
        until: ... and when it is cut.
        answered: Whether it had an answer that does not say that nothing was done.
        inner: What an engine in a transport further in would have travel on to the next hop.
        sent: Under a transport, the requests that were hops of it; None before the first is done.  Weak: the requests hold the ride.
        refused: Whether its latest response asks for credentials.
        minted: The key to begin with, where the ride is a second go at what was refused for want of credentials.
        body: The body of its requests, where that can be read only once.
    """

    __slots__ = ("__dict__", "adapter", "answered", "base", "began", "call", "home", "inner", "origin", "until", "url")

    # What most rides never need stands at defaults of the class.
    sent: weakref.WeakSet[Any] | None = None
    refused: bool = False
    minted: tuple[str, str] | None = None
    body: Once | None = None

    call: Call[Any]
    url: Any
    origin: str
    home: str
    began: float
    until: float
    answered: bool
    inner: Ride | None

    def __init__(self, adapter: Adapter, base: str = "") -> None:
        self.adapter = adapter
        self.base = base

    def goes_on_with(self, request: Any) -> bool:
        """Whether *request* is the next hop; one that was a hop already is a new wish when it is sent once more."""
        if self.sent is None or request in self.sent:
            return False
        self.sent.add(request)
        return True

    def may_go_on(self, request: Any) -> None:
        """Travel with *request* to what comes after it."""
        self.sent = weakref.WeakSet() if self.sent is None else self.sent
        self.sent.add(request)
        request.extensions = {**request.extensions, _RIDE: self}

    def board(self, call: Call[Any], home: str) -> None:
        """Begin a call, or go on with it after a redirect."""
        if self.sent is None:
            self.home = home
            if self.minted is not None:
                call.minted = self.minted
        else:
            call.follow(self.call)
        self.call = call

    def begin(self, now: Callable[[], float]) -> None:
        """Begin an attempt."""
        self.inner = None
        self.answered = False
        self.began = began = now()
        self.until = began + self.call.cutoff


class _Bounded:
    """A response body that goes on being bounded by its call's deadline after the call.  Each read opens and closes a cutoff of its own."""

    def __init__(self, stream: Any, call: Call[Any], adapter: Adapter) -> None:
        self._stream = stream
        self._call = call
        self._adapter = adapter
        self._rest: Any = None

    @property
    def elapsed(self) -> Any:
        """What httpx2 asks the stream for."""
        return getattr(self._stream, "elapsed", None)

    def __aiter__(self) -> _Bounded:
        self._rest = self._stream.__aiter__()
        return self

    async def __anext__(self) -> bytes:
        env = self._adapter.env
        left = self._call.ends - env.now()
        cause: Exception | None = None
        try:
            if left > 0:
                since = env.cancel_count()
                scope = env.cutoff(left)
                try:
                    with scope:
                        return cast("bytes", await anext(self._rest))
                except StopAsyncIteration:
                    raise
                except Exception as error:
                    if not was_cut(scope, since):
                        raise
                    cause = error
            with contextlib.suppress(Exception), env.cutoff(_CLOSE_SECONDS, shield=True):
                await self.aclose()
            raise self._adapter.late(self._call, cause)
        finally:
            del cause  # its traceback holds this frame

    async def aclose(self) -> None:
        await close_both(self._rest, self._stream)


class _Hops:
    """A transport as the client sees it: every request that a ride goes through is a hop of it."""

    __slots__ = ("_adapter", "transport")

    def __init__(self, transport: Any, adapter: Adapter) -> None:
        self.transport = transport
        self._adapter = adapter

    def handle_async_request(self, request: Any) -> Awaitable[Any]:
        ride = request.extensions.get(_RIDE)
        if not isinstance(ride, Ride):
            return cast("Awaitable[Any]", self.transport.handle_async_request(request))  # an auth flow's own errand
        return self._adapter.hop(ride, request, self.transport)


@attrs.frozen(eq=False)
class Library:
    """
    One of the two client libraries.

    Args:
        http: Its module.
        twins: Our own errors, and for each the class that also belongs to the client's family.

    Raises:
        ImportError: Its client no longer has the place where hops are seen, or its responses the one where their bodies are.
    """

    http: Any
    twins: Twins
    # The client asks for its own stream class by isinstance.
    once: type[Once] = attrs.field(init=False)
    drained: type[Drained] = attrs.field(init=False)
    bounded: type[_Bounded] = attrs.field(init=False)
    copied: Callable[[Any, dict[str, Any]], Any] = attrs.field(init=False)
    has: Callable[[Any, bytes], bool] = attrs.field(init=False)
    put: Callable[[Any, str, bytes, str], None] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        if not hasattr(self.http.AsyncClient, "_transport_for_url") or not _is_loaded(self.http.Response(200, content=b"")):
            raise ImportError(
                f"{self.http.__name__} {self.http.__version__} is not known here: there is no place left to stamp requests at, "
                "or to find the body of a response"
            )
        for kind in (Once, Drained, _Bounded):
            name = kind.__name__.strip("_").lower()
            object.__setattr__(self, name, type(kind.__name__, (kind, self.http.AsyncByteStream), {}))
        object.__setattr__(self, "copied", copier(self.http))
        object.__setattr__(self, "has", finder(self.http))
        object.__setattr__(self, "put", setter(self.http))

    def reads_once(self, stream: Any) -> bool:
        """Whether the client cannot send this body again: neither bytes, nor a form of bytes and of files that it rewinds itself."""
        return isinstance(stream, self.http.AsyncByteStream) and not isinstance(stream, Once) and not self._rewinds(stream)

    def _rewinds(self, stream: Any) -> bool:
        return type(stream).__name__ == "MultipartStream" and all(map(_rewinds, stream.fields))


def _rewinds(field: Any) -> bool:
    file = getattr(field, "file", b"")
    if isinstance(file, str | bytes):
        return True
    try:
        # One that has `seek` and cannot is left where it was, and sent empty.
        return file.seekable() is True
    except Exception:  # noqa: BLE001 - a closed file, or something that only reads
        return False


# The adapter


class Adapter:
    """
    One engine in one client or transport.

    Args:
        engine: An `Engine`, or a view of one.
        library: The client's library.
        owner: Whom to name in messages.

    Raises:
        TypeError: No engine.
    """

    def __init__(self, engine: Engine, library: Library, owner: str) -> None:
        checked_engine(engine, owner)
        self.env = engine.env
        self.engine = engine.view(prepare=self._prepare, translate=self._translate)
        self._library = library
        self._owner = owner
        self._now = engine.env.now
        self._copied, self._has, self._put, self._in_memory = library.copied, library.has, library.put, library.http.ByteStream
        # The latest of those that a client has, which is nearly always the only one.
        self._hops: _Hops | None = None
        self._base: tuple[Any, str] = None, ""

    def checked_transport(self, transport: T) -> T:
        """
        *transport*, if it can be used here.

        Raises:
            TypeError: It is one for sync clients, or none at all.
        """
        if not callable(getattr(transport, "handle_async_request", None)):
            hint = "; it is for sync clients, and engines are async only" if hasattr(transport, "handle_request") else ""
            raise TypeError(f"{self._owner}: transport: expected an async transport, got {transport!r}{hint}")
        return transport

    def through(self, transport: T) -> T:
        """*transport*, with a hop made of each request that belongs to a call of ours."""
        hops = self._hops
        if hops is None or hops.transport is not transport:
            self._hops = hops = _Hops(transport, self)
        through: Any = hops
        return through  # type: ignore[no-any-return]  # it stands in for the transport

    # The two seams.

    # A client's own `send` begins a `ride`, runs `attempt` through `engine`, and lets `settle` see to what failed or is not read yet: were
    # there a coroutine of ours for that, each request would wait in one more, and pay for it whenever it goes on.

    def ride(self, request: Any, base_url: Any) -> Ride:
        """
        Where a call of a client with this ``base_url`` begins.

        Raises:
            TypeError: No request of the library's.
        """
        self._check(request)
        known, base = self._base
        if known is not base_url:  # it seldom is another
            base = _origin(base_url) if base_url.host else ""
            self._base = base_url, base
        return Ride(self, base)

    async def attempt(self, ride: Ride, request: Any, send: Callable[..., Awaitable[Any]], how: dict[str, Any], stream: bool) -> Any:
        """
        One attempt at a client's ``send``.

        Args:
            ride: What the attempts share.
            request: The caller's; it stays as it is.
            send: The client's own, taking a request and ``stream``.
            how: What else it is to be given.
            stream: Whether the caller reads the body; else it belongs to the attempt.
        """
        ride.begin(self._now)
        copy = self._copied(request, {**request.extensions, _RIDE: ride})
        if not isinstance(copy.stream, self._in_memory):
            self._watch(copy, ride)
        try:
            response = await send(copy, stream=True, **how)
        except Exception:
            if ride.answered and not repeatable(ride.call):
                # A hook's error, say, about a request of its own: that this was "never sent" does not undo what was answered before it.
                ride.call.unsafe_inside = True
            raise
        if stream:
            return response
        drained = response.extensions.get(_DRAINED)
        if drained is None:
            try:
                await response.aread()
            except BaseException:
                await self._close(response)
                raise
        elif drained.over:
            await self._load(response, drained)
        return response

    async def settle(self, response: Any, ride: Ride, request: Any, *, stream: bool) -> None:
        """See to a response that failed, or whose body the caller reads, before the caller is given it."""
        if response.status_code >= FAILED:
            _settle_with_sdk(ride.call, request, response)
            drained = None if stream else response.extensions.get(_DRAINED)
            if drained is not None and not _is_loaded(response):
                await self._finish(response, drained, ride)
        if stream:
            self._hand_out(response, ride.call)

    async def handle(self, request: Any, transport: Any) -> Any:
        """Run one request of a client that we are the transport of, as one call or as the next hop of one."""
        self._check(request)
        earlier = self._ride_of(request)
        if earlier is not None and earlier.goes_on_with(request):
            ride = earlier
        else:
            ride = Ride(self)
            if earlier is not None and earlier.refused:
                # An auth flow tries again.  What an attempt before the refusal may have done must not be done under another key.
                ride.minted = earlier.call.minted
        response = await self.engine.call(self._single, ride, request, transport)
        status = response.status_code
        if status >= FAILED:
            _settle_with_sdk(ride.call, request, response)
        self._hand_out(response, ride.call)
        ride.refused = status in _UNAUTHORISED
        if ride.refused or (status in _REDIRECTION and response.has_redirect_location):
            ride.may_go_on(request)
        return response

    def _ride_of(self, request: Any) -> Ride | None:
        """The ride of ours that *request* was a hop of, or that a redirect handed on to it."""
        ride = request.extensions.get(_RIDE)
        return ride if isinstance(ride, Ride) and ride.adapter is self else None

    def _check(self, request: Any) -> None:
        known = self._library.http
        if not isinstance(request, known.Request):
            raise TypeError(f"{self._owner}: expected a request of {known.__name__}, got {_named(request)}")

    # One attempt.

    def _single(self, ride: Ride, request: Any, transport: Any) -> Awaitable[Any]:
        ride.begin(self._now)
        return self.hop(ride, request, transport)

    async def hop(self, ride: Ride, request: Any, transport: Any) -> Any:
        """Send one request, stamped; drain its response if it reports a failure."""
        call = ride.call
        stamped = self._stamped(request, ride)
        try:
            response = await transport.handle_async_request(stamped)
        finally:
            if ride.body is not None and ride.body.touched:
                call.replayable = False
        ride.inner = stamped.extensions.get(_RIDE)
        status = response.status_code
        if status not in _NOTHING_DONE:
            ride.answered = True
        if status >= FAILED:
            call.closer = self._discard
            if not _is_loaded(response) and isinstance(response.stream, self._library.http.AsyncByteStream):
                await self._closing(response, functools.partial(self._drain, response, ride))
        elif status in _SEE_OTHER and not repeatable(call):
            # What was asked for may have been done, and the hop to come knows nothing of it: not even "never sent" makes a repeat safe.
            call.unsafe_inside = True
        return response

    def _stamped(self, request: Any, ride: Ride) -> Any:
        """A copy of *request* as it goes out: with key and token where they belong, and with no more time than there is."""
        call, url, extensions = ride.call, request.url, dict(request.extensions)
        if ride.inner is None:
            extensions.pop(_RIDE, None)
        else:
            extensions[_RIDE] = ride.inner
        origin = ride.origin if url is ride.url else _origin(url)
        away = origin != ride.home
        if away:
            extensions[_HOME] = ride.home  # an engine further in must know, too, that this is somewhere else
        if call.ends < math.inf or ride.until < math.inf:
            self._shorten(extensions, ride)
        copy = self._copied(request, extensions)
        if not isinstance(copy.stream, self._in_memory):
            self._watch(copy, ride)
        headers, keys = copy.headers, call.keys
        header = DEFAULT_HEADER if keys is None else keys.header
        own = headers[header] if self._has(headers, header.lower().encode()) else None
        stamp_key(headers, call, own, method=request.method, away=away)
        token = token_for(call, origin, (ride.base or ride.home,) if call.origins is None else self._origins(call.origins))
        if token is not None:
            self._put(headers, "Authorization", b"authorization", token)
        return copy

    def _watch(self, copy: Any, ride: Ride) -> None:
        """Let the ride know when a body is touched that can be read only once."""
        stream = copy.stream
        if self._library.reads_once(stream):
            if ride.body is None or ride.body.stream is not stream:
                ride.body = self._library.once(stream, self._library.http.StreamConsumed)
            copy.stream = ride.body

    def _shorten(self, extensions: dict[str, Any], ride: Ride) -> None:
        """Let none of the client's own timeouts outlast the time left.  Once there is a head, an attempt no longer limits the reading."""
        call, now = ride.call, self._now()
        of_call, of_attempt = call.ends - now, ride.until - now
        own: dict[str, float] | None = extensions.get("timeout")
        if type(own) is dict and own.keys() == _TIMEOUTS and None not in own.values():
            longest = max(own.values())
            if longest <= of_call and longest <= _HEADWAY * of_attempt:
                return  # as nearly always
        limits: dict[str, float | None] = dict(own) if isinstance(own, Mapping) else {}
        slack = _SLACK + lateness(min(call.cutoff, call.ends - ride.began))
        of_call, of_attempt = max(0.0, of_call) + slack, max(0.0, of_attempt)
        before = min(of_call, _HEADWAY * of_attempt)
        for name, left in (("pool", before), ("connect", before), ("write", min(of_call, of_attempt + slack)), ("read", of_call)):
            limit = limits.get(name)
            if left < math.inf:
                limits[name] = left if limit is None else min(limit, left)
        extensions["timeout"] = limits

    # Failed responses.

    async def _drain(self, response: Any, ride: Ride) -> None:
        left = max(0.0, min(ride.until, ride.call.ends) - self.env.now())
        drained = self._library.drained(response.stream, self.env)
        response.stream = drained
        response.extensions[_DRAINED] = drained
        reading, closing = min(DRAIN_SECONDS, DRAIN_SHARE * left), min(_CLOSE_SECONDS, (1 - DRAIN_SHARE) * left)
        await drained.fill(LARGEST, reading, closing, self._read_timeout)
        # A place of ours, where `resilience.reading` looks for a body.
        response._body = decoded(b"".join(drained.parts), response.headers.get("content-encoding", ""))  # noqa: SLF001

    async def _finish(self, response: Any, drained: Drained, ride: Ride) -> None:
        """Read what is left of a failed response that was not repeated, as far as 16 MiB, for a caller who does not stream."""
        left = max(0.0, min(ride.until, ride.call.ends) - self.env.now())
        await self._closing(response, functools.partial(drained.fill, _MOST_KEPT, left, _CLOSE_SECONDS, self._read_timeout))
        with contextlib.suppress(Exception), self.env.cutoff(_CLOSE_SECONDS, shield=True):
            await drained.let_go(self._lost)
        await self._load(response, drained)

    async def _load(self, response: Any, drained: Drained) -> None:
        """
        Let the response have its content: as much of it as came, packed as it came where it cannot be unpacked, or would have no end.

        Its status says more than what became of the rest.
        """
        drained.error = None
        raw = b"".join(drained.parts)
        bomb = len(decoded(raw, response.headers.get("content-encoding", ""), _MOST_KEPT)) > _MOST_KEPT
        with contextlib.suppress(Exception):  # not encoded as it claims, for one
            if not bomb:
                await response.aread()
                return
        response._content = raw  # noqa: SLF001 - where the client keeps it, and `resilience.reading` looks for it
        await response.aclose()

    async def _closing(self, response: Any, read: Callable[[], Awaitable[Any]]) -> None:
        """Run *read*; where it fails or is cut short, close the response."""
        try:
            await read()
        except BaseException:
            await self._close(response)
            raise

    async def _close(self, response: Any) -> None:
        with contextlib.suppress(Exception), self.env.cutoff(_CLOSE_SECONDS, shield=True):
            await response.aclose()
            await response.stream.aclose()  # a response cancelled while it closed its stream takes itself for closed

    async def _discard(self, failure: Failure) -> None:
        """Free the connection of a response that is thrown away.  It stays readable: a repeat that is refused brings it back."""
        response: Any = failure.value if failure.error is None else getattr(failure.error, "response", None)
        if not isinstance(response, self._library.http.Response):
            return
        drained = response.extensions.get(_DRAINED)
        if isinstance(drained, Drained):
            await drained.let_go(self._lost)
        else:
            await response.aclose()

    def _read_timeout(self) -> Exception:
        return cast("Exception", self._library.http.ReadTimeout("The body of a failed response did not come in time."))

    def _lost(self) -> Exception:
        return cast("Exception", self._library.http.ReadError("The rest of a failed response was let go of."))

    # Calls.

    def _prepare(self, call: Call[Any]) -> None:
        ride, request = call.args[0], call.args[1]
        method, url, extensions = request.method, request.url, request.extensions
        origin, host = _place(url.scheme, url.raw_host, url.port)
        call.method = method
        call.path = url.raw_path.decode("ascii", "replace").partition("?")[0]
        call.peer = origin
        call.label = f"{method} {host}"  # a path may hold secrets, and labels are logged
        ride.url, ride.origin = url, origin
        # It may be what a redirect led to, followed by the caller's hand or by an engine around this one.
        earlier = extensions.get(_RIDE)
        if isinstance(earlier, Ride) and earlier.adapter is self:
            ride.board(call, earlier.home)
        else:
            ride.board(call, extensions.get(_HOME, origin))
        if call.plan.attempts is not None and self._has(request.headers, _COUNT_HEADER) and request.headers[COUNT_HEADER] != "0":
            # An SDK tries again what we have just given up.  It may, once each time; its tries and ours do not multiply.
            call.others = call.plan.attempts
            call.nest(outer=request.headers.get("user-agent", "SDK").partition("/")[0])

    def _translate(self, call: Call[Any], error: ResilienceError) -> ResilienceError:
        """An error of ours as one of the client's family; of a kind that has no twin, as it is."""
        twin = twin_of(error, self._library.twins)
        if twin is error:
            return error
        if call.args:
            cast("Any", twin).request = call.args[1]
        return twin

    def late(self, call: Call[Any], cause: Exception | None) -> ResilienceError:
        """What reading past the deadline of a call that has ended is answered with."""
        error = out_of_time(call, "streaming", cause).error
        assert isinstance(error, ResilienceError)  # noqa: S101 - it is a DeadlineExceeded
        twin = self._translate(call, error)
        keep_history(twin, call.tries)
        return twin

    def _hand_out(self, response: Any, call: Call[Any]) -> None:
        """Bound what is yet to be read of *response*."""
        drained = response.extensions.get(_DRAINED)
        to_come = not _is_loaded(response) and (drained is None or not drained.over)
        if to_come and call.ends < math.inf and response.status_code != _UPGRADED:
            response.stream = self._library.bounded(response.stream, call, self)

    def _origins(self, origins: frozenset[str]) -> frozenset[str]:
        return _normal_origins(self._library.http.URL, origins)


def _settle_with_sdk(call: Call[Any], request: Any, response: Any) -> None:
    """Tell an SDK that counts its retries not to repeat what was not to be, or has been often enough: it asks this header first."""
    if call.plan.attempts is None or COUNT_HEADER not in request.headers:
        return
    if call.parent is not None and call.final in {None, "attempts"}:
        return  # an engine around the SDK shares the attempts, and would take this for the peer's own word
    response.headers[_SHOULD_RETRY] = "false"


def _named(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _origin(url: Any) -> str:
    """Scheme, host and port as the client has normalised them: in lower case, without the scheme's own port."""
    return _place(url.scheme, url.raw_host, url.port)[0]


@functools.lru_cache(maxsize=256)
def _place(scheme: str, host: bytes, port: int | None) -> tuple[str, str]:
    """An origin, and without its scheme."""
    name = host.decode("ascii", "replace")
    place = f"[{name}]" if ":" in name else name
    if port is not None:
        place = f"{place}:{port}"
    return f"{scheme}://{place}", place


@functools.lru_cache(maxsize=256)
def _normal_origins(url: Callable[[str], Any], origins: frozenset[str]) -> frozenset[str]:
    return frozenset(_origin(url(origin)) for origin in origins)


def _is_loaded(response: Any) -> bool:
    """Whether the whole body is in memory already, as that of a stand-in transport's response is."""
    return hasattr(response, "_content")
