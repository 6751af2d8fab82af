"""
What an engine costs around real requests: the client's own time and an adapter's share of it, over a socket on loopback.

The server is a process of its own, so that its work is not counted as the client's, and does as little as a server can: it finds where a
request ends, and writes the same short answer.  What is left is the client, at its best; a peer that takes time, or a network, only makes
the engine's share smaller.  Both clients of a pair are the same but for the engine, and send the same requests: the one that has no engine
has the token among its own headers, and gives each POST a key of its own, as it would have to.

    python -m benchmarks.loopback [--effort E] [--json FILE]

Turns of a pair are short and follow one another as bare, ours, ours, bare, so that a drift of the machine meets both alike.  Of the
requests that are made one at a time each is timed by itself, and a turn's wall time is the median of its requests: one during which the
processor was somebody else's says nothing.  Processor time is the client's thread's own.  Of all turns the half counts whose two of the
bare client agree best, by that clock; figures are medians.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import math
import pathlib
import random
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from itertools import repeat
from typing import Any, TypeAlias

import aiohttp
import attrs
import httpx
import httpx2

from benchmarks.aims import LOOPBACK, aimed
from benchmarks.figures import Figure
from benchmarks.results import Result
from benchmarks.rounds import ABREAST, as_in_production, footer, quartiles
from benchmarks.tables import tables
from resilience import AttemptTimeout, CircuitBreaker, Deadline, Engine, IdempotencyKey, RefreshToken, Retry
from resilience.adapters import aiohttp as on_aiohttp
from resilience.adapters import httpx as on_httpx
from resilience.adapters import httpx2 as on_httpx2
from resilience.dialects import callmissed

__all__ = ["LIBRARIES", "figures", "main"]

Send: TypeAlias = Callable[[], Awaitable[object]]
Client: TypeAlias = AbstractAsyncContextManager[Any]

ROUNDS = 60
REQUESTS = 12  # of a turn; a bare one takes half a millisecond
MORE = 2  # further turns a round for the pair that has an aim
LIBRARIES = ("resilience-engine", "anyio", "httpx2", "httpcore2", "httpx", "httpcore", "h11", "aiohttp", "uvloop")

_TOKEN = "t" * 40
_ORDER = {"customer": 7, "items": [1, 2, 3]}


# The server


_BODY = b'{"id": "bot_1", "name": "Ada", "status": "active", "languages": ["en", "de"], "created_at": "2026-01-02T03:04:05Z"}'
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\nx-request-id: 0123456789abcdef\r\n\r\n%s" % (
    len(_BODY),
    _BODY,
)
_LENGTH = b"content-length: "


class _Answering(asyncio.Protocol):
    """One connection: each request is answered alike, as soon as all of it is there."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            head = self._held[:end].lower()
            length = head.find(_LENGTH)
            over = end + 4 + (0 if length < 0 else int(head[length + len(_LENGTH) :].split(b"\r\n", 1)[0]))
            if len(self._held) < over:
                return
            self._held = self._held[over:]
            self._transport.write(_ANSWER)


