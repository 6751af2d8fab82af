"""Every decision is one event, in one line, wherever the program logs to."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from typing import Any

import anyio
import attrs
import pytest
import structlog

from resilience import (
    CircuitBreaker,
    Deadline,
    Engine,
    Exponential,
    IdempotencyKey,
    RefreshToken,
    Retry,
    current,
    history,
    log,
)
from resilience.dialects import callmissed
from resilience.env import Env
from resilience.events import CallSucceeded, Event, RetryScheduled
from resilience.testing import World, script

pytestmark = pytest.mark.anyio


async def _no_wait(seconds: float) -> None:
    await anyio.lowlevel.checkpoint()


REAL = attrs.evolve(Env(), sleep=_no_wait)  # the process's own log, and no waiting


@pytest.fixture(autouse=True)
def _unconfigured() -> Iterator[None]:
    structlog.reset_defaults()
    log.refresh()
    yield
    structlog.reset_defaults()
    log.refresh()


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What reaches a handler on the root logger, level and message."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


def engine(env: Env = REAL, *policies: Any) -> Engine:
    return Engine([*policies, Retry(attempts=3)], env=env, name="api")


class Busy(Exception):
    status_code = 503
    code = "provider_error"


async def test_a_recovered_call_tells_each_decision_once_in_order(world: World) -> None:
    """D16: the golden list of one scenario, whole."""
    e = Engine([Deadline(30), Retry(attempts=3, backoff=Exponential(1))], rules=callmissed.RULES, env=world.env, name="api")
    assert "ok" == await e.using(operation="list_bots").call(script(Busy(), "ok"))

    common = {"engine": "api", "operation": "list_bots", "call": "00000001"}
    judged = {
        "action": "retry",
        "rule": "callmissed: code provider_error",
        "status": 503,
        "code": "provider_error",
        "error": "Busy",
        "phase": "unknown",
    }
    assert [
        ("attempt.failed", "debug", {**common, "attempt": 1, "elapsed": 0.0, "seconds_left": 30.0, **judged}),
        (
            "retry.scheduled",
            "info",
            {**common, "attempt": 1, "elapsed": 0.0, "seconds_left": 30.0, **judged, "delay": 0.5, "delay_source": "backoff"},
        ),
        ("call.recovered", "info", {**common, "attempt": 2, "elapsed": 0.5, "seconds_left": 29.5}),
    ] == [(event.name, event.level, log.fields(event)) for event in world.events]


@pytest.mark.parametrize(
    ("outcomes", "policies", "names"),
    [
        (["ok"], [], ["call.succeeded"]),
        ([ValueError()], [Retry()], ["attempt.failed", "call.failed_fast"]),
        ([Busy()] * 3, [Retry(attempts=2)], ["attempt.failed", "retry.scheduled", "attempt.failed", "retry.gave_up"]),
        ([Busy()], [], ["attempt.failed", "retry.gave_up"]),
        (
            [Busy()] * 3,
            [Retry(attempts=3), "a breaker"],
            ["attempt.failed", "breaker.opened", "retry.scheduled", "breaker.rejected", "retry.gave_up"],
        ),
    ],
)
async def test_each_scenario_has_its_golden_list(world: World, outcomes: list[Any], policies: list[Any], names: list[str]) -> None:
    """D16."""
    fresh = [CircuitBreaker(minimum=1, failure_ratio=1) if policy == "a breaker" else policy for policy in policies]
    try:
        await Engine(fresh, env=world.env).call(script(*outcomes))
    except Exception as error:
        assert any(error is outcome for outcome in outcomes)  # noqa: PT017 - whichever it is, it is the caller's own

    assert names == world.names()


def test_every_event_has_a_name_of_its_own_and_a_level_that_logging_knows() -> None:
    kinds = _kinds(Event)

    assert len(kinds) == len({kind.name for kind in kinds})
    assert {"debug", "info", "warning"} >= {kind.level for kind in kinds}
    assert {"breaker", "call", "deadline", "engine", "key", "result", "retry", "token", "attempt"} == {
        kind.name.partition(".")[0] for kind in kinds
    }


def _kinds(base: type[Event]) -> list[type[Event]]:
    return [kind for child in base.__subclasses__() for kind in ([child] if "name" in vars(child) else []) + _kinds(child)]


async def test_events_hold_scalars_only(world: World) -> None:
    await engine(world.env).call(script(Busy(), "ok"))

    for event in world.events:
        for value in event.asdict().values():
            assert isinstance(value, str | int | float | bool | None)


async def test_ten_thousand_clean_calls_log_nothing_at_info(lines: io.StringIO) -> None:
    """D16."""
    logging.getLogger().setLevel(logging.INFO)
    e = engine()

    async def fine() -> str:
        return "ok"

    for _ in range(10_000):
        await e.call(fine)

    assert "" == lines.getvalue()


async def test_a_clean_success_is_told_at_debug_even_if_debug_came_later(lines: io.StringIO) -> None:
    """The question is asked again within a second of the calls' own clock."""
    now = 0.0
    e = engine(attrs.evolve(REAL, now=lambda: now))
    await e.call(script("ok"))
    logging.getLogger().setLevel(logging.DEBUG)
    now = 0.5
    await e.call(script("ok"))
    assert "" == lines.getvalue()

    now = 1.5
    await e.call(script("ok"))
    assert "DEBUG resilience event='call.succeeded'" in lines.getvalue()


