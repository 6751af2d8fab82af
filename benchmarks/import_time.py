"""
What `import resilience` costs beyond anyio, attrs and structlog, in milliseconds.

Fresh interpreters, taken in turn so that a busy spell of the machine falls on both alike; the figure is the median of the differences.

    python benchmarks/import_time.py [pairs]
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time

PAIRS = 15
BASELINE = "import anyio, attrs, structlog"
OURS = f"{BASELINE}, resilience"


def seconds(program: str) -> float:
    """How long one interpreter takes from its start to its end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - start


def own_modules() -> list[tuple[float, str]]:
    """Our modules and the milliseconds that each one's own body took, the costliest first."""
    report = subprocess.run([sys.executable, "-X", "importtime", "-c", OURS], check=True, capture_output=True, text=True).stderr
    lines = re.findall(r"^import time:\s+(\d+) \|\s+\d+ \|\s+(resilience\S*)$", report, flags=re.MULTILINE)
    return sorted(((int(micros) / 1e3, name) for micros, name in lines), reverse=True)


def main(pairs: int) -> None:
    """Print the medians, and where our share goes."""
    seconds(OURS)  # so that compiled files exist
    taken = [(seconds("pass"), seconds(BASELINE), seconds(OURS)) for _ in range(pairs)]
    for name, column in zip(("bare interpreter", BASELINE, OURS), zip(*taken, strict=True), strict=True):
        print(f"{statistics.median(column) * 1e3:8.1f} ms  {name}")
    print(f"{statistics.median(ours - base for _, base, ours in taken) * 1e3:8.1f} ms  ours, the median of {pairs} differences\n")
    for millis, name in own_modules()[:10]:
        print(f"{millis:8.1f} ms  {name}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS)
