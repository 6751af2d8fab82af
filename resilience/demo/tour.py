"""
The tour: a real client against a server that misbehaves, one scenario after another, each held to what the documentation says.

A `Scenario` says what is documented, and what the caller and the server's own counts should show for it; its function only acts.  A `Run`
is one performance of it: it hands out engines and clients whose decisions go to the screen as they are made, and keeps what came of them.
A scenario that does not end as documented is marked, and the tour fails.

The scenarios are in ``tour_scenarios.py``, what one sees of them is made in ``tour_screen.py``.
"""

from __future__ import annotations

import sys
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import anyio
import attrs
import httpx2

from resilience import Call, Engine, Env, Failure, Handler, Policy, RefreshToken, Token, callmissed, errors
from resilience.adapters.httpx2 import ResilientClient
from resilience.demo.ledger import Counts, Seen
from resilience.demo.serve import Server
from resilience.demo.server import Settings
from resilience.demo.tokens import Session
from resilience.events import Event, TokenRefreshed

__all__ = ["Documented", "Play", "Report", "Run", "Scenario", "Watcher", "bearer", "statuses", "take"]

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds that a scenario may take; more is a failure of its own."""


@attrs.frozen(kw_only=True)
class Documented:
    """
    How a scenario should end.

    Args:
        got: What the caller gets, as `Run.ask` puts it: ``"200"``, ``"503 provider_error"``, ``"DeadlineExceeded"``.
        served: What the API answers, auth endpoints left out: ``"503, 200"``; more than six are counted: ``"401 x100, 200 x100"``.
        attempts: Attempts that start; >= 0.
        waits: Waits between attempts; >= 0.
        waited: Seconds that these take, at least and at most.
        refreshes: Refreshes that the engine tells of, and the server counts.
        effects: Actions that really happen, by name.
        replays: Stored results given out again.
    """

    got: str
    served: str
    attempts: int = 1
    waits: int = 0
    waited: tuple[float, float] = (0.0, PATIENCE)
    refreshes: int = 0
    effects: Mapping[str, int] = attrs.field(factory=dict[str, int])
    replays: int = 0


@attrs.frozen(kw_only=True)
class Scenario:
    """
    Something that goes wrong, and what should come of it.

    Args:
        name: What ``--only`` takes.
        title: A few words.
        says: What the documentation says, in a sentence.
        ends: How it should end.
        play: Acts it out.
        settings: How the server is set.
        crowd: Many calls at once: decisions alike are shown once, and counted.
    """

    name: str
    title: str
    says: str
    ends: Documented
    play: Play
    settings: Settings = attrs.field(factory=Settings)
    crowd: bool = False


@attrs.frozen(kw_only=True)
class Report:
    """
    What came of a scenario.

    Args:
        scenario: The scenario.
        attempts: Attempts that started.
        waits: The seconds of each wait between two of them.
        refreshes: Tokens renewed, as the engine told it.
        got: What the caller got.
        requests: Requests that reached the server, auth endpoints left out.
        counted: What it counted of them, in words.
        problems: What is not as documented; empty if all is well.
        seconds: How long it took.
    """

    scenario: Scenario
    attempts: int
    waits: tuple[float, ...]
    refreshes: int
    got: str
    requests: int
    counted: str
    problems: tuple[str, ...]
    seconds: float


class Watcher(Protocol):
    """Whoever watches a scenario being played."""

    def begins(self, scenario: Scenario) -> None:
        """A scenario begins."""
        ...

    def decided(self, event: Event, at: float) -> None:
        """An engine made a decision, *at* so many seconds from the beginning."""
        ...

    def ends(self, report: Report) -> None:
        """A scenario is over."""
        ...


@attrs.frozen(eq=False)
class _Tally:
    """A policy of the tour's own, innermost: it counts the attempts that really start, whatever the events say."""

    run: Run

    def bind(self, inner: Handler[Any], env: Env) -> Handler[Any]:  # noqa: ARG002 - the shape of Policy
        """Count what *inner* starts."""

        async def counting(call: Call[T]) -> T | Failure:
            before = call.attempt
            try:
                return await inner(call)
            finally:
                self.run.attempts += call.attempt - before

        return counting


