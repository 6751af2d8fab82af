"""
What `import resilience` costs beyond anyio, attrs and structlog, in milliseconds of CPU time.

Fresh interpreters, taken in turn so that a busy spell of the machine falls on all alike; the figure is the median of the differences.

    python benchmarks/import_time.py [pairs]
"""

from __future__ import annotations

import os
import re
import resource
import statistics
import subprocess
import sys

PAIRS = 15
BASELINE = "import anyio, attrs, structlog; anyio.run"  # anyio loads its parts when they are first asked for
OURS = f"{BASELINE}; import resilience"

# Compiled files are kept, as they are for whoever has installed us; a setting that forbids it would measure the compiler.
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}


def seconds(program: str) -> float:
    """The CPU time that one interpreter takes from its start to its end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", program], check=True, env=ENVIRONMENT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def own_modules() -> list[tuple[float, str]]:
    """Our modules and the milliseconds that each one's own body took, the costliest first."""
    report = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", OURS], check=True, capture_output=True, text=True, env=ENVIRONMENT
    ).stderr
    lines = re.findall(r"^import time:\s+(\d+) \|\s+\d+ \|\s+(resilience\S*)$", report, flags=re.MULTILINE)
    return sorted(((int(micros) / 1e3, name) for micros, name in lines), reverse=True)


def main(pairs: int) -> None:
    """Print the medians, and where our share goes."""
    seconds(OURS)  # compiles what is not compiled yet
    taken = [(seconds("pass"), seconds(BASELINE), seconds(OURS)) for _ in range(pairs)]
    for name, column in zip(("bare interpreter", BASELINE, OURS), zip(*taken, strict=True), strict=True):
        print(f"{statistics.median(column) * 1e3:8.1f} ms  {name}")
    print(f"{statistics.median(ours - base for _, base, ours in taken) * 1e3:8.1f} ms  ours, the median of {pairs} differences\n")
    for millis, name in own_modules()[:10]:
        print(f"{millis:8.1f} ms  {name}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS)
