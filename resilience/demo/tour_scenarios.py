"""
Everything that the CallMissed API can do to a client, and what should come of it.

Each scenario says what is documented and how it should end, the server's own counts included; its function only acts it out.  Where the
stand-in misbehaves by itself (limits, empty accounts, expired tokens) nothing is scripted.  Waits are real, and short.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio
import httpx2

from resilience import AttemptTimeout, CircuitBreaker, Constant, Deadline, IdempotencyKey, Retry, history
from resilience.demo.faults import Answer, Drip, Hang, Late, Redirect, Reset, Truncate
from resilience.demo.server import Settings
from resilience.demo.tokens import Tenant
from resilience.demo.tour import Documented, Play, Run, Scenario, bearer

__all__ = ["SCENARIOS"]

BOTS = "/api/v1/bots"
CALLS = "/api/v1/calls"
CALL = {"to": "+44 20 7946 0958"}
CHAT = {"model": "missed-1", "messages": [{"role": "user", "content": "Who called?"}]}

_scenarios: list[Scenario] = []


def scenario(
    name: str, title: str, says: str, ends: Documented, *, settings: Settings | None = None, crowd: bool = False
) -> Callable[[Play], Play]:
    """Put a scenario on the tour, in the order in which they are written here."""

    def put(play: Play) -> Play:
        _scenarios.append(Scenario(name=name, title=title, says=says, ends=ends, play=play, settings=settings or Settings(), crowd=crowd))
        return play

    return put


@scenario("healthy", "A healthy call", "200 is a success.", Documented(got="200", served="200"))
async def healthy(run: Run) -> None:
    """Nothing goes wrong."""
    async with run.client() as http:
        await run.ask(http.get(BOTS))


# What passes.


@scenario(
    "recovers",
    "503, then well again",
    "503 provider_error: repeat once or twice, with a jittered backoff.",
    Documented(got="200", served="503, 200", attempts=2, waits=1, waited=(0.0, 1.0)),
)
async def recovers(run: Run) -> None:
    """One failure passes unseen."""
    run.server.script(f"GET {BOTS}", Answer(503))
    async with run.client() as http:
        await run.ask(http.get(BOTS))


@scenario(
    "stays-down",
    "503 for good",
    "503 provider_error: 3 attempts in all; then the caller gets the 503 as it came.",
    Documented(got="503 provider_error", served="503, 503, 503", attempts=3, waits=2),
)
async def stays_down(run: Run) -> None:
    """The cap of the code holds below the engine's four attempts."""
    run.server.script(f"GET {BOTS}", Answer(503), times=None)
    async with run.client() as http:
        await run.ask(http.get(BOTS))
    run.expect("why it gave up", "attempts", run.told("retry.gave_up", "reason"))


@scenario(
    "server-error",
    "500, twice",
    "500: repeat once, 2 attempts in all; then the caller gets the 500 as it came.",
    Documented(got="500 internal_error", served="500, 500", attempts=2, waits=1),
)
async def server_error(run: Run) -> None:
    """A 500 may be repeated once, and no more."""
    run.server.script(f"GET {BOTS}", Answer(500), times=None)
    async with run.client() as http:
        await run.ask(http.get(BOTS))


@scenario(
    "rate-limit",
    "429 with Retry-After: 1",
    "429: wait at least Retry-After seconds, then repeat.",
    Documented(got="200, 200, 200, 200", served="200, 200, 200, 429, 200", attempts=5, waits=1, waited=(1.0, 2.0)),
    settings=Settings(window=1.0, key_limits={"free": 3}),
)
async def rate_limit(run: Run) -> None:
    """A key of the free plan, three requests a second for the occasion; the limit is the server's own."""
    run.server.add_tenant(Tenant("small", plan="free"))
    async with run.client(headers=bearer(run.server.api_key("small"))) as http:
        for _ in range(4):
            await run.ask(http.get(BOTS))
    refused, repeated = (await run.counts()).seen[-2:]
    run.expect("the server was left alone for a second", True, repeated.at - refused.at >= 1.0)
    run.expect("whose delay it was", "hint", run.told("retry.scheduled", "delay_source"))


