"""D40: `import resilience` is cheap, and brings in nothing that its user did not ask for."""

from __future__ import annotations

import json
import subprocess
import sys

# The time an import takes depends on the machine and on its mood; what it executes does not, and hardly on the version of CPython (within
# 7 % from 3.11 to 3.13).  A character of the source that attrs compiles for each class costs as much as eight bytecodes: 1,200 machine
# instructions against 150, by callgrind.  Where this was written 32,000 bytecodes went with a millisecond, with all that is not counted:
# finding and reading modules, making classes, the collector.  A first program needs 430,000 on CPython 3.11; what comes has the rest of:
BUDGET = 470_000

# What the README's first engines need: a name that is loaded only when it is asked for counts if it is one of these.
PROGRAM = """
import resilience
from resilience import AttemptTimeout, CircuitBreaker, Deadline, Engine, IdempotencyKey, RefreshToken, Retry, Token, callmissed
"""

COUNT = f"""
import json, sys

def count(frame, event, arg):
    global executed
    frame.f_trace_opcodes, frame.f_trace_lines = True, False
    executed += event == "opcode"
    return count

def weigh(event, arguments):
    global compiled
    if event == "compile" and str(arguments[1]).startswith("<attrs"):
        compiled += len(arguments[0])

executed = compiled = 0
import anyio, attrs, structlog
anyio.run  # anyio loads its parts when they are first asked for
before = set(sys.modules)
if "count" in sys.argv:
    sys.addaudithook(weigh)
    sys._getframe().f_trace_opcodes = True  # CPython 3.12.1 traces none anywhere unless one frame asked before
    sys.settrace(count)
{PROGRAM}
sys.settrace(None)
print(json.dumps(dict(executed=executed, compiled=compiled, modules=sorted(set(sys.modules) - before))))
"""


def run(program: str, *arguments: str) -> object:
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def imported_beyond_the_core(*arguments: str) -> dict[str, object]:
    result = run(COUNT, *arguments)
    assert isinstance(result, dict)
    return result


def test_importing_resilience_does_little_beyond_importing_its_libraries() -> None:
    """D40; benchmarks/import_time.py measures the milliseconds."""
    done = imported_beyond_the_core("count")

    assert isinstance(done["executed"], int)
    assert isinstance(done["compiled"], int)
    assert done["executed"] > 0 < done["compiled"]
    assert done["executed"] + 8 * done["compiled"] < BUDGET


def test_importing_resilience_loads_nothing_but_itself_and_the_standard_library() -> None:
    """D40: what structlog loads of its own accord, rich among it, is not counted against us."""
    modules = imported_beyond_the_core()["modules"]

    assert isinstance(modules, list)
    packages = {module.partition(".")[0] for module in modules}
    assert {"resilience"} == packages - sys.stdlib_module_names


def test_importing_resilience_loads_no_client_no_second_event_loop_and_none_of_its_own_extras() -> None:
    """D40: not even through the libraries it needs."""
    modules = run("import json, sys, resilience; print(json.dumps(sorted(sys.modules)))")

    assert isinstance(modules, list)
    heavy = {
        "aiohttp",
        "anthropic",
        "httpcore",
        "httpcore2",
        "httpx",
        "httpx2",
        "jwt",
        "openai",
        "requests",
        "starlette",
        "trio",
        "uvicorn",
        "uvloop",
    }
    ours = {"resilience.adapters", "resilience.demo", "resilience.testing"}
    assert set() == (heavy | ours) & set(modules)
