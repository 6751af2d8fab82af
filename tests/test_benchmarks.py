"""What the benchmarks do with what they measure.  Nothing is measured here: a test that takes the time fails by the machine."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import attrs
import pytest

from benchmarks import __main__ as command
from benchmarks import failure_path, happy_path, loopback, peers, picture, tables
from benchmarks.aims import AIMS, BESIDE, FAILURES, HAPPY, LOOPBACK, aimed, missed
from benchmarks.figures import Curve, Figure
from benchmarks.results import Result, load
from benchmarks.rounds import Wrap

FOLDER = Path(command.__file__).parent

SAID = Figure("+ Retry", 8.0, "W", group=HAPPY, beside={"low": 7.5, "high": 8.25, "suspending": 9.0}, side="ours")
RESULT = Result(
    aimed(
        [
            SAID,
            Figure("their <retry> & more", 300.5, "W", group=HAPPY, side="theirs"),
            Figure("recovered: everything on", 54.0, "loops", group=FAILURES, side="ours"),
            Figure("a row of no table that is drawn", 1.0, "µs", group="hints"),
        ]
    ),
    [Curve("calls at once", "calls", "µs", [(1.0, 2.0), (100.0, 2.5), (100_000.0, 2.25)], log=True), Curve("flat", "x", "y", [(0.0, 0.0)])],
    machine={"processor": "a processor", "system": "Linux", "python": "CPython 3.11.7"},
    versions={"resilience-engine": "0.1.0"},
    rounds=61,
    taken="2026-01-31",
)


def texts(svg: str) -> set[str]:
    return {"".join(element.itertext()) for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")}


# Aims


def test_a_figure_takes_its_aim_from_the_one_list() -> None:
    (figure,) = aimed([SAID])

    assert 8.5 == figure.aim


def test_a_figure_with_another_aim_than_the_one_in_the_list_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the happy path: \+ Retry: has an aim of 9 where benchmarks/aims\.py has 8\.5"):
        aimed([attrs.evolve(SAID, aim=9.0)])


@pytest.mark.parametrize("row", AIMS, ids=": ".join)
def test_a_figure_sixteen_per_cent_over_its_aim_is_named(row: tuple[str, str]) -> None:
    aim = AIMS[row]
    far = Figure(row[1], aim * 1.16 if aim else 1.0, "W", aim, row[0])

    assert [True] == [": ".join(row) in line for line in missed([far], [])]


@pytest.mark.parametrize("row", AIMS, ids=": ".join)
def test_a_figure_fourteen_per_cent_over_its_aim_passes(row: tuple[str, str]) -> None:
    near = Figure(row[1], AIMS[row] * 1.14, "W", AIMS[row], row[0])

    assert [] == missed([near], [])


def test_what_has_no_aim_is_not_checked() -> None:
    assert [] == missed([Figure("tenacity retry", 300.0, "W", group=HAPPY)], [])


def test_a_figure_that_is_no_number_does_not_pass() -> None:
    assert ["the happy path: + Retry: nan W, at most 8.5"] == missed([attrs.evolve(SAID, value=math.nan, aim=8.5)], [])


def test_an_aim_that_nothing_was_measured_for_is_missed() -> None:
    """A peer that is not installed, or a row that was renamed, must not make a check pass."""
    expected = [
        f"{BESIDE}: up to RefreshToken, of nopanic's retry, breaker: not measured",
        f"{BESIDE}: all, of asyncio.timeout alone: not measured",
        f"{BESIDE}: all, of nopanic's retry, breaker, timeout: not measured",
    ]

    assert expected == missed([SAID], [BESIDE])


def test_every_aim_belongs_to_a_benchmark_that_is_run() -> None:
    assert {group for group, _ in AIMS} == {group for benchmark in command.BENCHMARKS.values() for group in benchmark.groups}


def test_the_aims_are_those_that_were_set() -> None:
    """Figures get worse by and by, and aims must not follow them."""
    expected = {
        "engine, no policy": 7.5,
        "+ Retry": 8.5,
        "+ RefreshToken": 12.5,
        "+ IdempotencyKey, taken": 14.5,
        "+ Deadline, AttemptTimeout (all)": 30,
        "up to RefreshToken, of nopanic's retry, breaker": 0.72,
        "all, of asyncio.timeout alone": 1,
        "all, of nopanic's retry, breaker, timeout": 0.5,
        "recovered: everything on": 3,
        "httpx2: GET, wall time": 1.05,
        "up to 100,000 calls at once, one of which runs: growth": 1.1,
        "100 to 100,000 calls that take turns: growth, of a bare task's": 1.1,
        "each further pass-through policy": 1.5,
        "memory that 20 times as many calls take": 64,
        "memory of a call in flight: everything on": 1.5,
        "a breaker for each of 1,000,000 keys: to find one that is kept": 2,
        "a breaker for each of 1,000,000 keys: circuits kept": 1024,
        "objects left for the collector after success": 0,
        "objects left for the collector after two retries and success": 0,
        "objects left for the collector after exhaustion": 0,
        "objects left for the collector after rejection by an open breaker": 0,
        "objects left for the collector after the time of an attempt": 0,
        "objects left for the collector after the time of the call": 0,
        "objects left for the collector after cancellation": 0,
        "resilience, and what a first program names": 20,
    }

    assert expected == {row: aim for (_, row), aim in AIMS.items()}


# Each aim has a row that is measured


def test_each_aim_on_the_happy_path_has_its_row() -> None:
    assert {row for group, row in AIMS if group == HAPPY} <= set(happy_path.OURS)


def test_each_comparison_is_of_a_row_of_ours_with_one_that_is_there() -> None:
    theirs = {*peers.SUCCEEDING, *peers.WITH_TIMEOUT, *happy_path.FLOORS}

    assert {row for group, row in AIMS if group == BESIDE} <= set(happy_path.RATIOS)
    assert all(ours in happy_path.OURS and other in theirs for ours, other in happy_path.RATIOS.values())


def test_a_comparison_is_the_quotient_of_two_rows() -> None:
    def row(name: str, value: float) -> Figure:
        return Figure(name, value, "W", beside={"suspending": value * 2})

    (ratio,) = happy_path.ratios([row("+ RefreshToken", 12.0), row("nopanic retry, breaker", 18.0)])

    assert ("up to RefreshToken, of nopanic's retry, breaker", 12 / 18) == (ratio.row, ratio.value)


def test_each_aim_of_the_failure_path_has_its_row() -> None:
    assert {row for group, row in AIMS if group == FAILURES} <= set(failure_path.OURS)


def test_the_aim_on_loopback_has_its_row() -> None:
    client, wish = "httpx2", "GET"

    assert {f"{client}: {wish}, wall time"} == {row for group, row in AIMS if group == LOOPBACK}
    assert client in loopback.CLIENTS
    assert wish in loopback.WISHES


def test_the_last_result_has_all_aims_in_it() -> None:
    """Made by the whole command: a row that was renamed, or left out, shows here."""
    found = {(figure.group, figure.row): figure.aim for figure in load(FOLDER / "results.json").figures if figure.aim is not None}

    assert dict(AIMS) == found


def test_the_last_result_is_the_one_that_is_drawn_and_told() -> None:
    last = load(FOLDER / "results.json")
    page = (FOLDER / "README.md").read_text(encoding="utf-8")

    assert picture.draw(last) == (FOLDER / "results.svg").read_text(encoding="utf-8")
    assert command.page(page, last) == page


# Saved


def test_a_result_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    RESULT.save(tmp_path / "result.json")

    assert RESULT == load(tmp_path / "result.json")


# Told


def test_a_table_has_its_unit_aims_quartiles_and_what_else_there_is() -> None:
    expected = """\