@scenario(
    "refused",
    "A connection refused",
    "A request that was never sent may be repeated, even a POST without a key.",
    Documented(got="201", served="201", attempts=3, waits=2, effects={"call.placed": 1}),
)
async def refused(run: Run) -> None:
    """The port is closed for two attempts."""
    engine = run.engine(Retry(attempts=4, backoff=Constant(0.1)))
    async with run.client(engine) as http, anyio.create_task_group() as tasks:
        with run.server.down():
            tasks.start_soon(run.ask, http.post(CALLS, json=CALL))
            await run.until("retry.scheduled", 2)


@scenario(
    "hung",
    "A request that hangs",
    "An attempt is cut off after its own limit, and repeated.",
    Documented(got="200", served="no answer, 200", attempts=2, waits=1),
)
async def hung(run: Run) -> None:
    """The server says nothing; AttemptTimeout ends the attempt, not the call."""
    run.server.script(f"GET {BOTS}", Hang())
    async with run.client(run.engine(Deadline(5), Retry(), AttemptTimeout(0.5))) as http:
        await run.ask(http.get(BOTS))


@scenario(
    "cut-short",
    "A body that is cut short",
    "A 200 whose body does not arrive whole is no success, and is repeated.",
    Documented(got="200", served="200, 200", attempts=2, waits=1),
)
async def cut_short(run: Run) -> None:
    """Both answers have status 200; only the second has all of its body."""
    run.server.script(f"GET {BOTS}", Truncate())
    async with run.client() as http:
        got = await run.ask(http.get(BOTS))
    run.expect("the body", {"data": []}, got.answer and got.answer.json())


# What does not pass.


@scenario(
    "far-hint",
    "429 with Retry-After: 3600",
    "A wait beyond the caller's limit (60 s) is a decision: fail at once, with the hint in the history.",
    Documented(got="429 rate_limit_exceeded", served="429"),
)
async def far_hint(run: Run) -> None:
    """Neither an hour's sleep nor a knock after a minute."""
    run.server.script(f"GET {BOTS}", Answer(429, headers={"Retry-After": "3600"}))
    async with run.client() as http:
        got = await run.ask(http.get(BOTS))
    run.expect("why it gave up", "hint", run.told("retry.gave_up", "reason"))
    run.expect("the hint", [3600.0], [tried.retry_after for tried in history(got.answer)])


@scenario(
    "no-credit",
    "402, no credit left",
    "402: fail fast; fix the billing first.",
    Documented(got="402 insufficient_credits, 402 budget_exceeded", served="402, 402", attempts=2),
)
async def no_credit(run: Run) -> None:
    """One request for each of two calls, nothing charged."""
    run.server.add_tenant(Tenant("broke", credits=4))
    run.server.add_tenant(Tenant("thrifty", budget=4))
    for name in ("broke", "thrifty"):
        async with run.client(headers=bearer(run.server.api_key(name))) as http:
            await run.ask(http.post(CALLS, json=CALL))
    run.expect("credits charged", 0, (await run.counts()).credits)


@scenario(
    "revoked-key",
    "401 invalid_api_key",
    "401 invalid_api_key: fail fast; a key never expires, so there is nothing to refresh.",
    Documented(got="401 invalid_api_key", served="401"),
)
async def revoked_key(run: Run) -> None:
    """The code decides: another 401 would be refreshed."""
    key = run.server.api_key()
    run.server.revoke(key)
    async with run.client(headers=bearer(key)) as http:
        await run.ask(http.get(BOTS))


@scenario(
    "callers-fault",
    "400, 403, 404, 422",
    "The caller's own mistakes: fail fast.",
    Documented(
        got="400 invalid_request, 403 permission_denied, 403 domain_not_allowed, 404 not_found, 422 validation_failed",
        served="400, 403, 403, 404, 422",
        attempts=5,
    ),
)
async def callers_fault(run: Run) -> None:
    """One request for each of five calls."""
    async with run.client() as http, run.client(headers=bearer(run.server.api_key(scopes=frozenset({"bots:read"})))) as reader:
        await run.ask(http.get(BOTS, params={"limit": 0}))
        await run.ask(reader.post(CALLS, json=CALL))
        await run.ask(http.post(BOTS, json={"name": "Ann", "domain": "elsewhere.example"}))
        await run.ask(http.get(f"{BOTS}/nobody"))
        await run.ask(http.post(BOTS, json={}))