@attrs.frozen
class Got:
    """What one call came to, for the caller: an answer or an error, and the same in a few words."""

    text: str
    answer: httpx2.Response | None = None
    error: Exception | None = None


class Run:
    """
    One performance of a scenario.

    Args:
        scenario: What is played.
        server: What it is played against.
        watcher: Who sees each decision.

    Attributes:
        attempts: Attempts started so far.
        waits: The seconds of each wait so far.
        events: Every decision so far.
        env: For engines: real time and dice, and every decision to the watcher instead of the log.
    """

    def __init__(self, scenario: Scenario, server: Server, watcher: Watcher) -> None:
        self.scenario = scenario
        self.server = server
        self.attempts = 0
        self.waits: list[float] = []
        self.events: list[Event] = []
        self.env: Env = attrs.evolve(Env(), emit=self._emit, sleep=self._sleep)
        self._watcher = watcher
        self._news = anyio.Event()
        self._began = self.env.now()
        self._got: list[str] = []
        self._problems: list[str] = []

    # What a scenario uses

    def engine(self, *policies: Policy) -> Engine:
        """An engine of these *policies*; without any, the one that is ready made, for a caller with an API key."""
        return Engine([*(policies or callmissed.engine().policies), _Tally(self)], rules=callmissed.RULES, name="callmissed", env=self.env)

    def session_engine(self, session: Session) -> Engine:
        """The engine that is ready made, for a signed-in user whose token expires."""
        return self.engine(*callmissed.engine(self.log_in(session), token=session.access_token).policies)

    def log_in(self, session: Session) -> Callable[[str | None], Awaitable[Token]]:
        """What an application writes to renew its token: exchange the refresh token, keep the next one."""
        newest = session.refresh_token

        async def log_in(_stale: str | None) -> Token:
            nonlocal newest
            async with httpx2.AsyncClient(base_url=self.server.url, verify=False) as plain:
                answer = await plain.post("/api/v1/auth/refresh", json={"refresh_token": newest})
            body = answer.raise_for_status().json()
            newest = body["refresh_token"]
            return Token(body["access_token"], expires_in=body["expires_in"])

        return log_in

    def client(self, engine: Engine | None = None, *, headers: Mapping[str, str] | None = None) -> ResilientClient:
        """
        A client of the server.

        Args:
            engine: Its engine; None for the one that is ready made.
            headers: Its headers; None for an API key that may do anything, unless the engine has tokens.
        """
        if engine is None:
            engine = self.engine()
        if headers is None and not any(isinstance(policy, RefreshToken) for policy in engine.policies):
            headers = bearer(self.server.api_key())
        return ResilientClient(engine, base_url=self.server.url, headers=headers, follow_redirects=True, verify=False)

    async def ask(self, sending: Awaitable[httpx2.Response]) -> Got:
        """What the caller gets of a request."""
        try:
            answer = await sending
        except Exception as error:  # noqa: BLE001 - whatever comes out is what the caller gets
            got = Got(_named(error), error=error)
        else:
            got = Got(f"{answer.status_code} {_problem(answer) if answer.is_error else ''}".strip(), answer)
        self.got(got.text)
        return got

    def got(self, text: str) -> None:
        """Note what the caller got, in words."""
        self._got.append(text)

    def expect(self, what: str, expected: object, actual: object) -> None:
        """Hold *actual* to what is documented."""
        if expected != actual:
            self._problems.append(f"{what}: expected {expected}, got {actual}")

    def told(self, name: str, field: str) -> object:
        """The *field* of the latest event called *name*; None if there was none."""
        return next((getattr(event, field) for event in reversed(self.events) if event.name == name), None)

    async def until(self, name: str, times: int) -> None:
        """Wait until the event called *name* was told so many times."""
        while sum(event.name == name for event in self.events) < times:
            await self._news.wait()

    async def counts(self) -> Counts:
        """What the server counted, once no request is under way."""
        # In a thread: the server may wait for a connection that this loop has yet to close.
        return await anyio.to_thread.run_sync(self.server.settle, abandon_on_cancel=True)

    # What the tour uses

    async def play(self) -> Report:
        """Play the scenario and hold it to what is documented."""
        try:
            with anyio.fail_after(PATIENCE):
                await self.scenario.play(self)
        except Exception as error:  # noqa: BLE001 - a scenario that breaks is a failure like any other
            traceback.print_exc(file=sys.stderr)
            self._problems.append(f"the scenario broke: {error!r}")
        counts = await self.counts()
        self._check(counts)
        return Report(
            scenario=self.scenario,
            attempts=self.attempts,
            waits=tuple(self.waits),
            refreshes=self._refreshes,
            got=self._got_in_words,
            requests=len(_asked(counts)),
            counted=_in_words(counts),
            problems=tuple(self._problems),
            seconds=self.env.now() - self._began,
        )

    def _check(self, counts: Counts) -> None:
        ends = self.scenario.ends
        self.expect("the caller got", ends.got, self._got_in_words)
        self.expect("attempts", ends.attempts, self.attempts)
        self.expect("waits", ends.waits, len(self.waits))
        least, most = ends.waited
        if not least <= sum(self.waits) <= most:
            self._problems.append(f"waited {sum(self.waits):.2f} s, expected {least:g} to {most:g} s")
        self.expect("refreshes", ends.refreshes, self._refreshes)
        self.expect("the server answered", ends.served, statuses(_asked(counts)))
        self.expect("the server refreshed", ends.refreshes, counts.refreshes)
        self.expect("effects", dict(ends.effects), dict(counts.effects))
        self.expect("replays", ends.replays, counts.replays)
        self.expect("sessions revoked", 0, counts.revocations)
        self.expect("faults that no request met", 0, counts.unplayed)

    @property
    def _refreshes(self) -> int:
        return sum(isinstance(event, TokenRefreshed) for event in self.events)

    @property
    def _got_in_words(self) -> str:
        return _in_order(self._got)

    def _emit(self, event: Event) -> None:
        self.events.append(event)
        self._news.set()
        self._news = anyio.Event()
        self._watcher.decided(event, self.env.now() - self._began)

    async def _sleep(self, seconds: float) -> None:
        began = self.env.now()
        await anyio.sleep(seconds)
        self.waits.append(self.env.now() - began)


