"""
The API itself: routes, in the order in which the real one checks a request.

    limit per address ─▶ (auth endpoints: a stricter one) ─▶ credential ─▶ limit per key ─▶ scope ─▶ stored result ─▶ the action ─▶ credits

It is honest: it never fails on purpose.  What goes wrong by script happens in front of it, in ``faults.py``.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias, cast

import attrs
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from resilience.demo.envelopes import DEFAULT_CODES, Problem, Reply, encode
from resilience.demo.ledger import Ledger
from resilience.demo.limits import Room, SlidingWindow
from resilience.demo.replays import Replays
from resilience.demo.tokens import Caller, Credentials, Session, Tenant

__all__ = ["LOGIN", "PRICES", "Api", "Settings"]

LOGIN: Mapping[str, str] = {"email": "ada@acme.example", "password": "correct horse"}
"""What the login endpoint takes from the one user there is at the start, of tenant ``acme``."""

PRICES: Mapping[str, int] = {"call.placed": 5, "message.sent": 1, "completion.made": 1}
"""Credits charged for an action; others are free."""

MODELS = ("missed-1", "missed-1-mini")

MUTATING = frozenset({"POST", "PUT", "PATCH"})

Handler: TypeAlias = Callable[[Request, Caller], Awaitable[Reply]]
Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]

_seconds = attrs.validators.gt(0.0)
_limit = attrs.validators.ge(1)


@attrs.frozen(kw_only=True)
class Settings:
    """
    How the stand-in is set; the defaults are the documented API's.

    Args:
        window: Length of the window in which addresses and keys are counted, in seconds; > 0.
        address_limit: Requests that one address may make in it; >= 1.
        key_limits: Requests that one key or session may make in it, by plan; >= 1.
        auth_window: Length of the window of the auth endpoints, in seconds; > 0.
        auth_limit: Requests that one address may make to all of them in it; >= 1.
        session_seconds: Life of an access token; > 0.
        key_seconds: How long a result is kept for its ``Idempotency-Key``; > 0.
        work_seconds: What an action takes before it has its effect; >= 0.
        gzip_errors: Compress the bodies of errors for whoever accepts gzip, as many gateways do.
    """

    window: float = attrs.field(default=60.0, validator=_seconds)
    address_limit: int = attrs.field(default=200, validator=_limit)
    key_limits: Mapping[str, int] = attrs.field(
        factory=lambda: {"free": 60, "starter": 500, "pro": 3_000, "enterprise": 10_000},
        validator=attrs.validators.deep_mapping(attrs.validators.in_(["free", "starter", "pro", "enterprise"]), _limit),
    )
    auth_window: float = attrs.field(default=60.0, validator=_seconds)
    auth_limit: int = attrs.field(default=5, validator=_limit)
    session_seconds: float = attrs.field(default=86_400.0, validator=_seconds)
    key_seconds: float = attrs.field(default=86_400.0, validator=_seconds)
    work_seconds: float = attrs.field(default=0.0, validator=attrs.validators.ge(0.0))
    gzip_errors: bool = False


@attrs.define(eq=False)
class _Bot:
    """A tenant's bot."""

    id: str
    tenant: Tenant
    name: str
    domain: str | None

    def body(self) -> dict[str, object]:
        return {"id": self.id, "name": self.name, "domain": self.domain}