| the happy path | W | at most | quartiles | suspending |
| --- | ---: | ---: | ---: | ---: |
| **ours** | | | | |
| + Retry | 8.0 | 8.5 | 7.5 to 8.2 | 9.0 |
| **theirs** | | | | |
| their <retry> & more | 300 | | | |"""

    assert expected == tables.table(HAPPY, tables.by_group(RESULT.figures)[HAPPY])


def test_aims_are_told_as_met_or_missed() -> None:
    expected = [
        "| the happy path: + Retry | 8.5 W | 8.0 W | 94% | met |",
        "| when something goes wrong: recovered: everything on | 3 loops | 54.0 loops | 1800% | **missed** |",
    ]

    assert expected == tables.aims(RESULT.figures).splitlines()[2:]


PAGE = """\
before
<!-- table: one -->
old
<!-- end of table -->
between
<!-- table: two -->
<!-- end of table -->
after
"""
RENEWED = r"""before
<!-- table: one -->

| 1 |

<!-- end of table -->
between
<!-- table: two -->

| \1 |

<!-- end of table -->
after
"""


@pytest.mark.parametrize("page", [PAGE, RENEWED], ids=["at first", "again"])
def test_tables_in_a_page_are_renewed_and_the_rest_is_left_alone(page: str) -> None:
    assert RENEWED == tables.rewritten(page, {"one": "| 1 |", "two": r"| \1 |"})


@pytest.mark.parametrize("times", [0, 2])
def test_a_table_must_have_one_place_in_the_page(times: int) -> None:
    with pytest.raises(ValueError, match=f"{times} places <!-- table: one -->"):
        tables.rewritten("<!-- table: one -->\n<!-- end of table -->\n" * times, {"one": "| 1 |"})


def test_a_place_must_end() -> None:
    with pytest.raises(ValueError, match="no <!-- end of table --> after <!-- table: one -->"):
        tables.rewritten("<!-- table: one -->\nthe rest\n", {"one": "| 1 |"})


# Drawn


def test_the_picture_names_every_row_with_an_aim_or_in_a_comparison() -> None:
    drawn = texts(picture.draw(RESULT))

    assert {"+ Retry", "their <retry> & more", "recovered: everything on", "calls at once"} <= drawn
    assert {"8.0, at most 8.5", "54.0 loops, at most 3"} <= drawn


def test_the_picture_needs_nothing_else() -> None:
    """Neither script nor font nor style from elsewhere: a page that shows it as an image loads none of them."""
    svg = picture.draw(RESULT)

    assert {"http://www.w3.org/2000/svg"} == set(re.findall(r"\w+://[^\"' )]+", svg))
    assert "<script" not in svg


def test_a_missed_aim_looks_different_from_one_that_is_met() -> None:
    classes = {
        "".join(text.itertext()): text.get("class") for text in ET.fromstring(picture.draw(RESULT)).iter("{http://www.w3.org/2000/svg}text")
    }

    assert "missed" == classes["54.0 loops, at most 3"]
    assert classes["8.0 W, at most 8.5"] is None


# The command


def test_the_check_names_what_is_missed_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RESULT.save(tmp_path / "result.json")

    assert 1 == command.main(["--saved", str(tmp_path / "result.json"), "--only", "failure", "--check"])
    assert "missed: when something goes wrong: recovered: everything on: 54 loops, at most 3\n" == capsys.readouterr().err


def test_the_check_passes_where_nothing_is_missed(tmp_path: Path) -> None:
    good = [Figure("recovered: everything on", 3.4, "loops", group=FAILURES)]
    attrs.evolve(RESULT, figures=good).save(tmp_path / "result.json")

    assert 0 == command.main(["--saved", str(tmp_path / "result.json"), "--only", "failure", "--check"])


def test_without_the_check_a_missed_aim_is_only_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RESULT.save(tmp_path / "result.json")

    assert 0 == command.main(["--saved", str(tmp_path / "result.json"), "--svg", str(tmp_path / "result.svg")])
    assert "1800%" in capsys.readouterr().out
    assert picture.draw(RESULT) == (tmp_path / "result.svg").read_text(encoding="utf-8")


def test_the_page_is_renewed_as_a_whole_or_not_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    """It says that all its tables are of one run."""
    with pytest.raises(SystemExit):
        command.main(["--only", "happy", "--readme"])

    assert "--readme renews all tables of one run: it does not go with --only" in capsys.readouterr().err


def test_a_benchmark_that_there_is_not_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--only", "happy,sad"])

    assert "there is no benchmark sad; there are happy, failure," in capsys.readouterr().err


def test_a_library_that_is_not_installed_leaves_its_rows_out() -> None:
    def missing() -> Wrap:
        raise ImportError

    assert ["there"] == list(peers.available({"missing": missing, "there": lambda: happy_path.FLOORS["two clock readings"]}))