async def test_without_structlog_configured_events_go_to_the_standard_logger_and_not_to_stdout(
    lines: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    """D16, design-review 11."""
    logging.getLogger().setLevel(logging.INFO)
    await engine().call(script(Busy(), "ok"))

    scheduled, recovered = lines.getvalue().splitlines()
    assert scheduled.startswith("INFO resilience event='retry.scheduled' engine='api' operation='script' call='")
    assert "status=503 code='provider_error'" in scheduled
    assert recovered.startswith("INFO resilience event='call.recovered'")
    assert "" == capsys.readouterr().out


async def test_left_alone_it_is_silent_below_warning(lines: io.StringIO) -> None:
    logging.getLogger().setLevel(logging.WARNING)
    await engine().call(script(Busy(), "ok"))
    assert "" == lines.getvalue()

    with pytest.raises(Busy):
        await engine().call(script(Busy(), Busy(), Busy()))
    assert ["WARNING"] == [line.partition(" ")[0] for line in lines.getvalue().splitlines()]


async def test_with_structlog_configured_events_are_structured() -> None:
    seen = structlog.testing.LogCapture()
    structlog.configure(processors=[seen])
    log.refresh()
    await engine().call(script(Busy(), "ok"))

    scheduled = seen.entries[1]
    assert ("retry.scheduled", "info", 503) == (scheduled["event"], scheduled["log_level"], scheduled["status"])


async def test_structlog_configured_after_the_first_event_is_found_after_a_refresh(lines: io.StringIO) -> None:
    logging.getLogger().setLevel(logging.INFO)
    await engine().call(script(Busy(), "ok"))
    seen = structlog.testing.LogCapture()
    structlog.configure(processors=[seen])
    log.refresh()
    before = lines.getvalue()
    await engine().call(script(Busy(), "ok"))

    assert before == lines.getvalue()
    assert "call.recovered" == seen.entries[-1]["event"]


async def test_structlog_that_takes_no_debug_is_not_asked_for_each_success() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO), processors=[_never])
    log.refresh()
    await engine().call(script("ok"))

    assert log.quiet.until > 0


def _never(logger: object, method: str, said: Any) -> Any:
    raise AssertionError(said)


