"""The real env: what makes two runs differ, and two processes never agree by accident."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from resilience import Env

UNIQUE = Env().unique


@pytest.mark.parametrize("size", [1, 4, 15, 16, 17, 32])
def test_unique_bytes_are_as_many_as_were_asked_for(size: int) -> None:
    assert size == len(bytes.fromhex(UNIQUE(size)))


def test_no_two_keys_are_alike_whichever_thread_asks() -> None:
    made: list[str] = []

    def make() -> None:
        made.extend([UNIQUE(16) for _ in range(2_000)])

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 16_000 == len(set(made))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_process_makes_keys_of_its_own() -> None:
    """The same key in two processes would make one order of two."""
    program = """
import os
from resilience import Env
unique = Env().unique
unique(16)
reading, writing = os.pipe()
child = os.fork()
if not child:
    os.write(writing, " ".join(unique(16) for _ in range(100)).encode())
    os._exit(0)
os.waitpid(child, 0)
ours = {unique(16) for _ in range(100)}
theirs = set(os.read(reading, 10_000).decode().split())
print(len(ours), len(theirs), len(ours & theirs))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "100 100 0" == done.stdout.strip()
