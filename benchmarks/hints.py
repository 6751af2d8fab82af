"""
What it costs to read how long a peer asks us to wait, in microseconds.

Each family of headers stands among the sixteen others of an ordinary answer, in a dict.  Then headers that are made to hurt: up to forty
fields that hints are looked for in, with valid, broken, joined and overlong values.  A figure is the fastest of many turns, since whatever
else the machine does only adds to it; all take turns, so that nobody has only a slow spell of it.

    python -m benchmarks.hints [--rounds N] [--sets N] [--json FILE]
"""

from __future__ import annotations

import argparse
import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from benchmarks.figures import Figure
from benchmarks.rounds import footer, installed, machine, save
from benchmarks.tables import tables
from resilience.reading.hints import HINTS, retry_after, should_retry

ROUNDS = 5_000
SETS = 20_000
LIBRARIES = ("resilience-engine", "http-sf")
FAMILY, FUZZED = "one family among 16 other headers", "sets of fuzzed headers"

NOW = 784_111_777.0
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
STATUS = 429

ORDINARY: Mapping[str, str] = {
    "Date": DATE,
    "Content-Type": "application/json; charset=utf-8",
    "Content-Length": "337",
    "Connection": "keep-alive",
    "CF-Ray": "972a33bb3977d246-FRA",
    "CF-Cache-Status": "DYNAMIC",
    "Server": "cloudflare",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains; preload",
    "Via": "1.1 google",
    "X-Content-Type-Options": "nosniff",
    "X-Request-Id": "req_011CSLsW7mFqvHHnzrKdKjAE",
    "X-Envoy-Upstream-Service-Time": "690",
    "Access-Control-Expose-Headers": "X-Request-ID",
    "Vary": "Accept-Encoding, Origin",
    "Alt-Svc": 'h3=":443"; ma=86400',
    "Set-Cookie": "__cf_bm=oPbZ2gZ5; path=/; HttpOnly; Secure; SameSite=None",
}
FAMILIES: Mapping[str, Mapping[str, str]] = {
    "none of them": {},
    "retry-after-ms": {"retry-after-ms": "1500"},
    "retry-after, seconds": {"retry-after": "120"},
    "retry-after, a date": {"retry-after": "Sun, 06 Nov 1994 08:51:37 GMT"},
    "RateLimit, a list": {"ratelimit-policy": '"default";q=100;w=60', "ratelimit": '"default";r=0;t=30'},
    "RateLimit, a dictionary": {"ratelimit-policy": "100;w=60", "ratelimit": "limit=100, remaining=0, reset=30"},
    "RateLimit, three policies": {"ratelimit": '"burst";r=0;t=5, "hour";r=0;t=300, "day";r=0;t=9000'},
    "RateLimit, two with partition keys": {"ratelimit": ", ".join(f'"policy-{n}";r=0;t={n}0;pk=:cHsdsRa894==:' for n in range(2))},
    "ratelimit-reset": {"ratelimit-limit": "100", "ratelimit-remaining": "0", "ratelimit-reset": "30"},
    "x-ratelimit-reset, unix seconds": {"x-ratelimit-limit": "60", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "784111897"},
    "x-ratelimit-reset-*, durations": {
        f"x-ratelimit-{what}-{of}": value
        for of in ("requests", "tokens")
        for what, value in (("limit", "60"), ("remaining", "0"), ("reset", "6m0s"))
    },
    "anthropic-ratelimit-*, RFC 3339": {
        f"anthropic-ratelimit-{of}-{what}": value
        for of in ("requests", "tokens", "input-tokens", "output-tokens")
        for what, value in (("limit", "60"), ("remaining", "0"), ("reset", "1994-11-06T08:51:37Z"))
    },
}

NAMES = sorted({name for hint in HINTS for name in (hint.header, hint.remaining) if name is not None} | {"date", "x-should-retry"})
PIECES: Sequence[str] = (
    *"0 -1 30 1.5 nan 784111897 784111897000 6m0s 1h2m3.5s 20ms 9999999999999999 true soon".split(),
    *'a a; a;a a=1 ::, :aaaa: @1 ?1 1.1 %"%41 ( ) (1 " \\\\ "b";r=0;t=1 remaining=0 reset=1'.split(),
    *(DATE, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "1994-11-06T08:51:37Z", "1994-11-06T10:51:37.5+02:00"),
    *("Sunday, 06-Nov-94 08:49:37 GMX", "Sun Nov  6 08:49:37 199X", "1994-11-06T08:51:37.123456789+99:99", "\u0661" * 20, ""),
)


