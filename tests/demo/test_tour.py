"""
The tour: every scenario, played for real, once.

This is also the engine's acceptance test against a server that it shares nothing with.  Waits are real here, a few seconds in all.
"""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import attrs
import pytest
from rich.console import Console

from resilience.demo import tour
from resilience.demo.faults import Hang
from resilience.demo.tour import Documented, Report, Run, Scenario
from resilience.demo.tour_command import main, play
from resilience.demo.tour_scenarios import SCENARIOS
from resilience.demo.tour_screen import _COLOURS, _REASONS, _TELLING
from resilience.events import Event

ROOT = Path(__file__).parents[2]

# Whatever is scripted, a child of ours heeds neither the settings of who runs the tests nor their terminal.
PLAIN = {**{name: value for name, value in os.environ.items() if name not in {"FORCE_COLOR", "COLUMNS"}}, "PYTHONIOENCODING": "utf-8"}

HEALTHY = next(scenario for scenario in SCENARIOS if scenario.name == "healthy")


@attrs.frozen
class Performance:
    shown: str
    reports: dict[str, Report]
    seconds: float


def perform(*scenarios: Scenario, **settings: Any) -> Performance:
    out = io.StringIO()
    began = time.monotonic()
    reports = play(scenarios, Console(file=out, width=160, highlight=False, markup=False, emoji=False, **settings))
    return Performance(out.getvalue(), {report.scenario.name: report for report in reports}, time.monotonic() - began)


@pytest.fixture(scope="module")
def whole() -> Performance:
    """The whole tour, played once for this file."""
    return perform(*SCENARIOS)


@pytest.mark.parametrize("name", [scenario.name for scenario in SCENARIOS])
def test_a_scenario_ends_as_documented(whole: Performance, name: str) -> None:
    """What the caller got, and what the server counted."""
    assert () == whole.reports[name].problems


def test_the_tour_takes_under_thirty_seconds(whole: Performance) -> None:
    assert whole.seconds < 30


def test_a_hundred_calls_share_one_refresh(whole: Performance) -> None:
    """D5, where refreshing is limited to five a minute."""
    report = whole.reports["expired-token"]

    assert (200, 1, "200 x100") == (report.attempts, report.refreshes, report.got)
    assert "401 x100, 200 x100; 1 refresh" == report.counted


def test_each_decision_is_shown_with_its_name_in_the_log(whole: Performance) -> None:
    begin = whole.shown.index("503, then well again")
    names = re.findall(r"^ +[0-9.]+  ([a-z._]+) ", whole.shown[begin : whole.shown.index("503 for good")], flags=re.MULTILINE)

    assert ["attempt.failed", "retry.scheduled", "call.recovered"] == names


def test_the_closing_table_has_a_row_for_each_scenario(whole: Performance) -> None:
    table = whole.shown[whole.shown.index("the server counted") :]

    assert [] == [scenario.title for scenario in SCENARIOS if f"✓  {scenario.title}" not in table]
    assert f"All {len(SCENARIOS)} scenarios ended as documented" in table


def test_without_a_terminal_there_is_no_colour(whole: Performance) -> None:
    assert "\x1b" not in whole.shown


def test_on_a_terminal_there_is() -> None:
    assert "\x1b[1;32m✓ as documented" in perform(HEALTHY, force_terminal=True, color_system="standard").shown


def test_where_signs_cannot_be_encoded_there_are_others() -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    play([HEALTHY], Console(file=out, width=160))
    out.flush()

    assert b"+ as documented" in out.buffer.getvalue()


def test_what_is_said_of_events_is_said_of_events_there_are() -> None:
    """A renamed event would lose its words without a sound."""
    known, todo = set(), [Event]
    while todo:
        kind = todo.pop()
        todo.extend(kind.__subclasses__())
        known.add(getattr(kind, "name", None))

    assert set() == (set(_TELLING) | set(_COLOURS)) - known


def test_every_reason_to_give_up_has_words(whole: Performance) -> None:
    """Those that the tour meets; the others fall back on fewer."""
    given = set(re.findall(r"retry\.gave_up +.* \((\w+)\)$", whole.shown, flags=re.MULTILINE))

    assert {"attempts", "deadline", "hint", "unsafe"} == given <= set(_REASONS)


def test_scenarios_have_names_of_their_own() -> None:
    assert len(SCENARIOS) == len({scenario.name for scenario in SCENARIOS}) == len({scenario.title for scenario in SCENARIOS})


