"""What a run of the benchmarks found, kept as JSON: the figures, the curves, and what they belong to."""

from __future__ import annotations

import datetime
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from benchmarks.figures import Curve, Figure
from benchmarks.rounds import installed, machine, save

__all__ = ["Result", "load"]


@attrs.frozen
class Result:
    """
    What one run found.

    Args:
        figures: All lines of all tables, in their order.
        curves: How costs grow.
        machine: Processor, system and Python.
        versions: Of what was measured, by distribution.
        rounds: Turns of each row of the happy path; what else there is was measured in proportion.
        taken: The day, as in ``"2026-01-31"``.
    """

    figures: Sequence[Figure]
    curves: Sequence[Curve]
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    rounds: int
    taken: str

    @classmethod
    def of(cls, figures: Sequence[Figure], curves: Sequence[Curve] = (), *, libraries: Iterable[str], rounds: int) -> Result:
        """What was found here and now."""
        return cls(figures, curves, machine(), installed(libraries), rounds, datetime.datetime.now(datetime.UTC).date().isoformat())

    @property
    def belongs_to(self) -> str:
        """Machine, day and versions in one line."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"{', '.join(self.machine.values())}; {self.taken}, medians of {self.rounds} rounds; {versions}"

    def save(self, file: str | pathlib.Path) -> None:
        """Write it as JSON."""
        figures = [attrs.asdict(figure) for figure in self.figures]
        curves = [attrs.asdict(curve) for curve in self.curves]
        about = {"taken": self.taken, "machine": self.machine, "versions": self.versions, "rounds": self.rounds}
        save(str(file), {**about, "figures": figures, "curves": curves})


def load(file: str | pathlib.Path) -> Result:
    """What `Result.save` wrote."""
    data: dict[str, Any] = json.loads(pathlib.Path(file).read_text(encoding="utf-8"))
    figures = [Figure(**figure) for figure in data["figures"]]
    curves = [Curve(points=[(x, y) for x, y in curve.pop("points")], **curve) for curve in data["curves"]]
    return Result(figures, curves, data["machine"], data["versions"], data["rounds"], data["taken"])