@scenario(
    "conflict",
    "409, twice over",
    "409: a duplicate, or a key used with another body; never fixed by repeating.",
    Documented(
        got="201, 409 conflict, 201, 409 idempotency_conflict",
        served="201, 409, 201, 409",
        attempts=4,
        effects={"bot.created": 1, "call.placed": 1},
    ),
)
async def conflict(run: Run) -> None:
    """A name that is taken; then the caller's own key, which goes out as it is, with another body."""
    async with run.client() as http:
        for _ in range(2):
            await run.ask(http.post(BOTS, json={"name": "Ann"}))
        for number in ("+44 20 7946 0001", "+44 20 7946 0002"):
            await run.ask(http.post(CALLS, json={"to": number}, headers={"Idempotency-Key": "order-42"}))


@scenario(
    "not-live",
    "501 embeddings",
    "501: exists, but is not live yet; fail fast.",
    Documented(got="501 not_implemented", served="501"),
)
async def not_live(run: Run) -> None:
    """The code is null here; the type says it."""
    async with run.client() as http:
        got = await run.ask(http.post("/v1/embeddings", json={"model": "missed-1", "input": "Who called?"}))
    run.expect("the code", None, got.answer and got.answer.json()["error"]["code"])


# Two envelopes, three families.


@scenario(
    "openai",
    "OpenAI's envelope",
    "code may be null, and then type has to serve.",
    Documented(got="200, 429 billing_error", served="503, 200, 429", attempts=3, waits=1, effects={"completion.made": 1}),
)
async def openai(run: Run) -> None:
    """A 503 passes; a 429 that is really about the bill would be repeated if only its status were read."""
    bill = b'{"error": {"message": "Your credits are used up.", "type": "billing_error", "param": null, "code": null}}'
    run.server.script("POST /v1/chat/completions", Answer(503))
    async with run.client() as http:
        await run.ask(http.post("/v1/chat/completions", json=CHAT))
        run.server.script("POST /v1/chat/completions", Answer(429, body=bill))
        await run.ask(http.post("/v1/chat/completions", json=CHAT))
    run.expect("what decided", "callmissed: kind billing_error", run.told("call.failed_fast", "rule"))


@scenario(
    "anthropic",
    "Anthropic's envelope",
    "x-api-key will do; errors have a type alone.",
    Documented(got="200, 401 authentication_error", served="503, 200, 401", attempts=3, waits=1, effects={"completion.made": 1}),
)
async def anthropic(run: Run) -> None:
    """No code anywhere; a 401 that no token source can cure fails fast."""
    key = run.server.api_key()
    async with run.client(headers={"x-api-key": key}) as http:
        run.server.script("POST /v1/messages", Answer(503))
        await run.ask(http.post("/v1/messages", json={**CHAT, "max_tokens": 100}))
        run.server.revoke(key)
        await run.ask(http.post("/v1/messages", json={**CHAT, "max_tokens": 100}))


@scenario(
    "gzip",
    "A gzipped error envelope",
    "The code decides, compressed or not: invalid_api_key is not refreshed.",
    Documented(got="401 invalid_api_key", served="401"),
)
async def gzip(run: Run) -> None:
    """A client that read no code here would take the 401 for an expired token, and refresh."""
    run.server.script(f"GET {BOTS}", Answer(401, "invalid_api_key", encoding="gzip"))
    async with run.client(run.session_engine(run.server.sign_in())) as http:
        await run.ask(http.get(BOTS))


# Credentials.


@scenario(
    "expired-token",
    "100 calls, one expired token",
    "401 token_expired: refresh, then repeat.  Refreshing is limited to 5 a minute: one has to do for all.",
    Documented(got="200 x100", served="401 x100, 200 x100", attempts=200, refreshes=1),
    settings=Settings(address_limit=1_000),
    crowd=True,
)
async def expired_token(run: Run) -> None:
    """A hundred tasks meet the same 401."""
    engine = run.session_engine(run.server.sign_in())
    run.server.expire_tokens()
    async with run.client(engine) as http, anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(run.ask, http.get(BOTS))
    tokens = (await run.counts()).by_credential
    run.expect("requests with the old and the new token", [100, 100], sorted(number for token, number in tokens.items() if token))