class Api:
    """
    The API's whole state, and the ASGI application that serves it.

    Args:
        settings: How it is set.
        ledger: Where it counts what it does.
    """

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self.credentials = Credentials(settings.session_seconds)
        self.credentials.add_user(LOGIN["email"], LOGIN["password"], self.credentials.add_tenant(Tenant("acme")))
        self._settings = settings
        self._ledger = ledger
        self._addresses = SlidingWindow(settings.window)
        self._auth_addresses = SlidingWindow(settings.auth_window)
        self._holders = SlidingWindow(settings.window)
        self._replays = Replays(settings.key_seconds, time.monotonic)
        self._bots: dict[str, _Bot] = {}
        self._calls: list[tuple[Tenant, dict[str, object]]] = []
        self._serials = itertools.count(1)
        routes = [
            ("POST", "/api/v1/auth/login", self._open(self._log_in)),
            ("POST", "/api/v1/auth/register", self._open(self._register)),
            ("POST", "/api/v1/auth/refresh", self._open(self._refresh)),
            ("GET", "/api/v1/bots", self._guarded("bots:read", self._list_bots)),
            ("POST", "/api/v1/bots", self._guarded("bots:write", self._create_bot)),
            ("GET", "/api/v1/bots/{id}", self._guarded("bots:read", self._get_bot)),
            ("PUT", "/api/v1/bots/{id}", self._guarded("bots:write", self._replace_bot)),
            ("PATCH", "/api/v1/bots/{id}", self._guarded("bots:write", self._change_bot)),
            ("DELETE", "/api/v1/bots/{id}", self._guarded("bots:write", self._delete_bot)),
            ("GET", "/api/v1/calls", self._guarded("calls:read", self._list_calls)),
            ("POST", "/api/v1/calls", self._guarded("calls:write", self._place_call)),
            ("POST", "/api/v1/messages", self._guarded("messages:write", self._send_message)),
            ("GET", "/v1/models", self._guarded("models:read", self._list_models)),
            ("POST", "/v1/chat/completions", self._guarded("completions:write", self._complete_chat)),
            ("POST", "/v1/embeddings", self._guarded("completions:write", self._embed)),
            ("POST", "/v1/messages", self._guarded("completions:write", self._complete_messages)),
        ]
        self._routes = [Route(path, endpoint, methods=[method]) for method, path, endpoint in routes]
        self._app = Starlette(routes=self._routes, exception_handlers={HTTPException: self._unrouted, Exception: self._crashed})
        self._app.router.redirect_slashes = False  # the only redirects are those a scenario asks for

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await self._app(scope, receive, send)

    def serves(self, method: str, path: str) -> bool:
        """Whether there is a route for *method* at *path*."""
        return any(method in (route.methods or ()) and route.path_regex.match(path) for route in self._routes)

    # How every request is checked and answered.

    def _open(self, handler: Callable[[Request], Awaitable[Reply]]) -> Endpoint:
        """An auth endpoint: no credential, but a limit of its own."""

        async def endpoint(request: Request) -> Response:
            try:
                self._admit_address(request)
                self._admit(self._auth_addresses, _address(request), self._settings.auth_limit)
                reply = await handler(request)
            except Problem as problem:
                reply = problem.reply(request.url.path)
            return self._response(request, reply)

        return endpoint

    def _guarded(self, scope: str, handler: Handler) -> Endpoint:
        """An endpoint for callers with a credential and a *scope*."""

        async def endpoint(request: Request) -> Response:
            room = None
            try:
                self._admit_address(request)
                caller = self.credentials.identify(request.headers, x_api_key=request.url.path == "/v1/messages")
                room = self._admit(self._holders, caller.holder, self._settings.key_limits[caller.tenant.plan])
                caller.require(scope)
                reply = await self._once(request, caller, handler)
            except Problem as problem:
                reply = problem.reply(request.url.path)
            return self._response(request, reply if room is None else reply.adding(room.headers()))

        return endpoint

    def _admit_address(self, request: Request) -> None:
        self._admit(self._addresses, _address(request), self._settings.address_limit)

    def _admit(self, window: SlidingWindow, holder: str, limit: int) -> Room:
        room = window.take(holder, limit, time.monotonic())
        if room.retry_after is not None:
            raise Problem(429, "rate_limit_exceeded", f"At most {limit} requests are allowed; wait.", room.headers())
        return room

    async def _once(self, request: Request, caller: Caller, handler: Handler) -> Reply:
        """The action, or the stored result of its key."""
        key = request.headers.get("idempotency-key")
        if key is None or request.method not in MUTATING:
            return await handler(request, caller)
        if not key or len(key) > 255:
            raise Problem(400, "invalid_request", "An Idempotency-Key has 1 to 255 characters.")
        told = f"{request.method} {request.url.path}\n".encode() + await request.body()
        reply, replayed = await self._replays.once(caller.tenant.name, key, hashlib.sha256(told).digest(), lambda: handler(request, caller))
        self._ledger.replays += replayed
        return reply.adding({"Idempotent-Replayed": "true"}) if replayed else reply

    def _response(self, request: Request, reply: Reply) -> Response:
        if self._settings.gzip_errors and reply.status >= 400 and "gzip" in request.headers.get("accept-encoding", ""):
            reply = encode(reply, "gzip")
        response = Response(reply.body, reply.status, media_type="application/json" if reply.body else None)
        for name, value in reply.headers:
            response.headers.append(name, value)
        return response

    def _unrouted(self, request: Request, error: Exception) -> Response:
        """No such route, or none for this method."""
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
        problem = Problem(error.status_code, DEFAULT_CODES.get(error.status_code, "invalid_request"), error.detail, error.headers or {})
        try:
            self._admit_address(request)
        except Problem as refused:
            problem = refused
        return self._response(request, problem.reply(request.url.path))

    def _crashed(self, request: Request, error: Exception) -> Response:
        """A bug of ours: the client gets what the real API would answer; the ledger gets the bug."""
        self._ledger.crashes.append(f"{request.method} {request.url.path}: {error!r}")
        return self._response(request, Problem(500, "internal_error", "Something went wrong here.").reply(request.url.path))

    def _charge(self, caller: Caller, effect: str) -> None:
        """Take what *effect* costs, and count it as done."""
        price = PRICES.get(effect, 0)
        caller.tenant.charge(price)
        self._ledger.credits += price
        self._ledger.effects[effect] += 1

    # Auth.

    async def _log_in(self, request: Request) -> Reply:
        fields = await _fields(request)
        session = self.credentials.log_in(_text(fields, "email"), _text(fields, "password"))
        self._ledger.logins += 1
        return _session(200, session)

    async def _register(self, request: Request) -> Reply:
        fields = await _fields(request)
        email, password = _text(fields, "email"), _text(fields, "password")
        tenant = Tenant(email)
        self.credentials.add_user(email, password, tenant)
        self.credentials.add_tenant(tenant)
        self._ledger.effects["tenant.registered"] += 1
        return _session(201, self.credentials.open_session(tenant))

    async def _refresh(self, request: Request) -> Reply:
        token = _text(await _fields(request), "refresh_token")
        try:
            session = self.credentials.refresh(token)
        except Problem as problem:
            self._ledger.revocations += problem.code == "refresh_token_reused"
            raise
        self._ledger.refreshes += 1
        return _session(200, session)

    # Native endpoints.

    async def _list_bots(self, request: Request, caller: Caller) -> Reply:
        limit = request.query_params.get("limit", "100")
        if not (limit.isascii() and limit.isdecimal() and len(limit) <= 3 and 1 <= int(limit) <= 100):
            raise Problem(400, "invalid_request", "limit is a whole number from 1 to 100.")
        mine = [bot.body() for bot in self._bots.values() if bot.tenant is caller.tenant]
        return Reply.of(200, {"data": mine[: int(limit)]})

    async def _create_bot(self, request: Request, caller: Caller) -> Reply:
        fields = await _fields(request)
        domain = _domain(fields, caller.tenant)
        await self._work()
        bot = _Bot(f"bot_{next(self._serials)}", caller.tenant, self._free_name(fields, caller.tenant), domain)
        self._bots[bot.id] = bot
        self._charge(caller, "bot.created")
        return Reply.of(201, bot.body())

    async def _get_bot(self, request: Request, caller: Caller) -> Reply:
        return Reply.of(200, self._bot(request, caller).body())

    async def _replace_bot(self, request: Request, caller: Caller) -> Reply:
        bot, fields = self._bot(request, caller), await _fields(request)
        bot.name, bot.domain = self._free_name(fields, caller.tenant, bot), _domain(fields, caller.tenant)
        self._charge(caller, "bot.updated")
        return Reply.of(200, bot.body())

    async def _change_bot(self, request: Request, caller: Caller) -> Reply:
        bot, fields = self._bot(request, caller), await _fields(request)
        told = {**bot.body(), **fields}
        bot.name, bot.domain = self._free_name(told, caller.tenant, bot), _domain(told, caller.tenant)
        self._charge(caller, "bot.updated")
        return Reply.of(200, bot.body())

    async def _delete_bot(self, request: Request, caller: Caller) -> Reply:
        del self._bots[self._bot(request, caller).id]
        self._charge(caller, "bot.deleted")
        return Reply(204)

    async def _list_calls(self, _request: Request, caller: Caller) -> Reply:
        return Reply.of(200, {"data": [call for tenant, call in self._calls if tenant is caller.tenant]})

    async def _place_call(self, request: Request, caller: Caller) -> Reply:
        fields = await _fields(request)
        to, bot_id = _text(fields, "to"), fields.get("bot_id")
        if bot_id is not None:
            self._find_bot(str(bot_id), caller)
        await self._work()
        self._charge(caller, "call.placed")
        call: dict[str, object] = {"id": f"call_{next(self._serials)}", "to": to, "bot_id": bot_id, "status": "queued"}
        self._calls.append((caller.tenant, call))
        return Reply.of(201, call)

    async def _send_message(self, request: Request, caller: Caller) -> Reply:
        fields = await _fields(request)
        to, _ = _text(fields, "to"), _text(fields, "text")
        await self._work()
        self._charge(caller, "message.sent")
        return Reply.of(201, {"id": f"msg_{next(self._serials)}", "to": to, "status": "queued"})

    def _bot(self, request: Request, caller: Caller) -> _Bot:
        return self._find_bot(request.path_params["id"], caller)

    def _find_bot(self, bot_id: str, caller: Caller) -> _Bot:
        bot = self._bots.get(bot_id)
        if bot is None or bot.tenant is not caller.tenant:
            raise Problem(404, "not_found", "There is no such bot.")
        return bot

    def _free_name(self, fields: Mapping[str, object], tenant: Tenant, bot: _Bot | None = None) -> str:
        """The name asked for, unless another bot of the tenant has it."""
        name = _text(fields, "name")
        if any(other.name == name and other.tenant is tenant and other is not bot for other in self._bots.values()):
            raise Problem(409, "conflict", f"There is a bot named {name!r} already.")
        return name

    async def _work(self) -> None:
        if self._settings.work_seconds:
            await asyncio.sleep(self._settings.work_seconds)

    # OpenAI-compatible and Anthropic-compatible endpoints.

    async def _list_models(self, _request: Request, _caller: Caller) -> Reply:
        models = [{"id": name, "object": "model", "created": 1_735_689_600, "owned_by": "callmissed"} for name in MODELS]
        return Reply.of(200, {"object": "list", "data": models})

    async def _complete_chat(self, request: Request, caller: Caller) -> Reply:
        model = await self._complete(request, caller)
        message = {"role": "assistant", "content": "You missed a call."}
        return Reply.of(
            200,
            {
                "id": f"chatcmpl-{next(self._serials)}",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": model,
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 4, "completion_tokens": 5, "total_tokens": 9},
            },
        )

    async def _complete_messages(self, request: Request, caller: Caller) -> Reply:
        model = await self._complete(request, caller)
        return Reply.of(
            200,
            {
                "id": f"msg_{next(self._serials)}",
                "type": "message",
                "role": "assistant",
                "model": model,
                "content": [{"type": "text", "text": "You missed a call."}],
                "stop_reason": "end_turn",
                "stop_sequence": None,
                "usage": {"input_tokens": 4, "output_tokens": 5},
            },
        )

    async def _embed(self, _request: Request, _caller: Caller) -> Reply:
        raise Problem(501, "not_implemented", "Embeddings are not live yet.")

    async def _complete(self, request: Request, caller: Caller) -> str:
        """Check, work and charge for one completion; its model."""
        fields = await _fields(request)
        model = _text(fields, "model")
        if not isinstance(fields.get("messages"), list):
            raise Problem(422, "validation_failed", "messages is a list.")
        if model not in MODELS:
            raise Problem(404, "not_found", f"There is no model {model!r}.")
        if fields.get("stream"):
            raise Problem(501, "not_implemented", "Streaming is not live yet.")
        if "search_provider" in fields and _text(fields, "search_provider") not in caller.tenant.search_providers:
            raise Problem(403, "search_provider_not_allowed", "Your plan does not search with this provider.")
        await self._work()
        self._charge(caller, "completion.made")
        return model


