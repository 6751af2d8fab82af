"""
The README does what it says: every block of Python in it runs, and prints what stands beside it.

A block that starts an event loop is a program of its own.  All the others follow one another, as at the prompt of ``python -m asyncio``.
"""

from __future__ import annotations

import ast
import codeop
import contextlib
import inspect
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import httpx2
import pytest

from resilience import AttemptTimeout, CircuitBreaker, Deadline, Engine, Env, Retry, callmissed, log
from resilience.demo.tour_scenarios import SCENARIOS
from resilience.events import Event, RetryScheduled
from resilience.testing import World

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@attrs.frozen
class Block:
    """
    A fenced block.

    Args:
        line: Where it begins, in the README.
        code: What is in it.
    """

    line: int
    code: str

    @property
    def is_program(self) -> bool:
        return "anyio.run(" in self.code

    @property
    def expected(self) -> list[str]:
        """What is to be printed, from the comments beside the prints."""
        return re.findall(r"^ *print\(.*\)  # (.+)$", self.code, flags=re.MULTILINE)

    def statements(self) -> Iterator[Any]:
        """Its statements, read line by line as the prompt reads them: a blank line ends what is indented."""
        compiler = codeop.CommandCompiler()
        compiler.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        lines: list[str] = []
        for line in [*self.code.splitlines(), ""]:
            lines.append(line)
            statement = compiler("\n".join(lines), f"README.md, line {self.line} and on", "single")
            if statement is not None:
                yield statement
                lines = []
        assert not lines


def blocks(language: str) -> list[Block]:
    found = re.finditer(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    return [Block(README.count("\n", 0, match.start()) + 1, match[1]) for match in found]


PROGRAMS = [block for block in blocks("python") if block.is_program]
PROMPT = [block for block in blocks("python") if not block.is_program]


@contextlib.contextmanager
def printing(expected: list[str]) -> Iterator[None]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        yield
    assert expected == out.getvalue().splitlines()


@pytest.mark.parametrize("block", PROGRAMS, ids=lambda block: f"line {block.line}")
def test_a_program_in_the_readme_prints_what_it_says(block: Block) -> None:
    with printing(block.expected):
        exec(compile(block.code, "README.md", "exec", dont_inherit=True), {"__name__": "__main__"})


@pytest.mark.anyio
async def test_the_blocks_in_the_readme_follow_one_another_and_print_what_they_say() -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    clients: dict[int, Any] = {}  # a name may be given to another one
    try:
        for block in PROMPT:
            with printing(block.expected):
                for statement in block.statements():
                    running = eval(statement, names)
                    if inspect.isawaitable(running):
                        await running
            clients.update((id(value), value) for value in names.values() if isinstance(value, httpx2.AsyncClient))
        counted = names["server"].counts()
    finally:
        for client in clients.values():
            await client.aclose()
        if "server" in names:
            names["server"].__exit__(None, None, None)

    assert (0, ()) == (counted.unplayed, counted.crashes)


def test_no_block_of_python_prints_unseen() -> None:
    """A print without its comment would be checked against nothing; so would a block in another guise."""
    prints = [line for block in blocks("python") for line in block.code.splitlines() if re.match(r" *print\(", line)]

    assert len(prints) == sum(len(block.expected) for block in blocks("python"))
    assert {"python", "sh", "text"} == set(re.findall(r"^```(\w+)$", README, flags=re.MULTILINE))
    assert (1, 9) <= (len(PROGRAMS), len(PROMPT))


@pytest.mark.anyio
async def test_the_line_of_the_log_is_the_one_that_is_written(world: World) -> None:
    heard: list[Event] = []
    env: Env = attrs.evolve(world.env, emit=heard.append)
    engine = Engine([Deadline(30), Retry(attempts=4), CircuitBreaker(), AttemptTimeout(10)], rules=callmissed.RULES, env=env)

    @attrs.frozen
    class Response:
        status_code: int
        content: bytes
        headers: dict[str, str] = attrs.field(factory=dict)

    answers = iter([Response(503, b'{"error": {"code": "provider_error", "type": "provider_error"}}'), Response(200, b"{}")])

    async def list_bots() -> Response:
        return next(answers)

    list_bots.__qualname__ = "list_bots"  # as at the top of a module
    await engine.call(list_bots)
    event = next(event for event in heard if isinstance(event, RetryScheduled))

    [written] = blocks("text")
    assert " ".join(written.code.splitlines()) == log._render(None, event.level, {"event": event.name, **log.fields(event)})


def test_the_names_of_events_are_those_there_are() -> None:
    listed = README[README.index("The names: ") :].partition("\n\n")[0]
    known, todo = set(), [Event]
    while todo:
        kind = todo.pop()
        todo.extend(kind.__subclasses__())
        known.add(getattr(kind, "name", None))

    assert set() == set(re.findall(r"`([a-z_.]+)`", listed)) - known


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", README))
def test_a_link_leads_somewhere(link: str) -> None:
    assert "://" in link or (ROOT / link).is_file()


@pytest.mark.parametrize("picture", ["demo.svg", "flow.svg"])
def test_a_picture_fetches_nothing_from_elsewhere(picture: str) -> None:
    drawn = (ROOT / "docs" / picture).read_text(encoding="utf-8")

    assert [] == re.findall(r"(?:url\(|href=)[\"']?(?!#)[^\s)]+", drawn)
    assert "<script" not in drawn


def test_the_captured_demo_shows_scenarios_there_are() -> None:
    drawn = (ROOT / "docs" / "demo.svg").read_text(encoding="utf-8").replace("&#160;", " ")
    shown = [scenario for scenario in SCENARIOS if f">{scenario.title}<" in drawn]

    assert f"All {len(shown)} scenarios ended as documented" in drawn


def test_no_line_of_code_is_wider_than_a_page() -> None:
    assert [] == [
        line for language in ("python", "sh", "text") for block in blocks(language) for line in block.code.splitlines() if len(line) > 106
    ]


def test_targets_that_are_named_are_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", README, flags=re.MULTILINE))

    assert {"demo", "test"} <= named
    assert set() == {target for target in named if not re.search(rf"^{target}:", makefile, flags=re.MULTILINE)}