@scenario(
    "still-expired",
    "A 401 that stays",
    "Refresh once, then the 401 is final.",
    Documented(got="401 token_expired", served="401, 401", attempts=2, refreshes=1),
)
async def still_expired(run: Run) -> None:
    """No circle of refresh and repeat."""
    run.server.script(f"GET {BOTS}", Answer(401, "token_expired"), times=None)
    async with run.client(run.session_engine(run.server.sign_in())) as http:
        await run.ask(http.get(BOTS))


@scenario(
    "refresh-refused",
    "A refresh that is refused",
    "Refreshing is limited: one failure reaches everyone who waits, and nobody tries again for a while.",
    Documented(got="RefreshFailed x20", served="401 x20", attempts=20),
    crowd=True,
)
async def refresh_refused(run: Run) -> None:
    """The refresh endpoint is over its limit, as it would be after five others."""
    engine = run.session_engine(run.server.sign_in())
    run.server.expire_tokens()
    run.server.script("POST /api/v1/auth/refresh", Answer(429, headers={"Retry-After": "30"}))
    async with run.client(engine) as http, anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(run.ask, http.get(BOTS))
    run.expect("requests to refresh", 1, len((await run.counts()).of("POST /api/v1/auth/refresh")))


@scenario(
    "same-origin",
    "A redirect to the same origin",
    "307: the same call goes on, with key and token.",
    Documented(got="201", served="307, 201", effects={"call.placed": 1}),
)
async def same_origin(run: Run) -> None:
    """Both requests carry the same key and the same token."""
    run.server.script(f"POST {CALLS}", Redirect("same"))
    async with run.client(run.session_engine(run.server.sign_in())) as http:
        await run.ask(http.post(CALLS, json=CALL))
    first, second = (await run.counts()).seen
    run.expect("the key is sent, and the same", (True, True), (first.key is not None, first.key == second.key))
    run.expect("the token is sent, and the same", (True, True), (first.credential is not None, first.credential == second.credential))


@scenario(
    "other-origin",
    "A redirect to another origin",
    "Neither key nor token goes to anybody else.",
    Documented(got="200", served="307"),
)
async def other_origin(run: Run) -> None:
    """The other origin would take anything."""
    run.server.script(f"POST {CALLS}", Redirect("other"))
    async with run.client(run.session_engine(run.server.sign_in())) as http:
        await run.ask(http.post(CALLS, json=CALL))
    counts = await run.counts()
    run.expect("what the other origin saw", [(None, None)], [(seen.key, seen.credential) for seen in counts.elsewhere])
    run.expect("what ours saw", [(True, True)], [(seen.key is not None, seen.credential is not None) for seen in counts.seen])


# Side effects.


@scenario(
    "lost-answer",
    "A POST whose answer is lost",
    "The same Idempotency-Key on every attempt: the action runs once, the repeat gets the stored result.",
    Documented(got="201", served="no answer, 201", attempts=2, waits=1, effects={"call.placed": 1}, replays=1),
)
async def lost_answer(run: Run) -> None:
    """The call was placed before the connection broke."""
    run.server.script(f"POST {CALLS}", Reset("after"))
    async with run.client() as http:
        await run.ask(http.post(CALLS, json=CALL))
    run.expect("keys seen, and requests with each", [2], list((await run.counts()).by_key.values()))


@scenario(
    "late-answer",
    "A POST answered too late",
    "Cut off and repeated with the same key: still one action.",
    Documented(got="201", served="201, 201", attempts=2, waits=1, effects={"call.placed": 1}, replays=1),
)
async def late_answer(run: Run) -> None:
    """The work takes longer than an attempt may."""
    run.server.script(f"POST {CALLS}", Late(0.7, when="before"))
    async with run.client(run.engine(IdempotencyKey(), Retry(backoff=Constant(0.3)), AttemptTimeout(0.5))) as http:
        await run.ask(http.post(CALLS, json=CALL))


@scenario(
    "no-key",
    "The same POST without a key",
    "Nobody knows whether the work was done: it is sent once and not repeated.",
    Documented(got="ReadError", served="no answer", effects={"call.placed": 1}),
)
async def no_key(run: Run) -> None:
    """An engine without IdempotencyKey."""
    run.server.script(f"POST {CALLS}", Reset("after"))
    async with run.client(run.engine(Retry(attempts=4))) as http:
        await run.ask(http.post(CALLS, json=CALL))
    run.expect("why it gave up", "unsafe", run.told("retry.gave_up", "reason"))


# Time.


