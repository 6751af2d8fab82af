"""
All benchmarks in one go: print what they find, and save, draw or check it.

    python -m benchmarks                                      # print the tables
    python -m benchmarks --only happy,failure --rounds 21     # some of them, sooner
    python -m benchmarks --check                              # exit with 1 and name what misses its aim by more than 15 %
    python -m benchmarks --json R.json --svg R.svg --readme   # save the figures, draw them, renew the tables in benchmarks/README.md
    python -m benchmarks --saved R.json --check --svg R.svg   # the same with what was found before
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence

import attrs

from benchmarks import failure_path, growth, happy_path, hints, import_time, loopback, picture, tables
from benchmarks.aims import BESIDE, FAILURES, GROWTH, HAPPY, IMPORT, LOOPBACK, aimed, missed
from benchmarks.figures import Curve, Figure
from benchmarks.results import Result, load
from benchmarks.rounds import as_in_production

__all__ = ["main", "page"]

ROUNDS = happy_path.ROUNDS
README = pathlib.Path(__file__).with_name("README.md")


def _no_curves(_effort: float) -> list[Curve]:
    return []


@attrs.frozen
class Benchmark:
    """
    One of them.

    Args:
        groups: The tables that it fills and that have aims.
        figures: Measures; takes the effort, 1 for the usual one.
        curves: Likewise.
        libraries: The distributions it is about.
    """

    groups: Sequence[str]
    figures: Callable[[float], list[Figure]]
    curves: Callable[[float], list[Curve]] = _no_curves
    libraries: Sequence[str] = ()


def _rounds(usual: int, effort: float) -> int:
    return max(5, round(usual * effort))


# In this order: the finest figures first, while the process is young.
BENCHMARKS: Mapping[str, Benchmark] = {
    "happy": Benchmark((HAPPY, BESIDE), lambda effort: happy_path.figures(_rounds(ROUNDS, effort)), libraries=happy_path.LIBRARIES),
    "failure": Benchmark(
        (FAILURES,), lambda effort: failure_path.figures(_rounds(failure_path.ROUNDS, effort)), libraries=failure_path.LIBRARIES
    ),
    "growth": Benchmark((GROWTH,), growth.figures, growth.curves, growth.LIBRARIES),
    "loopback": Benchmark((LOOPBACK,), loopback.figures, libraries=loopback.LIBRARIES),
    "import": Benchmark((IMPORT,), lambda effort: import_time.figures(_rounds(import_time.PAIRS, effort)), libraries=import_time.LIBRARIES),
    "hints": Benchmark((), lambda effort: hints.figures(_rounds(1_000, effort)), libraries=hints.LIBRARIES),
}


def measured(names: Sequence[str], rounds: int) -> Result:
    """What those benchmarks find; progress goes to standard error."""
    as_in_production()
    effort = rounds / ROUNDS
    figures: list[Figure] = []
    curves: list[Curve] = []
    for name in names:
        print(f"measuring: {name} ...", file=sys.stderr, flush=True)
        figures += BENCHMARKS[name].figures(effort)
        curves += BENCHMARKS[name].curves(effort)
    libraries = dict.fromkeys(library for name in names for library in BENCHMARKS[name].libraries)
    return Result.of(aimed(figures), curves, libraries=libraries, rounds=rounds)


def page(text: str, result: Result) -> str:
    """The README with the tables of *result*."""
    blocks = {"aims": tables.aims(result.figures), "belongs to": result.belongs_to}
    blocks |= {group: tables.table(group, rows) for group, rows in tables.by_group(result.figures).items()}
    return tables.rewritten(text, blocks)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do as told; 1 where an aim is missed that was to be checked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What resilience costs, measured beside other libraries.")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"turns of each row, and all else in proportion (default: {ROUNDS})")
    parser.add_argument("--only", type=_names, default=list(BENCHMARKS), metavar="NAMES", help=f"some of {','.join(BENCHMARKS)}")
    parser.add_argument("--saved", metavar="FILE", help="measure nothing: take what was saved with --json")
    parser.add_argument("--json", metavar="FILE", help="save what was found")
    parser.add_argument("--svg", metavar="FILE", help="draw it")
    parser.add_argument("--readme", action="store_true", help="renew the tables in benchmarks/README.md")
    parser.add_argument("--check", action="store_true", help="exit with 1 where an aim is missed by more than 15 %%, and name it")
    options = parser.parse_args(arguments)
    if options.readme and len(options.only) < len(BENCHMARKS):
        parser.error("--readme renews all tables of one run: it does not go with --only")

    result = load(options.saved) if options.saved else measured(options.only, options.rounds)
    result = attrs.evolve(result, figures=aimed(result.figures))
    print(f"{tables.tables(result.figures)}\n\n{tables.aims(result.figures)}\n\n{result.belongs_to}")
    if options.json:
        result.save(options.json)
    if options.svg:
        pathlib.Path(options.svg).write_text(picture.draw(result), encoding="utf-8")
    if options.readme:
        README.write_text(page(README.read_text(encoding="utf-8"), result), encoding="utf-8")
    if options.check:
        faults = missed(result.figures, [group for name in options.only for group in BENCHMARKS[name].groups])
        print("\n".join(f"missed: {fault}" for fault in faults) or "every aim is met, or missed by no more than 15 %", file=sys.stderr)
        return 1 if faults else 0
    return 0


def _names(text: str) -> list[str]:
    names = [name for name in BENCHMARKS if name in text.split(",")]
    if unknown := set(text.split(",")) - set(names):
        raise argparse.ArgumentTypeError(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
