"""
What goes wrong on purpose: an unreliable network in front of an honest server.

A fault is a frozen record of how to mistreat one request; a `Script` says which requests meet which faults, in order.  *when* tells
whether the API has done its work by then.  That is what matters to a client: after ``Reset("after")`` the action has happened, and the
client cannot know.

    unread   the request's body was not even read (resets only)
    before   the request was read, nothing was done
    after    the API has done its work; only the answer suffers
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import threading
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Literal, Protocol, TypeAlias

import attrs

from resilience.demo.envelopes import DEFAULT_CODES, Encoding, Problem, Reply, encode, pairs
from resilience.demo.exchange import Exchange

__all__ = ["Answer", "Compress", "Drip", "Fault", "Hang", "Hold", "Honest", "Late", "Redirect", "Reset", "Script", "Truncate", "When"]

When: TypeAlias = Literal["before", "after"]

_when = attrs.validators.in_(["before", "after"])
_seconds = attrs.validators.ge(0.0)


class Fault(Protocol):
    """One way to treat a request."""

    async def play(self, exchange: Exchange) -> None:
        """Serve the request, or fail to."""
        ...


@attrs.frozen
class Honest:
    """No fault: a place in a sequence that is served as it should be."""

    async def play(self, exchange: Exchange) -> None:
        """Work and answer."""
        await exchange.answer(await exchange.work())


@attrs.frozen
class Answer:
    """
    Answer with an error, in the envelope of the endpoint's family.

    Args:
        status: 200 to 599.
        code: The error's code; None for the usual one of that status.
        headers: Sent along; a mapping or pairs, so that a name may repeat.
        message: For people.
        body: Sent as it is in the envelope's place: an HTML page, junk, nothing at all.
        encoding: Compress the body, whether or not the client asked for it.
        when: ``"after"`` has the work done all the same: a 500 whose action happened.
    """

    status: int = attrs.field(validator=attrs.validators.and_(attrs.validators.ge(200), attrs.validators.le(599)))
    code: str | None = None
    headers: tuple[tuple[str, str], ...] = attrs.field(default=(), converter=pairs, kw_only=True)
    message: str = attrs.field(default="As scripted.", kw_only=True)
    body: bytes | None = attrs.field(default=None, kw_only=True)
    encoding: Encoding | None = attrs.field(default=None, kw_only=True)
    when: When = attrs.field(default="before", validator=_when, kw_only=True)

    async def play(self, exchange: Exchange) -> None:
        """Answer, after the work or in its place."""
        await (exchange.work() if self.when == "after" else exchange.read())
        if self.body is None:
            code = DEFAULT_CODES.get(self.status, "invalid_request") if self.code is None else self.code
            reply = Problem(self.status, code, self.message, self.headers).reply(exchange.seen.path)
        else:
            reply = Reply(self.status, self.body, self.headers)
        await exchange.answer(reply if self.encoding is None else encode(reply, self.encoding))


@attrs.frozen
class Compress:
    """Answer as the API does, success or error, with a compressed body."""

    encoding: Encoding = "gzip"

    async def play(self, exchange: Exchange) -> None:
        """Work, compress, answer."""
        await exchange.answer(encode(await exchange.work(), self.encoding))


@attrs.frozen
class Reset:
    """Reset the connection instead of answering."""

    when: Literal["unread", "before", "after"] = attrs.field(
        default="before", validator=attrs.validators.in_(["unread", "before", "after"])
    )

    async def play(self, exchange: Exchange) -> None:
        """Work or not, and drop the connection."""
        if self.when == "before":
            await exchange.read()
        elif self.when == "after":
            await exchange.work()
        await exchange.reset()


@attrs.frozen
class Hang:
    """Say nothing for *seconds*, which may be infinite, or until the client has left; then reset the connection."""

    seconds: float = attrs.field(default=math.inf, validator=_seconds)
    when: When = attrs.field(default="before", validator=_when, kw_only=True)

    async def play(self, exchange: Exchange) -> None:
        """Work or not, and keep the client waiting."""
        await (exchange.work() if self.when == "after" else exchange.read())
        if not await exchange.wait(self.seconds):
            await exchange.reset()


@attrs.frozen
class Late:
    """
    Answer as the API does, *seconds* late.

    Args:
        seconds: >= 0.
        when: ``"after"`` works at once and answers late; ``"before"`` does both late, even if the client has left by then.
    """

    seconds: float = attrs.field(validator=_seconds)
    when: When = attrs.field(default="after", validator=_when, kw_only=True)

    async def play(self, exchange: Exchange) -> None:
        """Wait before or after the work, then answer."""
        await exchange.read()
        if self.when == "before":
            await asyncio.sleep(self.seconds)
        reply = await exchange.work()
        if self.when == "after" and await exchange.wait(self.seconds):
            return
        await exchange.answer(reply)


@attrs.frozen
class Drip:
    """
    Answer as the API does, a few bytes at a time.

    Args:
        pause: Seconds before each part of the body; >= 0.
        size: Bytes in a part; >= 1.
    """

    pause: float = attrs.field(validator=_seconds)
    size: int = attrs.field(default=1, validator=attrs.validators.ge(1))

    async def play(self, exchange: Exchange) -> None:
        """Work, send the headers at once and the body slowly."""
        reply = await exchange.work()
        await exchange.begin(reply)
        for start in range(0, len(reply.body), self.size):
            if await exchange.wait(self.pause):
                return
            await exchange.write(reply.body[start : start + self.size], more=True)
        await exchange.write(b"", more=False)


@attrs.frozen
class Truncate:
    """
    Work, promise the whole body, send a part of it and close the connection.

    Args:
        share: How much of the body is sent, in [0, 1).
    """

    share: float = attrs.field(default=0.5, validator=attrs.validators.and_(attrs.validators.ge(0), attrs.validators.lt(1)))

    async def play(self, exchange: Exchange) -> None:
        """Work, and break off in the middle of the answer."""
        reply = await exchange.work()
        await exchange.begin(reply)
        await exchange.write(reply.body[: int(len(reply.body) * self.share)], more=True)
        await exchange.hang_up()


@attrs.frozen
class Redirect:
    """
    Send the client to another address, before any work.

    Args:
        to: ``"same"`` origin, or ``"other"``: the second port, which counts what reaches it.
        status: 301, 302, 303, 307 or 308.
        path: Path and query of the new address; None for those of the request.
    """

    to: Literal["same", "other"] = attrs.field(default="same", validator=attrs.validators.in_(["same", "other"]))
    status: int = attrs.field(default=307, validator=attrs.validators.in_([301, 302, 303, 307, 308]))
    path: str | None = None

    async def play(self, exchange: Exchange) -> None:
        """Answer with a ``Location``."""
        await exchange.read()
        host, port = exchange.scope["server"]
        origin = f"http://{host}:{port}" if self.to == "same" else exchange.elsewhere
        await exchange.answer(Reply(self.status, headers={"Location": origin + (exchange.target if self.path is None else self.path)}))


@attrs.define(eq=False)
class Hold:
    """
    Hold requests back until the scenario lets them go: for tests that have to know where the server stands.

    Args:
        when: ``"before"`` the work, or ``"after"`` it and before the answer.
    """

    when: When = attrs.field(default="before", validator=_when)
    _arrived: threading.Semaphore = attrs.field(factory=lambda: threading.Semaphore(0), init=False, repr=False)
    _let_go: asyncio.Event = attrs.field(factory=asyncio.Event, init=False, repr=False)
    _released: bool = attrs.field(default=False, init=False)
    _loop: asyncio.AbstractEventLoop | None = attrs.field(default=None, init=False, repr=False)

    def wait(self, timeout: float = 5.0) -> None:
        """
        Block until one more request is held; from async code, call it in a worker thread.

        Raises:
            TimeoutError: None came within *timeout* seconds.
        """
        if not self._arrived.acquire(timeout=timeout):
            raise TimeoutError(f"no request was held within {timeout} s")

    def release(self) -> None:
        """Let go what is held, and hold nothing any more."""
        self._released = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the server has stopped
                self._loop.call_soon_threadsafe(self._let_go.set)

    async def play(self, exchange: Exchange) -> None:
        """Work before or after the wait, and answer."""
        await exchange.read()
        reply = await exchange.work() if self.when == "after" else None
        self._loop = asyncio.get_running_loop()
        self._arrived.release()
        if not self._released:
            await self._let_go.wait()
        await exchange.answer(await exchange.work() if reply is None else reply)


@attrs.define(eq=False)
class _Line:
    """Faults for the requests of one route, in order."""

    method: str
    path: str
    faults: Iterator[Fault]
    left: float


class Script:
    """Which requests meet which faults."""

    def __init__(self) -> None:
        self._lines: list[_Line] = []

    def add(self, route: str, *faults: Fault, times: int | None = 1) -> None:
        """
        Let the next requests to *route* meet *faults*, one each, in order.

        Args:
            route: Method and path, ``POST /api/v1/calls``; either may hold ``*``, and ``*`` alone is any request.
            faults: At least one.
            times: How often the sequence is played; None for ever.

        Raises:
            ValueError: No route of this form, no fault, or *times* below 1.
        """
        method, _, path = ("* *" if route == "*" else route).partition(" ")
        if not method or not path.startswith(("/", "*")):
            raise ValueError(f"route must be a method and a path, such as 'GET /api/v1/bots': {route!r}")
        if not faults:
            raise ValueError("at least one fault is needed")
        if times is not None and times < 1:
            raise ValueError(f"times must be at least 1 or None: {times!r}")
        sequence = itertools.cycle(faults)
        self._lines.append(_Line(method, path, sequence, math.inf if times is None else times * len(faults)))

    def clear(self) -> None:
        """Forget what has not been played."""
        self._lines.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that a request meets, from the oldest line that fits and has one left."""
        for line in self._lines:
            if line.left and fnmatchcase(method, line.method) and fnmatchcase(path, line.path):
                line.left -= 1
                return next(line.faults)
        return None

    @property
    def unplayed(self) -> int:
        """Faults that wait for their request; those scripted for ever do not count."""
        return sum(int(line.left) for line in self._lines if line.left < math.inf)
