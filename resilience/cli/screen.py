"""Answers for people, drawn with rich."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from resilience.cli.arguments import Question

__all__ = ["show"]

_COLOURS = {"retry": "yellow", "fail_fast": "red", "refresh_token": "cyan"}
# What a table may have beside its entries; the text is for those that do not say it themselves.
_NOTES = {"by_result": "", "by_item": "", "creates_nothing": "", "word_first": "The peer's own word comes before all entries."}
_WORDS = {"retry": "retry", "fail_fast": "fail fast", "refresh_token": "refresh token"}


def show(question: Question, answer: dict[str, Any]) -> None:
    """Print *answer*."""
    console = Console(highlight=False)
    if question.command == "dialects":
        for name, rows in answer.items():
            console.print(f"[bold]{escape(name)}[/]", *_notes(rows), _table(rows), sep="\n", end="\n\n")
    else:
        console.print(escape(answer["why"]) if answer["action"] is None else _verdict(answer))


def _action(verdict: dict[str, Any]) -> str:
    slower = ", slower" if verdict["throttled"] else ""
    most = "" if verdict["attempts"] is None else f", {verdict['attempts']} at most"
    return f"[{_COLOURS[verdict['action']]}]{_WORDS[verdict['action']]}[/]{slower}{most}"


def _verdict(answer: dict[str, Any]) -> Table:
    asked = ", ".join(f"{name} {answer[name]}" for name in ("status", "code", "kind") if answer[name] is not None)
    lines = {
        "read": escape(asked or "nothing but the message"),
        "action": _action(answer),
        "rule": escape(answer["rule"]),
        "hint": "none" if answer["retry_after"] is None else f"wait {answer['retry_after']:g} s",
        "phase": answer["phase"].replace("_", " "),
        "blames": answer["blames"],
    }
    for what, told in answer["repeated"].items():
        lines[escape(what)] = f"[bold]{'repeated' if told['repeated'] else 'not repeated'}[/]: {told['why']}"
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    for what, said in lines.items():
        grid.add_row(what, said)
    return grid


def _notes(said: dict[str, Any]) -> list[str]:
    notes = {what: said[what] for what in _NOTES if said[what]}
    return [escape(f"{what}: {text if isinstance(text, str) else _NOTES[what]}") for what, text in notes.items()]


def _table(said: dict[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    for column in ("by", "key", "action", "blames", "from"):
        table.add_column(column, no_wrap=column != "key", overflow="fold")
    before = ""
    for row in said["entries"]:
        by = "" if row["by"] == before else row["by"]
        before = row["by"]
        table.add_row(by, escape(row["key"]), _action(row), row["blames"], escape(row["rule"].partition(":")[0]))
    return table
