"""
The aims, all of them, and who misses one.

A figure takes its aim from here by its group and row, so that no module can have another in mind.  An aim that nothing was measured for
counts as missed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from benchmarks.figures import Figure

__all__ = ["AIMS", "BESIDE", "FAILURES", "GROWTH", "HAPPY", "IMPORT", "LOOPBACK", "SLACK", "aimed", "missed"]

HAPPY = "the happy path"
BESIDE = "the happy path beside others"
FAILURES = "when something goes wrong"
GROWTH = "growth"
LOOPBACK = "requests on loopback"
IMPORT = "import"

SLACK = 1.15
"""How far above its aim a figure may lie before the check fails: what a busy machine makes of a figure that meets it."""

AIMS: Mapping[tuple[str, str], float] = {
    (HAPPY, "engine, no policy"): 7.5,
    (HAPPY, "+ Retry"): 8.5,
    (HAPPY, "+ RefreshToken"): 12.5,
    (HAPPY, "+ IdempotencyKey, taken"): 14.5,
    (HAPPY, "+ Deadline, AttemptTimeout (all)"): 30.0,
    (BESIDE, "up to RefreshToken, of nopanic's retry, breaker"): 0.72,
    (BESIDE, "all, of asyncio.timeout alone"): 1.0,
    (BESIDE, "all, of nopanic's retry, breaker, timeout"): 0.5,
    (FAILURES, "recovered: everything on"): 3.0,
    (LOOPBACK, "httpx2: GET, wall time"): 1.05,
    (GROWTH, "up to 100,000 calls at once, one of which runs: growth"): 1.1,
    (GROWTH, "100 to 100,000 calls that take turns: growth, of a bare task's"): 1.1,
    (GROWTH, "each further pass-through policy"): 1.5,
    (GROWTH, "memory that 20 times as many calls take"): 64.0,  # a hundredth of a byte for each: flat
    (GROWTH, "memory of a call in flight: everything on"): 1.5,
    (GROWTH, "a breaker for each of 1,000,000 keys: to find one that is kept"): 2.0,
    (GROWTH, "a breaker for each of 1,000,000 keys: circuits kept"): 1024.0,
    (GROWTH, "objects left for the collector after success"): 0.0,
    (GROWTH, "objects left for the collector after two retries and success"): 0.0,
    (GROWTH, "objects left for the collector after exhaustion"): 0.0,
    (GROWTH, "objects left for the collector after rejection by an open breaker"): 0.0,
    (GROWTH, "objects left for the collector after the time of an attempt"): 0.0,
    (GROWTH, "objects left for the collector after the time of the call"): 0.0,
    (GROWTH, "objects left for the collector after cancellation"): 0.0,
    (IMPORT, "resilience, and what a first program names"): 20.0,
}


def aimed(figures: Iterable[Figure]) -> list[Figure]:
    """
    The figures with their aims.

    Raises:
        ValueError: If one brings an aim that is not the one here.
    """
    found: list[Figure] = []
    for figure in figures:
        aim = AIMS.get((figure.group, figure.row))
        if figure.aim is not None and figure.aim != aim:
            raise ValueError(f"{figure.group}: {figure.row}: has an aim of {figure.aim:g} where benchmarks/aims.py has {aim}")
        found.append(attrs.evolve(figure, aim=aim))
    return found


def missed(figures: Sequence[Figure], groups: Iterable[str]) -> list[str]:
    """
    What is wrong, a line each.

    Args:
        figures: What was measured.
        groups: The tables that were to be measured: an aim in one of them must have its figure.
    """
    lines = [
        f"{figure.group}: {figure.row}: {figure.value:.4g} {figure.unit}, at most {figure.aim:g}"
        for figure in figures
        if figure.share is not None and not figure.share <= SLACK  # put so that what is not a number does not pass
    ]
    there = {(figure.group, figure.row) for figure in figures}
    wanted = set(groups)
    lines += [f"{group}: {row}: not measured" for group, row in AIMS if group in wanted and (group, row) not in there]
    return lines