def fuzzed(dice: random.Random) -> list[tuple[str, str]]:
    """A set of headers that nobody should send."""

    def value() -> str:
        pieces = dice.choices(PIECES, k=dice.choice((1, 1, 1, 2, 4, 8, 64)))
        if dice.random() < 0.3:
            pieces = pieces[:1] * len(pieces)
        return dice.choice((", ", ", ", ",", ";", " ", "")).join(pieces)[: dice.choice((40, 120, 160, 512, 1000))]

    names = NAMES if dice.random() < 0.5 else dice.choices(NAMES, k=3)
    return [(dice.choice(names), value()) for _ in range(dice.choice((1, 2, 4, 8, 16, 40)))]


def reading(headers: object) -> Callable[[], object]:
    """What is measured."""
    return partial(retry_after, headers, wall=NOW, status=STATUS)


def fastest(fns: Iterable[Callable[[], object]], rounds: int) -> list[float]:
    """Microseconds of each one's fastest turn of so many."""
    turns = [(index, fn) for index, fn in enumerate(fns)]
    best = [math.inf] * len(turns)
    clock = time.perf_counter_ns
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        for _ in range(rounds):
            for index, fn in turns:
                start = clock()
                fn()
                best[index] = min(best[index], clock() - start)
    finally:
        gc.enable()
        gc.unfreeze()
    return [nanos / 1e3 for nanos in best]


def families(rounds: int) -> dict[str, float]:
    """Microseconds of each family."""
    fns = {name: reading({**ORDINARY, **family}) for name, family in FAMILIES.items()}
    fns["x-should-retry"] = partial(should_retry, {**ORDINARY, "x-should-retry": "true"})
    return dict(zip(fns, fastest(fns.values(), rounds), strict=True))


def fuzz(sets: int, rounds: int) -> tuple[dict[str, float], list[tuple[str, str]]]:
    """Microseconds that fuzzed headers take, and those that take longest."""
    dice = random.Random(0)  # the same sets each time
    fuzzy = [fuzzed(dice) for _ in range(sets)]
    timed = sorted(zip(fastest(map(reading, fuzzy), 11), fuzzy, strict=True), key=lambda row: row[0])
    # The slowest were not all slow: something else may have come in between.
    last = [headers for _, headers in timed[-50:]]
    slowest, headers = max(zip(fastest(map(reading, last), rounds), last, strict=True), key=lambda row: row[0])
    return {"half of them, at most": statistics.median(took for took, _ in timed), "the slowest": slowest}, headers


def _as_figures(costs: Mapping[str, float], fuzzy: Mapping[str, float], sets: int) -> list[Figure]:
    found = [Figure(row, micros, "µs", group=FAMILY) for row, micros in costs.items()]
    return found + [Figure(row, micros, "µs", group=f"{sets:,} {FUZZED}") for row, micros in fuzzy.items()]


def figures(rounds: int = ROUNDS, sets: int = SETS) -> list[Figure]:
    """
    What each family takes to be read, and what fuzzed headers take.

    Args:
        rounds: Turns of each row, of which the fastest counts; >= 1.
        sets: Sets of fuzzed headers; >= 50.
    """
    return _as_figures(families(rounds), fuzz(sets, rounds)[0], sets)


def main() -> None:
    """Measure, print, and save if asked to."""
    parser = argparse.ArgumentParser(description="What it costs to read how long a peer asks us to wait.")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"turns of each row (default: {ROUNDS})")
    parser.add_argument("--sets", type=int, default=SETS, help=f"sets of fuzzed headers (default: {SETS})")
    parser.add_argument("--json", metavar="FILE", help="save the figures")
    options = parser.parse_args()
    costs = families(options.rounds)
    fuzzy, slowest = fuzz(options.sets, options.rounds)
    print(f"{tables(_as_figures(costs, fuzzy, options.sets))}\n")
    print(footer(options.rounds, LIBRARIES).replace("medians", "the fastest"))
    if options.json:
        data: dict[str, Any] = {"families": costs, "fuzzed": fuzzy, "slowest": slowest}
        save(options.json, {"machine": machine(), "versions": installed(LIBRARIES), "rounds": options.rounds, **data})


if __name__ == "__main__":
    main()
