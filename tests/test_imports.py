"""D40: `import resilience` is cheap, and brings in nothing that its user did not ask for."""

from __future__ import annotations

import json
import subprocess
import sys

# The time an import takes depends on the machine and on its mood; how many bytecodes it executes does not, and hardly on the version of
# CPython (within 7 % from 3.11 to 3.13).  Where this was written 22,000 of them took a millisecond, with the C code that they call, so that
# the 30 ms of D40 are 660,000.  benchmarks/import_time.py measures the milliseconds.
BUDGET = 660_000

COUNT = """
import json, sys

def count(frame, event, arg):
    global executed
    frame.f_trace_opcodes, frame.f_trace_lines = True, False
    executed += event == "opcode"
    return count

executed = 0
import anyio, attrs, structlog
anyio.run  # anyio loads its parts when they are first asked for
before = set(sys.modules)
if "count" in sys.argv:
    sys._getframe().f_trace_opcodes = True  # CPython 3.12.1 traces none anywhere unless one frame asked before
    sys.settrace(count)
import resilience
sys.settrace(None)
print(json.dumps({"executed": executed, "modules": sorted(set(sys.modules) - before)}))
"""


def run(program: str, *arguments: str) -> object:
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def imported_beyond_the_core(*arguments: str) -> dict[str, object]:
    result = run(COUNT, *arguments)
    assert isinstance(result, dict)
    return result


def test_importing_resilience_executes_few_bytecodes_beyond_its_three_libraries() -> None:
    """D40."""
    executed = imported_beyond_the_core("count")["executed"]

    assert isinstance(executed, int)
    assert 0 < executed < BUDGET


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
