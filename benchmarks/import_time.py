"""
What `import resilience` costs beyond anyio, attrs and structlog, in milliseconds of CPU time.

    python -m benchmarks.import_time [pairs]

Each figure is of fresh interpreters with compiled files in place.  One imports the three libraries, then `resilience` as a program writes
it: with the names that the README's first engine needs, so that what is put off until a name is asked for counts all the same.  It reads
the clock of its own thread in between.  Of all interpreters the half counts in which the three libraries took least: a neighbour's work
slows both down alike, by a third and more.

A second interpreter imports the three libraries only.  What the first takes more from its start to its end is shown beside the figure: it
holds what it takes to throw our modules away at exit, and the noise of two much larger numbers.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
from collections.abc import Mapping

import attrs

from benchmarks.aims import IMPORT, aimed
from benchmarks.figures import Figure
from benchmarks.rounds import footer, quartiles
from benchmarks.tables import tables

__all__ = ["LIBRARIES", "figures", "main"]

PAIRS = 15
LIBRARIES = ("resilience-engine", "anyio", "attrs", "structlog")

_THREE = "import anyio, attrs, structlog; anyio.run"  # anyio loads its parts when they are first asked for
_NAMES = "from resilience import AttemptTimeout, CircuitBreaker, Deadline, Engine, IdempotencyKey, RefreshToken, Retry, Token, callmissed"
_TIMED = f"""
import json
from time import thread_time_ns as clock
start = clock()
{_THREE}
ours = clock()
import resilience
named = clock()
{_NAMES}
print(json.dumps([(ours - start) / 1e6, (named - ours) / 1e6, (clock() - ours) / 1e6]))
"""

# Compiled files are kept, as they are for whoever has installed us; a setting that forbids it would measure the compiler.
_ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
_ROOT = pathlib.Path(__file__).parent.parent


@attrs.frozen
class Taken:
    """
    What a pair of interpreters took, in milliseconds of CPU time.

    Args:
        three: The three libraries.
        ours: `import resilience` after them.
        named: The same with the names that a first program uses.
        whole: What the interpreter that did all this took more, in all, than one that imports the three only.
    """

    three: float
    ours: float
    named: float
    whole: float


def _run(*arguments: str) -> tuple[subprocess.CompletedProcess[str], float]:
    """An interpreter, and its CPU time in milliseconds from its start to its end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True, env=_ENVIRONMENT, cwd=_ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3


def _pair() -> Taken:
    _, less = _run("-c", _THREE)
    done, more = _run("-c", _TIMED)
    three, ours, named = json.loads(done.stdout)
    return Taken(three, ours, named, more - less)


def measured(pairs: int) -> list[Taken]:
    """The calmer half of so many pairs of interpreters; >= 2."""
    _pair()  # compiles what is not compiled yet
    return sorted((_pair() for _ in range(pairs)), key=lambda taken: taken.three)[: (pairs + 1) // 2]


def figures(pairs: int = PAIRS) -> list[Figure]:
    """
    What the import takes, with and without the names that a first program uses.

    Args:
        pairs: Pairs of interpreters; >= 2.  Each takes half a second.
    """
    taken = measured(pairs)
    whole = statistics.median(one.whole for one in taken)
    return [
        _figure("resilience, and what a first program names", [one.named for one in taken], {"whole process": whole}),
        _figure("resilience", [one.ours for one in taken], {}),
        _figure("anyio, attrs, structlog", [one.three for one in taken], {}),
    ]


def _figure(row: str, values: list[float], beside: Mapping[str, float]) -> Figure:
    low, middle, high = quartiles(values)
    return Figure(row, middle, "ms", group=IMPORT, beside={"low": low, "high": high, **beside})


def own_modules() -> list[tuple[float, str]]:
    """Our modules and the milliseconds that each one's own body took, the costliest first."""
    report = _run("-X", "importtime", "-c", f"{_THREE}\n{_NAMES}")[0].stderr
    lines = re.findall(r"^import time:\s+(\d+) \|\s+\d+ \|\s+(resilience\S*)$", report, flags=re.MULTILINE)
    return sorted(((int(micros) / 1e3, name) for micros, name in lines), reverse=True)


def main(pairs: int) -> None:
    """Print the figures, and where our share goes."""
    print(f"{tables(aimed(figures(pairs)))}\n\n{footer(pairs, LIBRARIES)}\n")
    modules = own_modules()
    print(f"of {len(modules)} modules these took longest, by themselves:")
    for millis, name in modules[:12]:
        print(f"{millis:8.1f} ms  {name}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS)