def _session(status: int, session: Session) -> Reply:
    return Reply.of(status, session.body(), {"Cache-Control": "no-store"})


def _address(request: Request) -> str:
    """The peer's own; a forwarded one would let any client call itself anything."""
    return request.client.host if request.client is not None else ""


async def _fields(request: Request) -> dict[str, object]:
    """
    The request's JSON object.

    Raises:
        Problem: 400 where it is no JSON, 422 where it is no object.
    """
    try:
        content: object = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise Problem(400, "invalid_request", "The body is not valid JSON.") from error
    if not isinstance(content, dict):
        raise Problem(422, "validation_failed", "The body is not an object.")
    return cast("dict[str, object]", content)


def _text(fields: Mapping[str, object], name: str) -> str:
    """
    A field that has to be a text and not empty.

    Raises:
        Problem: 422.
    """
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise Problem(422, "validation_failed", f"{name} is a text and not empty.")
    return value


def _domain(fields: Mapping[str, object], tenant: Tenant) -> str | None:
    """
    The domain asked for, if any.

    Raises:
        Problem: 422, or 403 where it is not on the tenant's allowlist.
    """
    if fields.get("domain") is None:
        return None
    domain = _text(fields, "domain")
    if domain not in tenant.domains:
        raise Problem(403, "domain_not_allowed", "This domain is not on the allowlist.")
    return domain