@scenario(
    "deadline",
    "A deadline for the whole call",
    "The call ends when its time is up, in the middle of an attempt if need be.",
    Documented(got="DeadlineExceeded", served="503, no answer", attempts=2, waits=1),
)
async def deadline(run: Run) -> None:
    """The repeat hangs; 0.8 seconds are 0.8 seconds."""
    run.server.script(f"GET {BOTS}", Answer(503), Hang())
    async with run.client(run.engine(Deadline(0.8), Retry())) as http:
        began = anyio.current_time()
        await run.ask(http.get(BOTS))
        took = anyio.current_time() - began
    run.expect("it took 0.8 seconds", True, 0.79 <= took < 1.6)


@scenario(
    "no-time-left",
    "A wait beyond the deadline",
    "A repeat that does not fit is not slept for: the caller gets the last failure at once.",
    Documented(got="429 rate_limit_exceeded", served="429"),
)
async def no_time_left(run: Run) -> None:
    """Ten seconds asked for, five left."""
    run.server.script(f"GET {BOTS}", Answer(429, headers={"Retry-After": "10"}))
    async with run.client(run.engine(Deadline(5), Retry())) as http:
        await run.ask(http.get(BOTS))
    run.expect("why it gave up", "deadline", run.told("retry.gave_up", "reason"))


@scenario(
    "slow-stream",
    "A stream that drips",
    "A streamed body goes on being bounded by the call's deadline.",
    Documented(got="200, DeadlineExceeded", served="200"),
)
async def slow_stream(run: Run) -> None:
    """The headers come at once, the body at two bytes a second."""
    run.server.script(f"GET {BOTS}", Drip(0.5))
    async with run.client(run.engine(Deadline(0.8), Retry())) as http, http.stream("GET", BOTS) as answer:
        run.got(str(answer.status_code))
        await run.ask(_rest(answer))


async def _rest(answer: httpx2.Response) -> httpx2.Response:
    """*answer*, once its body has come."""
    await answer.aread()
    return answer


@scenario(
    "cancelled",
    "The caller changes its mind",
    "A caller's cancellation ends the call at once, and nothing is repeated.",
    Documented(got="cancelled", served="no answer"),
)
async def cancelled(run: Run) -> None:
    """An outer scope of the caller's own, over a request that hangs."""
    run.server.script(f"GET {BOTS}", Hang())
    async with run.client() as http:
        with anyio.move_on_after(0.4) as scope:
            await run.ask(http.get(BOTS))
        if scope.cancelled_caught:
            run.got("cancelled")
    run.expect("decisions", [], [event.name for event in run.events])


# A peer that is down for longer.


@scenario(
    "nested",
    "An engine inside an engine",
    "They share one allowance: three attempts by three make three, not nine.",
    Documented(got="503 provider_error", served="503, 503, 503", attempts=4, waits=2),
)
async def nested(run: Run) -> None:
    """A decorated function whose client carries an engine; the outer engine's one attempt counts as well."""
    run.server.script(f"GET {BOTS}", Answer(503), times=None)
    async with run.client(run.engine(Retry(attempts=3))) as http:

        @run.engine(Retry(attempts=3))
        async def list_bots() -> httpx2.Response:
            return await http.get(BOTS)

        await run.ask(list_bots())


@scenario(
    "breaker",
    "A circuit opens and closes",
    "Three failures in a row open it; nothing is sent while it is open; one probe finds out when it is over.",
    Documented(got="503 provider_error, CircuitOpen, 200", served="503, 503, 503, 200", attempts=4, waits=2),
)
async def breaker(run: Run) -> None:
    """The breaker stands inside Retry, and sees every attempt."""
    circuit = CircuitBreaker(consecutive=3, failure_ratio=1, cooldown=0.5)
    run.server.script(f"GET {BOTS}", Answer(503), times=3)
    async with run.client(run.engine(Retry(attempts=4), circuit)) as http:
        await run.ask(http.get(BOTS))
        await run.ask(http.get(BOTS))
        await anyio.sleep(0.5)
        await run.ask(http.get(BOTS))
    told = [event.name.removeprefix("breaker.") for event in run.events if event.name.startswith("breaker.")]
    run.expect("what the breaker told", ["opened", "rejected", "half_opened", "closed"], told)


SCENARIOS: tuple[Scenario, ...] = tuple(_scenarios)
"""The whole tour, in order."""
