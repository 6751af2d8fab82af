"""
What one sees of the tour: each decision as it is made, and a closing table.

In colour where there is a terminal, plain text where the output goes into a file or a pipe; rich heeds ``NO_COLOR``, ``FORCE_COLOR``
and ``TERM=dumb``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from resilience.demo.tour import Report, Scenario
from resilience.events import Event

__all__ = ["Screen"]

_PLAIN = str.maketrans({"→": "->", "✓": "+", "✗": "!"})

# What becomes of the call, by event: it goes on (yellow), is well (green), is over (red), or something was learnt on the way (cyan).
_COLOURS: Mapping[str, str] = {
    "call.succeeded": "green",
    "call.recovered": "green",
    "call.failed_fast": "red",
    "attempt.failed": "default",
    "retry.scheduled": "yellow",
    "retry.gave_up": "red",
    "token.refreshed": "cyan",
    "token.joined": "cyan",
    "token.refresh_failed": "red",
    "key.taken": "cyan",
    "breaker.opened": "red",
    "breaker.half_opened": "yellow",
    "breaker.closed": "green",
    "breaker.rejected": "red",
    "deadline.exceeded": "red",
}


class Screen:
    """
    Watches the tour, and shows it.

    Args:
        total: How many scenarios there are.
        console: Where to.
    """

    def __init__(self, total: int, console: Console) -> None:
        self._console = console
        self._total = total
        self._number = 0
        self._crowd: Counter[str] | None = None

    def opens(self, url: str) -> None:
        """Say what is about to be seen."""
        self._print(Text.assemble("A stand-in for the CallMissed API listens on ", (url, "bold"), ".  Each line below is a decision"))
        self._print(Text("of the client's engine as it is made: seconds, the event's name in the log, and what it says."))

    def begins(self, scenario: Scenario) -> None:
        """Show what is played, and what the documentation says about it."""
        self._number += 1
        self._crowd = Counter() if scenario.crowd else None
        self._print()
        self._print(Text.assemble((f"{self._number:>2}/{self._total}  ", "dim"), (scenario.title, "bold")))
        self._under(Text(f"documented: {scenario.says}", style="italic"))

    def decided(self, event: Event, at: float) -> None:
        """Show a decision; of a crowd's, the first of each kind."""
        if self._crowd is not None:
            self._crowd[event.name] += 1
            if self._crowd[event.name] > 1:
                return
        self._line(f"{at:6.2f}", event.name, told(event), _COLOURS.get(event.name, "default"))

    def ends(self, report: Report) -> None:
        """Show what came of it, and what is not as documented."""
        if self._crowd is not None:
            self._line("", "in all", ", ".join(f"{name} x{number}" for name, number in self._crowd.items()), "default")
            self._crowd = None
        sums = f"caller got {report.got}; server counted {report.requests} request{'' if report.requests == 1 else 's'}: {report.counted}"
        if report.problems:
            self._under(Text(f"✗ NOT AS DOCUMENTED: {sums}", style="bold red"))
            for problem in report.problems:
                self._under(Text(f"  {problem}", style="red"))
        else:
            self._under(Text.assemble(("✓ as documented: ", "bold green"), sums))

    def closes(self, reports: Sequence[Report], seconds: float) -> None:
        """Show the table of all scenarios, and how many ended as documented."""
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, header_style="bold")
        table.add_column("")
        table.add_column("scenario", no_wrap=self._console.width >= 100)
        table.add_column("attempts", justify="right")
        table.add_column("waits", justify="right", no_wrap=True)
        table.add_column("refreshes", justify="right")
        table.add_column("the caller got")
        table.add_column("the server counted")
        for report in reports:
            table.add_row(
                self._plainer(Text("✗", style="bold red") if report.problems else Text("✓", style="green")),
                report.scenario.title,
                str(report.attempts),
                self._plainer(Text(f"{len(report.waits)}, {sum(report.waits):.2f} s" if report.waits else "-")),
                self._plainer(Text(str(report.refreshes or "-"))),
                report.got,
                f"{report.requests}: {report.counted}",
            )
        self._print()
        self._console.print(table)
        failed = [report.scenario for report in reports if report.problems]
        if failed:
            names = ", ".join(scenario.name for scenario in failed)
            self._print(Text(f"{len(failed)} of {len(reports)} scenarios did not end as documented: {names}.", style="bold red"))
        else:
            all_of = "The scenario" if len(reports) == 1 else f"All {len(reports)} scenarios"
            self._print(Text(f"{all_of} ended as documented, in {seconds:.1f} s.", style="bold green"))

    def _line(self, at: str, name: str, text: str, colour: str) -> None:
        row = Table.grid(padding=(0, 2, 0, 0))
        row.add_column(width=6, justify="right")
        row.add_column(width=20)
        row.add_column()
        row.add_row(Text(at, style="dim"), Text(name, style=colour), self._plainer(Text(text)))
        self._console.print(row)

    def _under(self, text: Text) -> None:
        self._console.print(Padding(self._plainer(text), (0, 0, 0, 7), expand=False))

    def _print(self, text: Text | None = None) -> None:
        self._console.print(self._plainer(Text() if text is None else text))

    def _plainer(self, text: Text) -> Text:
        """*text* without the signs that the output cannot encode."""
        if self._console.options.ascii_only:
            text.plain = text.plain.translate(_PLAIN)
        return text


