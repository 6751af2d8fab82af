"""What was asked on the command line, checked."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

import attrs

from resilience.reading.peek import word as word_of

__all__ = ["Question", "UsageError", "parsed"]

_STATUS = "[1-5][0-9]{2}"
_NEARLY = "[0-9]{1,3}"  # as the only word a mistake rather than a code
_METHOD = "[A-Za-z]+(?:[-_ ][A-Za-z]+)*"  # a command of Redis's too


class UsageError(Exception):
    """The question makes no sense; the message is one line that says why."""


@attrs.frozen(kw_only=True)
class Question:
    """
    One question.

    Args:
        command: ``"classify"`` or ``"dialects"``.
        dialect: A dialect's name, or ``module:NAME``; of ``dialects``, empty for all of them.
        json: Whether to answer in JSON.
        status: The failure's status, 100 to 599.
        code: Its error code.
        kind: Its type or family.
        message: The peer's words.
        retry_after: The value of its ``Retry-After``.
        response: A file with a whole response as it came over the wire; ``-`` for stdin.
        method: The request's method, in capitals.
        path: Its path.
    """

    command: str
    dialect: str = "http"
    json: bool = False
    status: int | None = None
    code: str | None = None
    kind: str | None = None
    message: str | None = None
    retry_after: str | None = None
    response: str | None = None
    method: str = "POST"
    path: str = ""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def parsed(argv: Sequence[str]) -> Question:
    """
    The question in *argv*.

    Raises:
        UsageError: There is none.
    """
    given = vars(_parser().parse_args(argv))
    words: list[str] = given.pop("words", [])
    question = Question(**{name: value for name, value in given.items() if value is not None})
    if question.command == "dialects":
        return question
    for word in words:
        if re.fullmatch(_STATUS, word) and question.status is None:
            question = attrs.evolve(question, status=int(word))
        elif question.code is None:
            question = attrs.evolve(question, code=word)
        else:
            raise UsageError(f"expected a status and a code, got {' '.join(words)!r}")
    said = [name for name in ("status", "code", "kind", "message", "retry_after") if getattr(question, name) is not None]
    if question.response is None and not {*said} - {"retry_after"}:
        raise UsageError("expected a failure to classify: a status, a code, or --response FILE")
    if question.response is not None and said:
        raise UsageError(f"--response says all there is to say; expected no {said[0].replace('_', '-')} beside it")
    if question.status is None and question.code is not None and re.fullmatch(_NEARLY, question.code):
        raise UsageError(f"expected a status of 100 to 599, or an error code, got {question.code!r}")
    for name, given_word in (("code", question.code), ("--kind", question.kind)):
        if given_word is not None and word_of(given_word) != given_word:
            raise UsageError(f"{name}: expected 1 to 128 printable characters of ASCII, got {given_word!r}")
    if not re.fullmatch(_METHOD, question.method):
        raise UsageError(f"--method: expected an HTTP method, got {question.method!r}")
    return attrs.evolve(question, method=question.method.upper())


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="resilience", description="What would an engine do?", allow_abbrev=False)
    commands: Any = parser.add_subparsers(dest="command", required=True, metavar="{classify,dialects}", parser_class=_Parser)
    classify = commands.add_parser(
        "classify", allow_abbrev=False, help="what a failure calls for", description="What a failure calls for, and why."
    )
    classify.add_argument("words", nargs="*", metavar="STATUS CODE", help="the failure's status (100 to 599), its error code, or both")
    classify.add_argument("--dialect", metavar="NAME", help="whose failure it is, as `resilience dialects` has it, or module:NAME (http)")
    classify.add_argument("--kind", help="the error's type or family, where the peer names one")
    classify.add_argument("--message", help="the peer's words")
    classify.add_argument("--retry-after", metavar="VALUE", help="the value of its Retry-After")
    classify.add_argument("--response", metavar="FILE", help="a whole response as `curl -i` prints it; - for stdin")
    classify.add_argument("--method", metavar="METHOD", help="the request's method, or the command (POST)")
    classify.add_argument("--path", metavar="PATH", help="its path: some requests create nothing, and may be repeated all the same")
    classify.add_argument("--json", action="store_true", help="answer in JSON")
    dialects = commands.add_parser(
        "dialects", allow_abbrev=False, help="the tables", description="The tables by which failures are classified."
    )
    dialects.add_argument("dialect", nargs="?", default="", metavar="NAME", help="only this one")
    dialects.add_argument("--json", action="store_true", help="answer in JSON")
    return parser
