"""
Run the whole suite in two processes at once, the second while the first one's words are shown.

Tracing doubles what a busy event loop takes, so only the pure half is traced, where every branch must be covered.

    python tools/suite.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time

PYTHON = [sys.executable, "-m"]
PURE = ["tests/decide", "tests/reading"]
SOCKETS = ["tests/adapters", "tests/demo"]

SHOWN = [*PYTHON, "pytest", *(f"--ignore={folder}" for folder in PURE + SOCKETS)]
MEANWHILE = [
    [*PYTHON, "coverage", "run", "-m", "pytest", *PURE],
    [*PYTHON, "coverage", "report"],
    [*PYTHON, "pytest", *SOCKETS],
]


def main() -> int:
    """Run both; 0 if all of it passed, 130 after Ctrl-C."""
    start = time.monotonic()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as words:
        queue, failed = list(MEANWHILE), 0
        running = subprocess.Popen(queue.pop(0), stdout=words, stderr=words)
        shown = subprocess.Popen(SHOWN)
        try:
            while True:
                failed |= running.wait() != 0
                if not queue:
                    break
                running = subprocess.Popen(queue.pop(0), stdout=words, stderr=words)
            failed |= shown.wait() != 0
        except KeyboardInterrupt:  # it reached the other two as well
            running.wait()
            shown.wait()
            return 130
        words.seek(0)
        print(f"\nMeanwhile, {', '.join(PURE)} with every branch counted, and {', '.join(SOCKETS)}:\n{words.read()}")
    print(f"{time.monotonic() - start:.0f} s in all; " + ("something failed, see above" if failed else "everything passed"))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