# When something is not as documented


def differently(scenario: Scenario, **ends: Any) -> Scenario:
    return attrs.evolve(scenario, ends=attrs.evolve(scenario.ends, **ends))


@pytest.mark.parametrize(
    ("ends", "problem"),
    [
        ({"got": "503"}, "the caller got: expected 503, got 200"),
        ({"served": "503, 200"}, "the server answered: expected 503, 200, got 200"),
        ({"attempts": 2}, "attempts: expected 2, got 1"),
        ({"waits": 1}, "waits: expected 1, got 0"),
        ({"waited": (1.0, 2.0)}, "waited 0.00 s, expected 1 to 2 s"),
        ({"refreshes": 1}, "refreshes: expected 1, got 0"),
        ({"effects": {"call.placed": 1}}, "effects: expected {'call.placed': 1}, got {}"),
        ({"replays": 1}, "replays: expected 1, got 0"),
    ],
)
def test_an_end_that_is_not_as_documented_is_told(ends: dict[str, Any], problem: str) -> None:
    assert problem in perform(differently(HEALTHY, **ends)).reports["healthy"].problems


def test_one_wrong_end_marks_the_scenario_and_is_the_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = attrs.evolve(differently(HEALTHY, attempts=2), name="wrong", title="A wrong expectation")

    status = main([], [wrong, HEALTHY])

    shown = capsys.readouterr().out
    assert 1 == status
    assert "✗ NOT AS DOCUMENTED" in shown
    assert "✗  A wrong expectation" in shown
    assert "✓  A healthy call" in shown
    assert "1 of 2 scenarios did not end as documented: wrong." in shown


def test_a_scenario_that_breaks_is_a_failure_and_the_next_is_played(capsys: pytest.CaptureFixture[str]) -> None:
    async def broken(run: Run) -> None:
        raise LookupError("lost my script")

    status = main([], [Scenario(name="broken", title="Broken", says="", ends=Documented(got="200", served="200"), play=broken), HEALTHY])

    told = capsys.readouterr()
    assert 1 == status
    assert "the scenario broke: LookupError('lost my script')" in told.out
    assert "in broken" in told.err
    assert "✓  A healthy call" in told.out


def test_a_scenario_that_does_not_end_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tour, "PATIENCE", 0.05)
    hung = next(scenario for scenario in SCENARIOS if scenario.name == "hung")

    assert "the scenario broke: TimeoutError()" in perform(hung).reports["hung"].problems


def test_a_fault_that_no_request_met_is_a_failure() -> None:
    async def idle(run: Run) -> None:
        run.server.script("GET /api/v1/bots", Hang())

    report = perform(Scenario(name="idle", title="Idle", says="", ends=Documented(got="nothing", served="nothing", attempts=0), play=idle))

    assert ("faults that no request met: expected 0, got 1",) == report.reports["idle"].problems


# As a command


def command(*arguments: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "resilience.demo", *arguments]
    return subprocess.Popen(line, cwd=ROOT, env=PLAIN, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8")


def test_the_list_names_every_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == main(["--list"])

    assert [scenario.name for scenario in SCENARIOS] == [line.split()[0] for line in capsys.readouterr().out.splitlines()]


def test_only_what_was_asked_for_is_played(capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == main(["--only", "healthy"])

    assert "The scenario ended as documented" in capsys.readouterr().out


def test_an_unknown_name_is_a_mistake_in_the_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["--only", "nonsense"])

    assert 2 == leaving.value.code
    assert "'nonsense'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("scenario", "line"),
    [
        pytest.param("rate-limit", "retry.scheduled", id="while the engine waits"),
        pytest.param("hung", "documented:", id="while a request hangs"),
        pytest.param("expired-token", "documented:", id="while a hundred calls are under way"),
    ],
)
def test_ctrl_c_leaves_no_process_and_no_traceback(scenario: str, line: str) -> None:
    with command("--only", scenario) as process:
        assert process.stdout is not None
        while line not in process.stdout.readline():
            pass
        time.sleep(0.05)  # into it
        process.send_signal(signal.SIGINT)
        shown, errors = process.communicate(timeout=10)

    assert (130, "") == (process.returncode, errors)
    assert shown.endswith("\nInterrupted.\n")


def test_a_reader_who_has_seen_enough_gets_no_traceback() -> None:
    """As in ``make demo | head``."""
    with command() as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        process.wait(timeout=10)

        assert "" == process.stderr.read()
