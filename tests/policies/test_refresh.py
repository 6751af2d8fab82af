"""One refresh for everyone, detached from whoever asked first."""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
import traceback
from collections.abc import Callable
from typing import Any

import anyio
import attrs
import pytest

from resilience import (
    AttemptTimedOut,
    AttemptTimeout,
    CircuitBreaker,
    Deadline,
    DeadlineExceeded,
    Engine,
    Exponential,
    RefreshFailed,
    RefreshToken,
    Retry,
    Token,
    current,
    history,
)
from resilience.dialects import callmissed
from resilience.env import Env
from resilience.events import CallFailedFast, RetryGaveUp, TokenJoined, TokenRefreshed, TokenRefreshFailed
from resilience.testing import World, script

pytestmark = pytest.mark.anyio


@attrs.frozen
class Response:
    """What a client might return."""

    status_code: int
    headers: dict[str, str] = attrs.field(factory=dict)
    content: bytes = b""


EXPIRED = Response(401, content=b'{"error": {"code": "token_expired", "message": "gone", "type": "auth_error"}}')


class Api:
    """A service with rotating tokens: it knows one valid token, and counts what it is asked."""

    def __init__(self, world: World, *, valid: str = "new-1", lasts: float = 0.1) -> None:
        self.world = world
        self.valid = valid
        self.lasts = lasts
        self.requests = 0
        self.logins: list[str | None] = []
        self.seen: list[str | None] = []

    async def bots(self) -> object:
        self.requests += 1
        token = current().token
        self.seen.append(token)
        await self.world.sleep(self.lasts)
        return "bots" if token == self.valid else EXPIRED

    async def login(self, stale: str | None) -> str:
        self.logins.append(stale)
        await self.world.sleep(1)
        return f"new-{len(self.logins)}"


def engine(world: World, login: Any, *more: Any, token: str | Token | None = "old", **settings: Any) -> Engine:
    return Engine([RefreshToken(login, token=token, **settings), *more], rules=callmissed.RULES, env=world.env)


async def test_a_hundred_calls_with_one_expired_token_make_one_refresh_and_two_hundred_requests(world: World) -> None:
    """D5."""
    api = Api(world)
    e = engine(world, api.login)
    got: list[object] = []

    async def one() -> None:
        got.append(await e.call(api.bots))

    async with anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(one)

    assert ["bots"] * 100 == got
    assert ["old"] == api.logins
    assert 200 == api.requests
    assert 1 == len(world.told(TokenRefreshed))
    assert 99 == len(world.told(TokenJoined))


async def test_a_late_refusal_of_the_old_token_takes_over_the_new_one_without_a_refresh(world: World) -> None:
    """D5."""
    api = Api(world)
    e = engine(world, api.login)

    async with anyio.create_task_group() as tasks:

        async def slow() -> None:
            lasts = 0

            async def bots() -> object:
                nonlocal lasts
                lasts += 1
                token = current().token
                await world.sleep(5 if lasts == 1 else 0)
                return "bots" if token == api.valid else EXPIRED

            assert "bots" == await e.call(bots)

        tasks.start_soon(slow)
        tasks.start_soon(e.call, api.bots)

    assert ["old"] == api.logins


async def test_a_peer_that_always_refuses_sees_two_requests_and_one_refresh(world: World) -> None:
    """D6, B45."""
    api = Api(world, valid="never")
    e = engine(world, api.login)

    assert EXPIRED == await e.call(api.bots)
    assert 2 == api.requests
    assert ["old"] == api.logins
    assert ["call.failed_fast"] == world.names("call.")


async def test_a_token_that_never_worked_is_not_renewed_again_at_once(world: World) -> None:
    """D6: calls that go on failing must not hammer an endpoint limited to five a minute."""
    api = Api(world, valid="never")
    e = engine(world, api.login)

    for _ in range(10):
        assert EXPIRED == await e.call(api.bots)

    assert ["old"] == api.logins


