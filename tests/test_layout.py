"""The layout that the import contracts in pyproject.toml describe is the layout there is, and they hold what they promise."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "resilience"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONTRACTS = {contract["id"]: contract for contract in PROJECT["tool"]["importlinter"]["contracts"]}

# One import for each contract that must not pass.
TRESPASSES = {
    "layers": ("outcome.py", "import resilience.classify"),
    "pure": ("reading/hints.py", "import time"),
    "decide": ("decide/backoff.py", "import resilience.errors"),
    "backend": ("engine.py", "import asyncio"),
    "log": ("env.py", "import structlog"),
    "clients": ("dialects/http.py", "import httpx2"),
    "adapters": ("__init__.py", "import resilience.testing"),
    "policies": ("policies/retry.py", "import resilience.policies.refresh"),
}


def broken_contracts(folder: Path) -> set[str]:
    lint = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-logo", "--no-cache"]
    run = subprocess.run(lint, cwd=folder, capture_output=True, text=True, check=False)
    verdicts = dict(re.findall(r"^(.+) (KEPT|BROKEN)", run.stdout, flags=re.MULTILINE))
    assert set(verdicts) == {contract["name"] for contract in CONTRACTS.values()}, run.stdout + run.stderr
    return {key for key, contract in CONTRACTS.items() if verdicts[contract["name"]] == "BROKEN"}


def test_each_rule_about_imports_notices_its_trespass(tmp_path: Path) -> None:
    """A contract may be kept because it sees nothing: a module renamed, an exception drawn too wide."""
    shutil.copytree(PACKAGE, tmp_path / "resilience", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for file, trespass in TRESPASSES.values():
        with (tmp_path / "resilience" / file).open("a", encoding="utf-8") as module:
            module.write(f"\n{trespass}\n")

    assert set(CONTRACTS) == broken_contracts(tmp_path)


def test_every_module_has_its_place_in_the_order_of_imports() -> None:
    """A module outside the list would be outside the rule."""
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"} | {path.parent.name for path in PACKAGE.glob("*/*.py")}

    assert modules == {layer.strip("()") for layer in CONTRACTS["layers"]["layers"]}


def test_every_folder_of_modules_is_a_package() -> None:
    """One that is not would be left out of the import graph."""
    folders = {path.parent for path in PACKAGE.rglob("*.py")}

    assert folders == {path.parent for path in PACKAGE.rglob("__init__.py")}


def test_four_libraries_and_no_more_come_with_the_core() -> None:
    assert ["anyio", "attrs", "http-sf", "structlog"] == sorted(spec.split(">=")[0] for spec in PROJECT["project"]["dependencies"])