@pytest.mark.parametrize("configured", [False, True])
async def test_braces_and_percent_signs_stay_as_they_are(lines: io.StringIO, configured: bool) -> None:
    """D16, B63."""
    logging.getLogger().setLevel(logging.INFO)
    if configured:
        structlog.configure(logger_factory=structlog.stdlib.LoggerFactory(), processors=[structlog.processors.KeyValueRenderer()])
        log.refresh()
    odd = "100% {of} %s {} %(name)s"
    await engine().using(operation=odd).call(script(Busy(), "ok"))

    assert 2 == lines.getvalue().count(f"operation={odd!r}")


@pytest.mark.parametrize("configured", [False, True])
async def test_a_broken_log_does_not_break_the_call(configured: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """D22, B52."""

    def broken(*_: Any) -> Any:
        raise OSError("disk full")

    if configured:
        structlog.configure(processors=[broken])
        log.refresh()
        handler = None
    else:
        handler = logging.Handler()
        handler.emit = broken  # type: ignore[method-assign,assignment]
        logging.getLogger("resilience").addHandler(handler)
    try:
        assert "ok" == await engine().call(script(Busy(), "ok"))
        with pytest.raises(Busy):
            await engine().call(script(*[Busy()] * 3))
    finally:
        if handler is not None:
            logging.getLogger("resilience").removeHandler(handler)

    assert "resilience: could not log retry.gave_up" in capsys.readouterr().err


async def test_a_listener_that_raises_changes_nothing_for_the_caller(capsys: pytest.CaptureFixture[str]) -> None:
    """D22, B52."""

    def broken(event: Event) -> None:
        raise ZeroDivisionError(event.name)

    assert "ok" == await engine(attrs.evolve(REAL, emit=broken)).call(script(Busy(), "ok"))
    assert "resilience: could not log retry.scheduled" in capsys.readouterr().err


async def test_a_listener_of_ones_own_hears_clean_successes_too() -> None:
    heard: list[Event] = []
    await engine(attrs.evolve(Env(), emit=heard.append)).call(script("ok"))

    assert [CallSucceeded] == [type(event) for event in heard]


async def test_a_secret_in_arguments_headers_body_or_token_appears_nowhere(world: World) -> None:
    """D17, B61."""
    secret = "s3cret-marker"

    @attrs.frozen
    class Response:
        status_code: int
        headers: dict[str, str]
        content: bytes

    class Refused(Exception):
        def __init__(self, status: int, code: str) -> None:
            super().__init__(f"{secret} in the text")
            self.status_code = status
            self.code = code
            self.headers = {"Authorization": secret, "X-Code": secret}
            self.body = {"error": {"code": code, "message": secret, "param": secret}}

    answers = script(
        Refused(503, "provider_error"),
        Refused(401, "token_expired"),
        Response(503, {"x-secret": secret}, b'{"error": {"code": "provider_error", "message": "%s"}}' % secret.encode()),
        Refused(402, "insufficient_credits"),
    )

    async def pay(card: str, *, pin: str) -> object:
        current().take_key()
        return await answers(card, pin=pin)

    e = Engine(
        [Deadline(60), IdempotencyKey(), RefreshToken(lambda stale: secret, token=secret), Retry(attempts=5), CircuitBreaker()],
        rules=callmissed.RULES,
        env=world.env,
    )
    with pytest.raises(Refused) as caught:
        await e.using(method="POST", key=f"{secret}-key").call(pay, secret, pin=secret)

    assert 4 == answers.calls
    assert {"attempt.failed", "retry.scheduled", "token.refreshed", "key.taken", "call.failed_fast"} == set(world.names())
    assert secret not in repr(world.events)
    assert secret not in repr(history(caught.value))
    assert secret not in e.describe()
    assert secret not in repr(e.policies)


async def test_the_event_of_a_scheduled_retry_says_where_its_delay_is_from(world: World) -> None:
    class Limited(Exception):
        status_code = 429
        headers = {"Retry-After": "7"}  # noqa: RUF012 - a stand-in

    await engine(world.env).call(script(Limited(), "ok"))

    (scheduled,) = world.told(RetryScheduled)
    assert "hint" == scheduled.delay_source
    assert 7 <= scheduled.delay <= 7.7