async def test_no_more_than_four_refreshes_happen_in_a_minute_whatever_expires(world: World) -> None:
    """An endpoint that allows five a minute is never hammered, though the token works for another endpoint each time."""
    api = Api(world)
    e = engine(world, api.login)

    for _ in range(20):
        api.valid = f"new-{len(api.logins) or 1}"
        await e.call(api.bots)
        await e.call(lambda: _returning(EXPIRED))

    assert len(api.logins) <= 4


async def _returning(value: object) -> object:
    await anyio.lowlevel.checkpoint()
    return value


async def test_after_the_refresh_a_transient_failure_still_goes_with_the_new_token(world: World) -> None:
    """D6, B46: 401, refresh, 503, 200: the second and third attempt carry the new token."""
    answers = [EXPIRED, Response(503), "bots"]
    seen: list[str | None] = []

    async def bots() -> object:
        seen.append(current().token)
        return answers[len(seen) - 1]

    api = Api(world)
    e = engine(world, api.login, Retry(attempts=3))

    assert "bots" == await e.call(bots)
    assert ["old", "new-1", "new-1"] == seen


async def test_a_refresh_costs_no_attempt(world: World) -> None:
    """503, 401, 503, 200 under attempts=3: three tries that count."""
    answers = [Response(503), EXPIRED, Response(503), "bots"]
    tried = 0

    async def bots() -> object:
        nonlocal tried
        tried += 1
        return answers[tried - 1]

    api = Api(world)
    e = engine(world, api.login, Retry(attempts=3))

    assert "bots" == await e.call(bots)
    assert 4 == tried


async def test_attempts_before_a_refresh_still_count_after_it(world: World) -> None:
    """503, 503, 401, 503 under attempts=3: the last one is the third that counts."""
    answers = [Response(503), Response(503), EXPIRED, Response(503), "too late"]
    tried = 0

    async def bots() -> object:
        nonlocal tried
        tried += 1
        return answers[tried - 1]

    api = Api(world)
    e = engine(world, api.login, Retry(attempts=3))

    assert Response(503) == await e.call(bots)
    assert 4 == tried


@pytest.mark.parametrize("how", ["scope", "native"])
async def test_a_cancelled_leader_costs_nobody_their_session(world: World, how: str, anyio_backend_name: str) -> None:
    """D5, B41: cancelled after the server has rotated, 99 of 99 others succeed."""
    if how == "native" and anyio_backend_name == "trio":
        how = "scope"  # trio has no other way
    api = Api(world)
    e = engine(world, api.login)
    got: list[object] = []

    async def one() -> None:
        got.append(await e.call(api.bots))

    async def cut_short() -> None:
        with anyio.CancelScope() as scope:
            world.at(0.6, scope.cancel)
            await one()
        assert scope.cancelled_caught
        assert 0.6 == world.now

    async with anyio.create_task_group() as tasks:
        if how == "scope":
            tasks.start_soon(cut_short)
        else:
            leader = asyncio.ensure_future(one())
            world.at(0.6, leader.cancel)
        for _ in range(99):
            tasks.start_soon(one)

    assert ["bots"] * 99 == got
    assert ["old"] == api.logins


async def test_each_waiter_cancelled_in_turn_leaves_the_rest_alone(world: World) -> None:
    """B41."""
    for cancelled in range(5):
        api = Api(world)
        e = engine(world, api.login)
        got: list[int] = []

        async def one(number: int, api: Api = api, e: Engine = e, got: list[int] = got, cancelled: int = cancelled) -> None:
            with anyio.CancelScope() as scope:
                if number == cancelled:
                    world.at(world.now + 0.5, scope.cancel)
                await e.call(api.bots)
                got.append(number)

        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(one, number)

        assert sorted(set(range(5)) - {cancelled}) == sorted(got)
        assert 1 == len(api.logins)


async def test_a_failed_refresh_reaches_every_waiter_once_each_with_its_cause(world: World) -> None:
    """D5."""

    async def login(stale: str | None) -> str:
        await world.sleep(1)
        raise ConnectionError("login is down")

    api = Api(world)
    e = engine(world, login)
    errors: list[RefreshFailed] = []

    async def one() -> None:
        with pytest.raises(RefreshFailed) as caught:
            await e.call(api.bots)
        errors.append(caught.value)

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(one)

    assert 10 == len({id(error) for error in errors})
    assert {"failed"} == {error.reason for error in errors}
    assert 1 == len({id(error.__cause__) for error in errors})
    assert isinstance(errors[0].__cause__, ConnectionError)
    assert 1 == len(world.told(TokenRefreshFailed))
    assert 401 == history(errors[0])[0].status


