"""
What the benchmarks say: figures with their aims, and curves.

Each module here that measures something has a function ``figures`` that gives what it found in this form, so that one command can print,
save, draw and check all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

__all__ = ["Curve", "Figure"]


@attrs.frozen
class Figure:
    """
    One line of a table.

    Args:
        row: What was measured, in words.
        value: How much it was.
        unit: Of what: ``"W"``, ``"loops"``, ``"ms"``, ``"KiB"``, ``"x"`` for a plain ratio.
        aim: The most that it is to be; None for what is shown for comparison only.
        group: The table it belongs to.
        beside: Other figures of the same row, such as quartiles, by name.
        side: Whose it is, where a table compares: ``"ours"``, ``"theirs"``, ``"floors"``.
    """

    row: str
    value: float
    unit: str
    aim: float | None = None
    group: str = ""
    beside: Mapping[str, float] = attrs.field(factory=dict[str, float])
    side: str = ""

    @property
    def share(self) -> float | None:
        """The value as a share of the aim; above 1 it is missed."""
        return None if self.aim is None else self.value / self.aim if self.aim else 1.0 + self.value


@attrs.frozen
class Curve:
    """
    How a cost grows.

    Args:
        title: What was measured, in words.
        x: The unit along the one axis ...
        y: ... and along the other.
        points: Pairs of the two.
        log: Whether the first axis is logarithmic.
    """

    title: str
    x: str
    y: str
    points: Sequence[tuple[float, float]]
    log: bool = False
