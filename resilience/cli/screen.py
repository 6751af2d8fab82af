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
_WORDS = {"retry": "retry", "fail_fast": "fail fast", "refresh_token": "refresh token"}


def show(question: Question, answer: dict[str, Any]) -> None:
    """Print *answer*."""
    console = Console(highlight=False)
    if question.command == "dialects":
        for name, rows in answer.items():
            console.print(_table(name, rows))
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


def _table(name: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(title=name, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in ("by", "key", "action", "blames", "from"):
        table.add_column(column, no_wrap=column != "key", overflow="fold")
    for row in rows:
        table.add_row(row["by"], escape(row["key"]), _action(row), row["blames"], escape(row["rule"].partition(":")[0]))
    return table