async def test_after_a_failed_refresh_nobody_asks_again_until_it_has_cooled_down(world: World) -> None:
    logins = 0

    async def login(stale: str | None) -> str:
        nonlocal logins
        logins += 1
        if logins == 1:
            raise ConnectionError
        return "new-1"

    api = Api(world)
    e = engine(world, login, cooldown=15)

    for _ in range(5):
        with pytest.raises(RefreshFailed):
            await e.call(api.bots)
    assert 1 == logins

    await world.sleep(15)
    assert "bots" == await e.call(api.bots)
    assert 2 == logins


async def test_the_refusal_while_cooling_down_says_for_how_long_and_why(world: World) -> None:
    async def login(stale: str | None) -> str:
        raise PermissionError("no")

    api = Api(world)
    e = engine(world, login, cooldown=15)
    with pytest.raises(RefreshFailed):
        await e.call(api.bots)
    await world.sleep(5 - api.lasts)
    with pytest.raises(RefreshFailed) as caught:
        await e.call(api.bots)

    assert "cooling_down" == caught.value.reason
    assert 10 == pytest.approx(caught.value.retry_after)
    assert "PermissionError" == caught.value.detail
    assert caught.value.__cause__ is None


async def test_a_login_that_asks_for_more_patience_gets_it(world: World) -> None:
    @attrs.define
    class TooManyLogins(Exception):
        status_code: int = 429
        headers: dict[str, str] = attrs.field(factory=lambda: {"Retry-After": "40"})

    async def login(stale: str | None) -> str:
        raise TooManyLogins

    api = Api(world)
    e = engine(world, login)
    with pytest.raises(RefreshFailed) as caught:
        await e.call(api.bots)

    assert 40 == caught.value.retry_after
    assert 429 == caught.value.status


async def test_a_login_that_hangs_is_cut_after_its_own_timeout(world: World) -> None:
    async def login(stale: str | None) -> str:
        await world.sleep(1000)
        return "never"

    api = Api(world, lasts=0)
    e = engine(world, login, timeout=7)
    with pytest.raises(RefreshFailed) as caught:
        await e.call(api.bots)

    assert "timeout" == caught.value.reason
    assert 7 == world.now


async def test_a_waiter_waits_no_longer_than_its_own_deadline(world: World) -> None:
    async def login(stale: str | None) -> str:
        await world.sleep(20)
        return "new-1"

    api = Api(world, lasts=0)
    e = Engine([Deadline(3), RefreshToken(login, token="old")], rules=callmissed.RULES, env=world.env)
    with pytest.raises(DeadlineExceeded) as caught:
        await e.call(api.bots)

    assert 3 == world.now
    assert 401 == caught.value.status

    await world.sleep(18)  # the refresh went on without its leader
    assert "bots" == await e.call(api.bots)


async def test_without_a_token_the_first_call_logs_in_and_the_others_join(world: World) -> None:
    api = Api(world)
    e = engine(world, api.login, token=None)

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(e.call, api.bots)

    assert [None] == api.logins
    assert 10 == api.requests


async def test_a_first_token_out_of_a_cache_may_be_stale_and_is_renewed(world: World) -> None:
    async def login(stale: str | None) -> str:
        return "cached" if stale is None else "new-1"

    api = Api(world)

    assert "bots" == await engine(world, login, token=None).call(api.bots)
    assert ["cached", "new-1"] == api.seen


