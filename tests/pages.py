"""
Pages that do what they say: the blocks of code in them run, and print what stands beside them.

A block of Python that starts an event loop is a program of its own.  One whose first line is a file's name, ``# acme.py``, is that file.
All others follow one another, as at the prompt of ``python -m asyncio``.  A block of ``console`` is a session with the command line.
"""

from __future__ import annotations

import ast
import codeop
import contextlib
import inspect
import io
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs

from resilience.demo.serve import Server

__all__ = ["ROOT", "WIDTH", "Block", "Page", "printing", "run"]

ROOT = Path(__file__).parents[1]
WIDTH = 106
"""Columns that a block of code has on a page before it scrolls."""


@attrs.frozen
class Block:
    """
    A fenced block.

    Args:
        page: The page's name.
        line: Where it begins there.
        section: The heading of the second level that it stands under; empty before the first.
        code: What is in it.
    """

    page: str
    line: int
    section: str
    code: str

    @property
    def is_program(self) -> bool:
        return "anyio.run(" in self.code

    @property
    def file(self) -> str | None:
        """The name of the file that it is."""
        named = re.match(r"# (\w+\.py)\n", self.code)
        return None if named is None else named[1]

    @property
    def is_at_the_prompt(self) -> bool:
        return not self.is_program and self.file is None

    @property
    def expected(self) -> list[str]:
        """What is to be printed, from the comments beside the prints."""
        return re.findall(r"^ *print\(.*\)  # (.+)$", self.code, flags=re.MULTILINE)

    @property
    def session(self) -> list[tuple[list[str], list[str]]]:
        """Of a console: each command's arguments, and the lines that answer it."""
        said: list[tuple[list[str], list[str]]] = []
        for line in self.code.splitlines():
            if line.startswith("$ "):
                said.append((shlex.split(line[2:], comments=True), []))
            else:
                said[-1][1].append(line)
        return said

    def statements(self) -> Iterator[Any]:
        """Its statements, read line by line as the prompt reads them: a blank line ends what is indented."""
        compiler = codeop.CommandCompiler()
        compiler.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        lines: list[str] = []
        for line in [*self.code.splitlines(), ""]:
            lines.append(line)
            statement = compiler("\n".join(lines), f"{self.page}, line {self.line} and on", "single")
            if statement is not None:
                yield statement
                lines = []
        assert not lines


class Page:
    """
    A page of Markdown.

    Args:
        path: Where it is, from the root of the repository.
    """

    def __init__(self, path: str) -> None:
        self.name = path
        self.path = ROOT / path
        self.text = self.path.read_text(encoding="utf-8")

    def __repr__(self) -> str:
        return self.name

    def blocks(self, language: str) -> list[Block]:
        found = re.finditer(rf"^```{language}\n(.*?)^```$", self.text, flags=re.MULTILINE | re.DOTALL)
        return [Block(self.name, self._line(match.start()), self._section(match.start()), match[1]) for match in found]

    @property
    def languages(self) -> set[str]:
        """Of all its blocks; a block in another guise would be read by nobody."""
        return set(re.findall(r"^ *```(.*)$", self.text, flags=re.MULTILINE)) - {""}

    @property
    def links(self) -> list[str]:
        return re.findall(r"\]\(([^)]+)\)", self._prose())

    @property
    def anchors(self) -> set[str]:
        """Its headings as GitHub makes links of them."""
        headings = re.findall(r"^#+ (.+)$", self._prose(), flags=re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

    def section(self, heading: str) -> str:
        """What stands under a heading of the second level, the heading included."""
        found = re.search(rf"^## {re.escape(heading)}\n.*?(?=^## |\Z)", self._prose(), flags=re.MULTILINE | re.DOTALL)
        assert found is not None, f"{self.name} has no section {heading!r}"
        return self.text[slice(*found.span())]

    def table(self, heading: str) -> list[list[str]]:
        """The rows of the first table under *heading*, its head left out."""
        lines = [line for line in self.section(heading).splitlines() if line.startswith("| ")]
        return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines if not set(line) <= set("|- ")][1:]

    def _prose(self) -> str:
        """The text with its code blanked out, so that no comment there is taken for a heading; places stay where they are."""
        return re.sub(r"^```.*?^```$", lambda block: re.sub(r"[^\n]", " ", block[0]), self.text, flags=re.MULTILINE | re.DOTALL)

    def _line(self, place: int) -> int:
        return self.text.count("\n", 0, place) + 1

    def _section(self, place: int) -> str:
        headings = re.findall(r"^## (.+)$", self._prose()[:place], flags=re.MULTILINE)
        return headings[-1] if headings else ""


@contextlib.contextmanager
def printing(expected: list[str]) -> Iterator[None]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        yield
    printed = out.getvalue().splitlines()
    assert expected == printed, f"expected {expected}, got {printed}"


async def run(blocks: Iterable[Block], names: dict[str, Any]) -> None:
    """
    Run *blocks* in turn, as at the prompt, and close what they leave open.

    Args:
        blocks: The blocks.
        names: What the reader has beside them.
    """
    names |= {"__name__": "__main__"}
    left: dict[int, Any] = {}  # a name may be given to another one
    server: Server | None = None
    try:
        for block in blocks:
            with printing(block.expected):
                for statement in block.statements():
                    running = eval(statement, names)
                    if inspect.isawaitable(running):
                        await running
            left.update((id(value), value) for value in names.values() if not isinstance(value, type | ModuleType))
            server = names.get("server")
        if server is not None:
            assert (0, ()) == (server.counts().unplayed, server.counts().crashes)
    finally:
        for held in left.values():
            close = getattr(held, "aclose", None) or getattr(held, "close", None)
            closing = close() if callable(close) else None
            if inspect.isawaitable(closing):
                await closing
        if server is not None:
            server.__exit__(None, None, None)
