"""
The command line: what would happen, asked before it does.

    resilience classify --dialect callmissed 401 token_expired
    resilience classify --dialect openai --response failed.http --json
    resilience dialects stripe

What is asked is read and classified by the very code that engines use; nothing is sent anywhere.  It ends with status 0 where there was an
answer, and with 2 and one line on stderr where the question made no sense.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from resilience.cli.arguments import Question, UsageError, parsed
from resilience.cli.dialects import named, rules_of, table
from resilience.cli.explain import explain

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """
    Answer one question.

    Args:
        argv: The arguments after the program's name; the process's own by default.

    Returns:
        The exit status.
    """
    try:
        question = parsed(sys.argv[1:] if argv is None else argv)
        answer = _classified(question) if question.command == "classify" else _listed(question)
    except UsageError as error:
        print(f"resilience: {error}", file=sys.stderr)  # noqa: T201 - it is what a command line does
        return 2
    try:
        return _shown(question, answer)
    except BrokenPipeError:
        # Whoever reads has seen enough.  What Python would write on its way out goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _shown(question: Question, answer: dict[str, object]) -> int:
    if question.json:
        print(json.dumps(answer, indent=2), flush=True)  # noqa: T201
        return 0
    try:
        from resilience.cli import screen  # noqa: PLC0415 - what it draws with is an extra
    except ImportError:
        print("resilience: this needs rich: pip install 'resilience-engine[cli]', or ask for --json", file=sys.stderr)  # noqa: T201
        return 2
    screen.show(question, answer)
    return 0


def _classified(question: Question) -> dict[str, object]:
    return explain(rules_of(question.dialect), question)


def _listed(question: Question) -> dict[str, object]:
    return {name: table(rules_of(name)) for name in ([question.dialect] if question.dialect else named())}