async def test_a_token_is_renewed_ahead_of_its_expiry_while_the_old_one_still_serves(world: World) -> None:
    logins = 0

    async def login(stale: str | None) -> Token:
        nonlocal logins
        logins += 1
        await world.sleep(1)
        return Token(f"new-{logins}", expires_in=3600)

    seen: list[str | None] = []

    async def bots() -> str:
        seen.append(current().token)
        return "bots"

    e = engine(world, login, token=Token("old", expires_in=200), early=60)
    await e.call(bots)
    await world.sleep(139)
    await e.call(bots)
    assert 0 == logins

    await world.sleep(2)
    await e.call(bots)  # 59 s before the expiry: renewed in the background
    assert ["old", "old", "old"] == seen
    assert 141 == world.now

    await world.sleep(2)
    await e.call(bots)
    assert "new-1" == seen[-1]
    assert 1 == logins


async def test_a_token_known_to_have_expired_is_not_sent(world: World) -> None:
    api = Api(world)
    e = engine(world, api.login, token=Token("old", expires_in=100))
    await e.call(lambda: _returning("ok"))
    await world.sleep(200)

    assert "bots" == await e.call(api.bots)
    assert ["new-1"] == api.seen


async def test_what_the_source_itself_calls_never_passes_through_the_policy(world: World) -> None:
    """B45: a login through the engine that it renews the token for, refused like everything else, ends."""
    sent: list[str | None] = []

    async def ask() -> object:
        sent.append(current().token)
        return EXPIRED

    async def login(stale: str | None) -> str:
        answer = await e.call(ask)
        assert EXPIRED is answer
        raise PermissionError("refused")

    e = engine(world, login)
    with pytest.raises(RefreshFailed):
        await e.call(ask)

    assert ["old", None] == sent


async def test_a_login_runs_as_nobodys_attempt(world: World) -> None:
    """The deadline of whoever asked first must not cut the refresh that everyone waits for."""
    inside: list[bool] = []

    async def login(stale: str | None) -> str:
        try:
            current()
        except LookupError:
            inside.append(False)
        return "new-1"

    api = Api(world)
    await engine(world, login).call(api.bots)

    assert [False] == inside


async def test_a_login_may_be_a_plain_function(world: World) -> None:
    """D22."""
    api = Api(world)

    assert "bots" == await engine(world, lambda stale: "new-1").call(api.bots)


async def test_a_login_that_returns_no_token_says_so(world: World) -> None:
    api = Api(world)
    with pytest.raises(RefreshFailed) as caught:
        await engine(world, lambda stale: None).call(api.bots)

    assert "the token source returned NoneType; expected a str or a Token" == str(caught.value.__cause__)


@pytest.mark.parametrize("unsendable", ["s3cret\n", " s3cret", "s3cr\u00e9t", "s3cret\r\nx-evil: 1", "s3cret\x00"])
async def test_a_token_that_no_header_can_carry_is_refused_before_a_client_shows_it(world: World, unsendable: str) -> None:
    """D17: clients quote the header that they refuse to send, and a token read from a file often ends in a line break."""
    api = Api(world)
    with pytest.raises(RefreshFailed) as caught:
        await engine(world, lambda stale: unsendable).call(api.bots)

    assert "Token.value: expected printable ASCII without spaces around it, got other characters" == str(caught.value.__cause__)
    assert "s3cr" not in "".join(traceback.format_exception(caught.value))
    assert 1 == api.requests


async def test_late_news_of_a_lost_flight_does_not_replace_a_newer_token(world: World) -> None:
    """B42."""
    logins = 0

    async def login(stale: str | None) -> str:
        nonlocal logins
        logins += 1
        mine = logins
        with anyio.CancelScope(shield=True):  # deaf to its own timeout
            await world.sleep(20 if mine == 1 else 1)
        return f"new-{mine}"

    api = Api(world, valid="new-2", lasts=0)
    e = engine(world, login, timeout=5)
    assert "bots" == await e.call(api.bots)  # waits for the lease, then leads the second flight
    await world.sleep(30)

    assert "bots" == await e.call(api.bots)
    assert "new-2" == api.seen[-1]


async def test_a_token_that_was_taken_but_whose_request_was_not_has_worked(world: World) -> None:
    """D6: a 404 says that the token was fine."""
    api = Api(world, lasts=0)
    e = engine(world, api.login)
    answers = script(EXPIRED, Response(404), EXPIRED, "ok")

    assert Response(404) == await e.call(answers)
    assert "ok" == await e.call(answers)
    assert 2 == len(api.logins)


