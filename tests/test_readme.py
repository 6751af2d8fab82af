"""
The README does what it says: every block of Python in it runs, and prints what stands beside it.

What holds for every page (links, widths, the command line) is in `tests.test_docs`.
"""

from __future__ import annotations

import re
import tomllib

import attrs
import pytest

from resilience import AttemptTimeout, CircuitBreaker, Deadline, Engine, Env, Retry, callmissed, events, log
from resilience.demo.tour_scenarios import SCENARIOS
from resilience.events import Event, RetryScheduled
from resilience.testing import World
from tests.pages import ROOT, Block, Page, printing, run

PAGE = Page("README.md")
README = PAGE.text
PROGRAMS = [block for block in PAGE.blocks("python") if block.is_program]
PROMPT = [block for block in PAGE.blocks("python") if block.is_at_the_prompt]


@pytest.mark.parametrize("block", PROGRAMS, ids=lambda block: f"line {block.line}")
def test_a_program_in_the_readme_prints_what_it_says(block: Block) -> None:
    with printing(block.expected):
        exec(compile(block.code, "README.md", "exec", dont_inherit=True), {"__name__": "__main__"})


@pytest.mark.anyio
async def test_the_blocks_in_the_readme_follow_one_another_and_print_what_they_say() -> None:
    await run(PROMPT, {})


def test_there_are_blocks_to_run() -> None:
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

    [written] = PAGE.blocks("text")
    assert " ".join(written.code.splitlines()) == log._render(None, event.level, {"event": event.name, **log.fields(event)})


def test_the_names_of_events_are_those_there_are() -> None:
    listed = README[README.index("The names: ") :].partition("\n\n")[0]
    known = {getattr(events, kind).name for kind in events.__all__ if kind != "Event"}

    assert known == set(re.findall(r"`([a-z_.]+)`", listed))


def test_the_reasons_to_give_up_are_those_there_are() -> None:
    given = r"(?:GiveUp\(|gave_up\(call, \w+, |RetryGaveUp, failure, reason=|\.final = |barred = |return )\"([a-z_]+)\""
    files = [
        "decide/retry.py",
        "call.py",
        "ending.py",
        "repeating.py",
        "stream.py",
        *(f"policies/{name}.py" for name in ("retry", "refresh")),
    ]
    known = {reason for file in files for reason in re.findall(given, (ROOT / "resilience" / file).read_text(encoding="utf-8"))}

    assert known == {row[0].strip("`") for row in PAGE.table("The log")}


def test_the_order_in_which_to_read_is_that_of_the_imports() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    layers = [layer.strip("()") for layer in reversed(next(contract for contract in contracts if "layers" in contract)["layers"])]
    listed = PAGE.section("The rest").partition("those before it: ")[2].partition("`make")[0]
    named = [name.removesuffix(".py").strip("/") for name in re.findall(r"`(\w+(?:\.py|/))`", listed)]

    assert named == [layer for layer in layers if layer in named]


@pytest.mark.parametrize("picture", ["demo.svg", "flow.svg"])
def test_a_picture_fetches_nothing_from_elsewhere(picture: str) -> None:
    drawn = (ROOT / "docs" / picture).read_text(encoding="utf-8")

    assert [] == re.findall(r"(?:url\(|href=)[\"']?(?!#)[^\s)]+", drawn)
    assert "<script" not in drawn


def test_the_captured_demo_shows_scenarios_there_are() -> None:
    drawn = (ROOT / "docs" / "demo.svg").read_text(encoding="utf-8").replace("&#160;", " ")
    shown = [scenario for scenario in SCENARIOS if f">{scenario.title}<" in drawn]

    assert f"All {len(shown)} scenarios ended as documented" in drawn


def test_targets_that_are_named_are_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", README, flags=re.MULTILINE))

    assert {"demo", "test"} <= named
    assert set() == {target for target in named if not re.search(rf"^{target}:", makefile, flags=re.MULTILINE)}
