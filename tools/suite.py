"""
Run the whole suite in two processes at once, the second while the first one's words are shown.

Tracing doubles what a busy event loop takes, so only the pure half is traced, where every branch must be covered.

    python tools/suite.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import IO

PYTHON = [sys.executable, "-m"]
PURE = ["tests/decide", "tests/reading"]
ADAPTERS, DEMO = "tests/adapters", "tests/demo"

# Split so that both take about as long.
SHOWN = [
    [*PYTHON, "pytest", *(f"--ignore={folder}" for folder in [*PURE, ADAPTERS, DEMO])],
    [*PYTHON, "pytest", DEMO],
]
MEANWHILE = [
    [*PYTHON, "coverage", "run", "-m", "pytest", *PURE],
    [*PYTHON, "coverage", "report"],
    [*PYTHON, "pytest", ADAPTERS],
]


def lane(commands: list[list[str]], words: IO[str] | None, stop: threading.Event) -> bool:
    """Run *commands* one after another, their words going to *words* (None: the terminal); whether any failed."""
    failed = False
    for command in commands:
        if stop.is_set():
            break
        failed |= subprocess.run(command, stdout=words, stderr=words, check=False).returncode != 0
    return failed


def main() -> int:
    """Run both lanes; 0 if all of it passed, 130 after Ctrl-C."""
    start = time.monotonic()
    stop = threading.Event()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as words, ThreadPoolExecutor(2) as pool:
        lanes = [pool.submit(lane, SHOWN, None, stop), pool.submit(lane, MEANWHILE, words, stop)]
        try:
            results = [running.result() for running in lanes]
        except KeyboardInterrupt:  # it reached the processes as well
            stop.set()
            return 130
        failed = any(results)
        words.seek(0)
        print(f"\nMeanwhile, {', '.join(PURE)} with every branch counted, and {ADAPTERS}:\n{words.read()}")
    print(f"{time.monotonic() - start:.0f} s in all; " + ("something failed, see above" if failed else "everything passed"))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