async def test_a_circuit_that_opened_during_the_refresh_does_not_hide_the_401(world: World) -> None:
    """A rejection never hides the failure that led there."""
    breaker = CircuitBreaker()

    async def login(stale: str | None) -> str:
        breaker.isolate()
        return "new-1"

    api = Api(world)
    e = engine(world, login, breaker)

    assert EXPIRED == await e.call(api.bots)
    assert 1 == api.requests
    assert ["rejected"] == [event.reason for event in world.told(RetryGaveUp)]


async def test_two_engines_with_one_refresh_policy_share_the_token(world: World) -> None:
    api = Api(world)
    shared = RefreshToken(api.login, token="old")
    first = Engine([shared], rules=callmissed.RULES, env=world.env)
    second = Engine([shared], rules=callmissed.RULES, env=world.env)

    assert ["bots", "bots"] == [await first.call(api.bots), await second.call(api.bots)]
    assert ["old"] == api.logins


async def test_two_policies_that_look_the_same_share_nothing(world: World) -> None:
    api = Api(world)
    await engine(world, api.login).call(api.bots)
    api.valid = "new-2"
    await engine(world, api.login).call(api.bots)

    assert ["old", "old"] == api.logins


async def test_nested_engines_with_one_credential_have_one_refresh_between_them(world: World) -> None:
    """D9."""
    api = Api(world, valid="never")
    shared = RefreshToken(api.login, token="old")
    inner = Engine([shared], rules=callmissed.RULES, env=world.env, name="inner")
    outer = Engine([shared], rules=callmissed.RULES, env=world.env, name="outer")

    async def ask() -> object:
        return await inner.call(api.bots)

    assert EXPIRED == await outer.call(ask)
    assert 1 == len(api.logins)
    assert 2 == api.requests


async def test_a_refused_attempt_that_did_something_else_inside_is_not_repeated(world: World) -> None:
    """D4: a POST inside has already been made when the 401 comes."""
    api = Api(world)
    posts = 0
    inner = Engine(rules=callmissed.RULES, env=world.env, name="inner")

    async def post() -> str:
        nonlocal posts
        posts += 1
        return "made"

    async def both() -> object:
        await inner.using(method="POST").call(post)
        return await api.bots()

    assert EXPIRED == await engine(world, api.login).call(both)
    assert 1 == posts
    assert ["unsafe"] == [event.reason for event in world.events if event.name == "retry.gave_up"]  # type: ignore[attr-defined]


@attrs.define(slots=False)
class Request:
    method: str
    url: str = "https://api.example/calls"


@attrs.define(slots=False)
class Held:
    """A response that holds a connection until it is closed, and knows its request."""

    status_code: int
    world: World
    request: Request
    headers: dict[str, str] = attrs.field(factory=dict)
    history: list[Held] = attrs.field(factory=list["Held"])
    closing: float = 0.0
    heedless: bool = False
    closed: bool = False

    async def aclose(self) -> None:
        try:
            await self.world.sleep(self.closing)
        except asyncio.CancelledError:
            if not self.heedless:
                raise
        self.closed = True


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("heedless", [False, True])
async def test_a_leader_cancelled_while_it_lets_go_of_the_401_keeps_nobody_waiting(world: World, heedless: bool) -> None:
    """D1, D5: natively, for which shields are no obstacle; and the response may make nothing of it."""
    api = Api(world, lasts=0)
    refused: list[Held] = []

    async def bots() -> object:
        if await api.bots() == "bots":
            return "bots"
        refused.append(Held(401, world, Request("GET"), closing=0.5, heedless=heedless))
        return refused[-1]

    e = engine(world, api.login)
    leader = asyncio.ensure_future(e.call(bots))
    world.at(0.1, leader.cancel)
    ended = await asyncio.gather(leader, return_exceptions=True)

    assert isinstance(ended[0], Held if heedless else asyncio.CancelledError)
    assert 1 == api.requests  # a task that is to end begins no attempt

    assert "bots" == await e.call(bots)
    assert ["old"] == api.logins
    assert 1 == world.now  # that is all a login takes