def serve() -> None:
    """Answer on a free port of loopback, which is printed first, until standard input ends: as whoever started this does at the latest."""

    async def answering() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(_Answering, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await loop.run_in_executor(None, sys.stdin.read)

    with contextlib.suppress(ImportError):
        import uvloop  # noqa: PLC0415 - where there is a faster loop the server takes it; the client has the ordinary one

        uvloop.install()
    asyncio.run(answering())


@contextlib.contextmanager
def served() -> Generator[str, None, None]:
    """The base URL of a server that is there for as long as the block."""
    program = [sys.executable, "-m", "benchmarks.loopback", "--serve"]
    root = pathlib.Path(__file__).parents[1]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


# The clients


async def _login(stale: str | None) -> str:
    raise AssertionError(stale)  # nothing expires here


def everything() -> Engine:
    """An engine with everything on."""
    return Engine(
        [Deadline(30), IdempotencyKey(), RefreshToken(_login, token=_TOKEN), Retry(), CircuitBreaker(), AttemptTimeout(10)],
        rules=callmissed.RULES,
    )


def _bare(url: str) -> dict[str, Any]:
    return {"base_url": url, "headers": {"Authorization": f"Bearer {_TOKEN}"}}


@attrs.frozen
class Library:
    """A client library: how to make its own client with the server's URL, and ours."""

    bare: Callable[[str], Client]
    ours: Callable[[str], Client]


CLIENTS: dict[str, Library] = {
    "httpx2": Library(
        lambda url: httpx2.AsyncClient(**_bare(url)),
        lambda url: on_httpx2.ResilientClient(everything(), base_url=url),
    ),
    "httpx2, transport": Library(
        lambda url: httpx2.AsyncClient(**_bare(url)),
        lambda url: httpx2.AsyncClient(transport=on_httpx2.ResilientTransport(everything()), base_url=url),
    ),
    "httpx": Library(
        lambda url: httpx.AsyncClient(**_bare(url)),
        lambda url: on_httpx.ResilientClient(everything(), base_url=url),
    ),
    "aiohttp": Library(
        lambda url: aiohttp.ClientSession(**_bare(url)),
        lambda url: aiohttp.ClientSession(url, middlewares=(on_aiohttp.ResilientMiddleware(everything()),)),
    ),
}


def _get(client: Any, *, keyed: bool) -> Send:  # noqa: ARG001 - nobody has a key for that
    if isinstance(client, aiohttp.ClientSession):

        async def get_and_read() -> None:
            async with client.get("/api/v1/bots/1") as response:
                await response.read()

        return get_and_read

    async def get() -> None:
        await client.get("/api/v1/bots/1")

    return get


def _post(client: Any, *, keyed: bool) -> Send:
    def key() -> dict[str, str] | None:
        return {"Idempotency-Key": secrets.token_hex(16)} if keyed else None

    if isinstance(client, aiohttp.ClientSession):

        async def post_and_read() -> None:
            async with client.post("/api/v1/bots", json=_ORDER, headers=key()) as response:
                await response.read()

        return post_and_read

    async def post() -> None:
        await client.post("/api/v1/bots", json=_ORDER, headers=key())

    return post


WISHES: dict[str, Callable[..., Send]] = {"GET": _get, "POST": _post}
"""How a client makes a request; it sends a key of its own where no engine does."""


# The turns


@attrs.frozen
class Turn:
    """
    What a request took in one turn.

    Args:
        wall: Seconds from beginning to end.
        cpu: Seconds of the thread's own processor time.
    """

    wall: float
    cpu: float


async def one_at_a_time(send: Send, requests: int) -> Turn:
    """Make requests one after the other; each is timed by itself."""
    clock, taken = time.perf_counter, list[float]()
    cpu = time.thread_time()
    for _ in repeat(None, requests):
        began = clock()
        await send()
        taken.append(clock() - began)
    return Turn(statistics.median(taken), (time.thread_time() - cpu) / requests)


async def in_flight(send: Send, requests: int) -> Turn:
    """Make requests in `ABREAST` tasks."""

    async def some() -> None:
        for _ in repeat(None, requests):
            await send()

    began, cpu = time.perf_counter(), time.thread_time()
    await asyncio.gather(*(some() for _ in range(ABREAST)))
    return Turn((time.perf_counter() - began) / (requests * ABREAST), (time.thread_time() - cpu) / (requests * ABREAST))


Taking: TypeAlias = Callable[[Send, int], Awaitable[Turn]]


@attrs.define
class Pair:
    """
    A bare client and ours with the same requests to make, and what came of it so far.

    Args:
        row: What is asked for, in words.
        bare: How a request is made without an engine ...
        ours: ... and with one.
        taking: What a turn is.
        requests: Of a turn.
        turns: Two of the bare client, each with two of ours: before and after.
    """

    row: str
    bare: Send
    ours: Send
    taking: Taking
    requests: int
    turns: list[tuple[Turn, Turn, Turn, Turn]] = attrs.field(factory=list[tuple[Turn, Turn, Turn, Turn]])

    async def turn(self) -> None:
        """Bare, ours, ours, bare."""
        bare, ours, requests = self.bare, self.ours, self.requests
        self.turns.append(
            (
                await self.taking(bare, requests),
                await self.taking(ours, requests),
                await self.taking(ours, requests),
                await self.taking(bare, requests),
            )
        )

    def figure(self, of: str, clock: str) -> Figure:
        """What ours takes of what the bare client takes, by one of a turn's clocks."""
        times = [tuple(getattr(turn, of) for turn in turns) for turns in self.turns]
        calm = sorted(times, key=lambda turns: abs(math.log(turns[0] / turns[3])))[: (len(times) + 1) // 2]
        low, ratio, high = quartiles((second + third) / (first + fourth) for first, second, third, fourth in calm)
        bare = statistics.median((turns[0] + turns[3]) / 2 for turns in calm) * 1e6
        beside = {"low": low, "high": high, "bare, µs": bare, "more, µs": bare * (ratio - 1)}
        return Figure(f"{self.row}, {clock} time", ratio, "x", group=LOOPBACK, beside=beside)


async def measured(url: str, rounds: int) -> list[Pair]:
    """All pairs, with their turns."""
    async with AsyncExitStack() as held:

        async def pair_of(library: str, wish: str, taking: Taking, requests: int, more: str = "") -> Pair:
            # Clients of its own: those that have many connections open take longer over each request.
            kinds, of = CLIENTS[library], WISHES[wish]
            bare, ours = await held.enter_async_context(kinds.bare(url)), await held.enter_async_context(kinds.ours(url))
            return Pair(f"{library}: {wish}{more}", of(bare, keyed=True), of(ours, keyed=False), taking, requests)

        pairs = [await pair_of(library, wish, one_at_a_time, REQUESTS) for library in CLIENTS for wish in WISHES]
        pairs += [await pair_of("httpx2", wish, in_flight, 1, f", {ABREAST} in flight") for wish in WISHES]
        for pair in pairs:
            await pair.turn()  # opens connections, and finds things out once and for all
            pair.turns.clear()
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            for _ in range(rounds):
                for pair in random.sample([*pairs, *repeat(pairs[0], MORE)], len(pairs) + MORE):
                    await pair.turn()
                    gc.collect()
        finally:
            gc.enable()
            gc.unfreeze()
    return pairs


def _rounds(effort: float) -> int:
    return max(5, round(ROUNDS * effort))


def figures(effort: float = 1.0) -> list[Figure]:
    """
    What requests through the adapters take, as ratios of what they take without.

    Args:
        effort: How much longer than usual to measure; > 0.  At 1 it takes some 25 s.
    """
    as_in_production()
    for name in ("httpx2", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)  # at info they write a line a request, beside which an engine would vanish
    with served() as url:
        pairs = asyncio.run(measured(url, _rounds(effort)))
    return aimed(pair.figure(of, clock) for pair in pairs for of, clock in (("wall", "wall"), ("cpu", "processor")))


def main() -> None:
    """Measure, print, and save if asked to."""
    parser = argparse.ArgumentParser(description="What an engine costs around real requests.")
    parser.add_argument("--effort", type=float, default=1.0, help="how much longer than usual to measure (default: 1)")
    parser.add_argument("--json", metavar="FILE", help="save the figures, quartiles included")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    found = figures(options.effort)
    print(f"{tables(found)}\n\n{footer(_rounds(options.effort), LIBRARIES)}")
    if options.json:
        Result.of(found, libraries=LIBRARIES, rounds=_rounds(options.effort)).save(options.json)


if __name__ == "__main__":
    main()