Play: TypeAlias = Callable[[Run], Awaitable[None]]


async def take(scenarios: Iterable[Scenario], server: Server, watcher: Watcher) -> list[Report]:
    """Play *scenarios* against *server*, one after another, each from a fresh start."""
    reports: list[Report] = []
    for scenario in scenarios:
        server.start_over(scenario.settings)
        watcher.begins(scenario)
        report = await Run(scenario, server, watcher).play()
        watcher.ends(report)
        reports.append(report)
    return reports


def bearer(credential: str) -> dict[str, str]:
    """The header that a credential goes into."""
    return {"Authorization": f"Bearer {credential}"}


def statuses(requests: Sequence[Seen]) -> str:
    """What *requests* were answered, in words."""
    return _in_order(["no answer" if seen.status is None else str(seen.status) for seen in requests])


def _asked(counts: Counts) -> list[Seen]:
    """The requests that were about the API's business: those to its auth endpoints left out."""
    return [seen for seen in counts.seen if not seen.path.startswith("/api/v1/auth/")]


def _in_words(counts: Counts) -> str:
    """What the server counted, for people."""
    told = [statuses(_asked(counts))]
    if counts.refreshes:
        told.append(_plural(counts.refreshes, "refresh", "refreshes"))
    told.extend(_times(name, number) for name, number in counts.effects.items())
    if counts.replays:
        told.append(_plural(counts.replays, "replay"))
    if counts.elsewhere:
        told.append(f"{len(counts.elsewhere)} elsewhere")
    return "; ".join(told)


def _problem(answer: httpx2.Response) -> str:
    """The code of an error, or its type where there is none; read without the help of what is on trial here."""
    error = answer.json()["error"]
    return str(error.get("code") or error["type"])


def _named(error: Exception) -> str:
    """The name of an error; of an adapter's twin, the one that users know."""
    ours = (kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
    return next(ours, type(error).__name__)


def _in_order(told: Sequence[str]) -> str:
    """One after another; more than six are counted."""
    if len(told) <= 6:
        return ", ".join(told) or "nothing"
    return ", ".join(_times(text, number) for text, number in Counter(told).items())


def _times(text: str, number: int) -> str:
    return text if number == 1 else f"{text} x{number}"


def _plural(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