async def test_a_refusal_after_a_redirect_does_not_repeat_the_request_before_it(world: World) -> None:
    """D4: a 303 may answer a POST that was carried out; the 401 of the GET that follows says nothing about it."""
    api = Api(world, lasts=0)
    sent: list[str | None] = []

    async def pay() -> object:
        sent.append(current().token)
        return Held(401, world, Request("GET"), history=[Held(303, world, Request("POST"))])

    e = engine(world, api.login)
    response = await e.call(pay)

    assert 401 == getattr(response, "status_code", None)
    assert ["old"] == sent
    assert ["unsafe"] == [event.reason for event in world.told(RetryGaveUp)]

    await e.call(pay)
    assert ["old", "new-1"] == sent  # the next call is not left with the old token


async def test_what_the_401_said_of_its_request_is_still_known_when_the_repeat_is_cut(world: World) -> None:
    """D4: an attempt that is cut cannot tell that it was a POST."""
    api = Api(world, lasts=0)
    sent: list[str | None] = []

    async def pay() -> object:
        sent.append(current().token)
        if current().token == "old":
            return Held(401, world, Request("POST"))
        await world.sleep(60)
        return "paid"

    with pytest.raises(AttemptTimedOut):
        await engine(world, api.login, Retry(), AttemptTimeout(10)).call(pay)

    assert ["old", "new-1"] == sent
    assert ["unsafe"] == [event.reason for event in world.told(RetryGaveUp)]


async def test_a_response_that_gives_way_to_a_failed_refresh_is_let_go_of(world: World) -> None:
    """D29: also while the refresh cools down, and nothing is waited for."""
    refused: list[Held] = []

    async def login(stale: str | None) -> str:
        raise ConnectionError

    async def bots() -> object:
        refused.append(Held(401, world, Request("GET")))
        return refused[-1]

    e = engine(world, login)
    for _ in range(2):
        with pytest.raises(RefreshFailed):
            await e.call(bots)

    assert [True, True] == [response.closed for response in refused]


def test_a_deadline_that_does_not_bound_the_first_login_is_doubtful() -> None:
    with pytest.warns(UserWarning, match="Deadline inside RefreshToken"):
        Engine([RefreshToken(_never), Deadline(3)])


async def test_a_401_without_a_token_source_fails_fast(world: World) -> None:
    e = Engine([Retry()], rules=callmissed.RULES, env=world.env)

    assert EXPIRED == await e.call(lambda: _returning(EXPIRED))
    assert ["token_expired"] == [event.code for event in world.told(CallFailedFast)]


