"""The command line of the tour."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Sequence

import anyio
from rich.console import Console

from resilience.demo.serve import Server
from resilience.demo.tour import Report, Scenario, take
from resilience.demo.tour_scenarios import SCENARIOS
from resilience.demo.tour_screen import Screen

__all__ = ["main", "play"]

WIDTH = 160
"""Columns where there is no terminal to ask."""


def main(arguments: Sequence[str] | None = None, scenarios: Sequence[Scenario] = SCENARIOS) -> int:
    """
    Play the tour, or a part of it.

    Args:
        arguments: Those of the command line, if they are not to come from there.
        scenarios: What there is to play.

    Returns:
        The exit status; see ``__main__.py``.
    """
    known = {scenario.name: scenario for scenario in scenarios}
    parser = argparse.ArgumentParser(prog="python -m resilience.demo", description="A client survives a server that misbehaves.")
    parser.add_argument("--list", action="store_true", help="list the scenarios and leave")
    parser.add_argument("--only", action="append", metavar="NAME", choices=known, help="play this scenario; may be repeated")
    chosen = parser.parse_args(arguments)
    if chosen.list:
        for scenario in scenarios:
            print(f"{scenario.name:16} {scenario.title}")
        return 0
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDTH
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        reports = play([known[name] for name in chosen.only] if chosen.only else scenarios, console)
    except KeyboardInterrupt:
        console.print("\nInterrupted.")
        return 130
    finally:
        signal.signal(signal.SIGINT, before)
    return 1 if any(report.problems for report in reports) else 0


def play(scenarios: Sequence[Scenario], console: Console) -> list[Report]:
    """Play *scenarios* against a server of their own, and show them on *console*."""
    screen = Screen(len(scenarios), console)
    with Server() as server:
        screen.opens(server.url)

        async def tour() -> list[Report]:
            began = anyio.current_time()
            reports = await take(scenarios, server, screen)
            screen.closes(reports, anyio.current_time() - began)
            return reports

        return anyio.run(tour)