def told(event: Event) -> str:
    """What an event says beyond its name, for people."""
    tell = _TELLING.get(event.name)
    return f"attempt {event.attempt}" if tell is None else tell(event)


def _failed(event: Any) -> str:
    hint = "" if event.retry_after is None else f", Retry-After {event.retry_after:g} s"
    return f"attempt {event.attempt}: {_what(event)}{hint} → {event.action.replace('_', ' ')}  ({event.rule})"


def _what(event: Any) -> str:
    if event.status is None:
        return f"{event.error}, {_PHASES[event.phase]}"
    answer = f"{event.status} {event.code or ''}".strip()
    return answer if event.error == "Response" else f"{event.error} after {answer}"


def _opened(event: Any) -> str:
    return f"tripped by {event.tripped_by}; nothing passes for {event.cooldown:g} s"


def _rejected(event: Any) -> str:
    later = "" if event.retry_after is None else f"; again in {event.retry_after:.2f} s"
    return f"nothing is sent{later}"


def _refresh_failed(event: Any) -> str:
    return f"{event.reason}: {event.error} {event.status or ''}".strip()


_PHASES: Mapping[str, str] = {"not_sent": "never sent", "refused": "no work was done", "unknown": "the work may have been done"}

_WHERE: Mapping[str, str] = {
    "before": "before an attempt",
    "attempt": "in the middle of an attempt",
    "waiting": "in the middle of a wait",
    "streaming": "in the middle of the body",
}

_REASONS: Mapping[str, str] = {
    "attempts": "no attempts left",
    "cancelled": "the task is being cancelled",
    "deadline": "the wait would outlast the deadline",
    "hint": "the server asks for more patience than the caller allows",
    "rejected": "the circuit is open",
    "unsafe": "repeating could do the work twice",
    "unrepeatable": "the body cannot be sent again",
}

_TELLING: Mapping[str, Callable[[Any], str]] = {
    "call.succeeded": lambda event: f"at the first attempt, after {event.elapsed:.2f} s",
    "call.recovered": lambda event: f"at attempt {event.attempt}, after {event.elapsed:.2f} s",
    "call.failed_fast": lambda event: f"{_what(event)} is final",
    "attempt.failed": _failed,
    "retry.scheduled": lambda event: f"attempt {event.attempt + 1} in {event.delay:.2f} s ({event.delay_source})",
    "retry.gave_up": lambda event: f"{_REASONS.get(event.reason, 'no further attempt')} ({event.reason})",
    "token.refreshed": lambda event: f"generation {event.generation}, for everyone who waits for it",
    "token.joined": lambda event: f"waits for generation {event.generation}, which is under way",
    "token.refresh_failed": _refresh_failed,
    "key.taken": lambda event: f"one for every attempt of this call ({event.source})",
    "engine.nested": lambda event: f"inside a call of engine {event.outer!r}: they share repeats, deadline and refreshes",
    "breaker.opened": _opened,
    "breaker.half_opened": lambda _event: "one probe may pass",
    "breaker.closed": lambda _event: "traffic flows again",
    "breaker.rejected": _rejected,
    "deadline.exceeded": lambda event: f"the call's time is up ({_WHERE[event.where]})",
}