async def test_all_waiters_cancelled_and_the_refresh_failed_leaves_no_stray_complaint(
    world: World, anyio_backend_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """B44."""

    async def login(stale: str | None) -> str:
        await world.sleep(5)
        raise ConnectionError

    api = Api(world, lasts=0)
    e = engine(world, login)
    with anyio.CancelScope() as scope:
        world.at(2, scope.cancel)
        await e.call(api.bots)
    await world.sleep(10)
    gc.collect()

    assert [] == caplog.records
    assert ["token.refresh_failed"] == world.names("token.")


@pytest.mark.parametrize("backends", [("asyncio",) * 8, ("asyncio", "trio") * 4])
def test_eight_threads_with_loops_of_their_own_make_one_refresh(backends: tuple[str, ...]) -> None:
    """D26, B43."""
    logins: list[str | None] = []
    inside = threading.Barrier(len(backends))
    got: list[object] = []

    async def login(stale: str | None) -> str:
        logins.append(stale)
        await anyio.sleep(0.03)  # the others must have time to come, in real threads
        return "new"

    async def bots() -> object:
        return "bots" if current().token == "new" else EXPIRED

    e = Engine(
        [RefreshToken(login, token="old"), Retry(backoff=Exponential(0.001))], rules=callmissed.RULES, env=attrs.evolve(Env(), emit=_deaf)
    )

    async def main() -> None:
        await anyio.to_thread.run_sync(inside.wait)
        async with anyio.create_task_group() as tasks:

            async def one() -> None:
                got.append(await e.call(bots))

            for _ in range(10):
                tasks.start_soon(one)

    _in_threads([functools.partial(anyio.run, main, backend=backend) for backend in backends])

    assert ["bots"] * 80 == got
    assert ["old"] == logins


def _deaf(event: object) -> None:
    """Takes events and says nothing."""


def _in_threads(jobs: list[Callable[[], object]]) -> None:
    failed: list[BaseException] = []

    def run(job: Callable[[], object]) -> None:
        try:
            job()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == failed


def test_one_engine_serves_two_loops_in_turn_with_a_refresh_in_each() -> None:
    """D26, B43."""
    valid = "new-1"
    logins = 0

    async def login(stale: str | None) -> str:
        nonlocal logins
        logins += 1
        await anyio.lowlevel.checkpoint()
        return f"new-{logins}"

    async def bots() -> object:
        return "bots" if current().token == valid else EXPIRED

    e = Engine([RefreshToken(login, token="old")], rules=callmissed.RULES, env=attrs.evolve(Env(), emit=_deaf))

    async def main() -> list[object]:
        got: list[object] = []

        async def one() -> None:
            got.append(await e.call(bots))

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(one)
        return got

    assert ["bots"] * 10 == anyio.run(main)
    valid = "new-2"
    assert ["bots"] * 10 == anyio.run(main)
    assert 2 == logins


def test_a_refresh_whose_loop_ends_counts_as_failed_not_as_free() -> None:
    """The server may have rotated all the same; whoever comes next waits for the cooldown."""
    started = threading.Event()
    logins = 0

    async def login(stale: str | None) -> str:
        nonlocal logins
        logins += 1
        started.set()
        await anyio.sleep(10)
        return "never"

    async def bots() -> object:
        return EXPIRED

    e = Engine([RefreshToken(login, token="old")], rules=callmissed.RULES, env=attrs.evolve(Env(), emit=_deaf))

    async def leaves_early() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(e.call, bots)
            await anyio.to_thread.run_sync(started.wait)
            tasks.cancel_scope.cancel()

    async def comes_later() -> RefreshFailed:
        with pytest.raises(RefreshFailed) as caught:
            await e.call(bots)
        return caught.value

    anyio.run(leaves_early)

    assert "cooling_down" == anyio.run(comes_later).reason
    assert 1 == logins


def test_the_token_shows_in_no_representation() -> None:
    """D17."""
    policy = RefreshToken(_never, token=Token("s3cret", expires_in=60))

    assert "s3cret" not in repr(policy)
    assert "s3cret" not in repr(policy._credential)
    assert "s3cret" not in Engine([policy]).describe()


async def _never(stale: str | None) -> str:
    raise AssertionError


def test_a_token_given_in_place_of_the_source_is_refused_without_being_shown() -> None:
    """D17."""
    with pytest.raises(ValueError) as caught:
        RefreshToken("s3cret")  # type: ignore[arg-type]

    assert str(caught.value).startswith("RefreshToken.source: expected an async function")
    assert str(caught.value).endswith("got <class 'str'>")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RefreshToken(None), "RefreshToken.source: expected an async function"),  # type: ignore[arg-type]
        (lambda: RefreshToken(_never, token=3), "RefreshToken.token: expected a str, a Token or None, got int"),  # type: ignore[arg-type]
        (lambda: RefreshToken(_never, token=""), "Token.value: expected a non-empty str, got str"),
        (lambda: RefreshToken(_never, early=-1), "RefreshToken.early: expected a finite number >= 0, got -1"),
        (lambda: RefreshToken(_never, timeout=0), "RefreshToken.timeout: expected a finite number > 0, got 0"),
        (lambda: RefreshToken(_never, cooldown=float("nan")), "RefreshToken.cooldown: expected a finite number >= 0, got nan"),
        (lambda: RefreshToken(_never, origins=["api.example.com"]), "RefreshToken.origins: expected origins such as"),
        (lambda: Token("t", expires_in=0), "Token.expires_in: expected a number > 0, got 0"),
    ],
)
def test_a_wrong_setting_is_refused_by_name_and_value(build: Callable[[], object], message: str) -> None:
    """D36."""
    with pytest.raises(ValueError) as caught:
        build()

    assert str(caught.value).startswith(message)
