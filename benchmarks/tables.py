"""
The figures as tables in Markdown, and a page whose tables are kept up to date.

A table stands in a page between two comments, which name it:

    <!-- table: the happy path -->
    ...
    <!-- end of table -->
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.figures import Figure

__all__ = ["aims", "by_group", "number", "rewritten", "table", "tables"]

_DIGITS = {"W": 1, "loops": 1, "x": 3, "ms": 1, "µs": 1, "KiB": 2, "MiB": 2}
_QUARTILES = ("low", "high")
_SAME_UNIT = (*_QUARTILES, "suspending")  # others beside a figure say theirs in their names
_START, _END = "<!-- table: {} -->\n", "<!-- end of table -->"


def number(value: float, unit: str = "") -> str:
    """A figure with as many digits as say something: the same number of them down a column, as far as that goes."""
    if abs(value) >= 100 or (unit not in _DIGITS and value == round(value)):
        return f"{value:,.0f}"
    digits = _DIGITS.get(unit, 1 if abs(value) >= 5 else 2)
    return f"{value:.{digits}f}"


def by_group(figures: Iterable[Figure]) -> dict[str, list[Figure]]:
    """The tables there are, in the order in which they were measured."""
    groups: dict[str, list[Figure]] = {}
    for figure in figures:
        groups.setdefault(figure.group, []).append(figure)
    return groups


def table(title: str, figures: Sequence[Figure]) -> str:
    """
    One table: what was measured, how much it is, the aim, quartiles, and whatever else stands beside.

    Columns that nobody has an entry for are left out.  Where all figures have the same unit it stands above them.
    """
    units = {figure.unit for figure in figures}
    extra = list(dict.fromkeys(name for figure in figures for name in figure.beside if name not in _QUARTILES))
    with_aims = any(figure.aim is not None for figure in figures)
    with_quartiles = any("low" in figure.beside for figure in figures)
    head = [title, *units] if len(units) == 1 else [title, ""]
    head += ["at most"] * with_aims + ["quartiles"] * with_quartiles + extra
    lines = [_line(head), _line(["---", *["---:"] * (len(head) - 1)])]
    side = ""
    for figure in figures:
        if figure.side != side:
            side = figure.side
            lines.append(_line([f"**{side}**", *[""] * (len(head) - 1)]))
        value = number(figure.value, figure.unit)
        cells = [figure.row, value if len(units) == 1 else f"{value} {figure.unit}"]
        if with_aims:
            cells.append("" if figure.aim is None else f"{figure.aim:g}")
        if with_quartiles:
            cells.append(" to ".join(_beside(figure, name) for name in _QUARTILES) if "low" in figure.beside else "")
        cells += [_beside(figure, name) for name in extra]
        lines.append(_line(cells))
    return "\n".join(lines)


def _beside(figure: Figure, name: str) -> str:
    return number(figure.beside[name], figure.unit if name in _SAME_UNIT else "") if name in figure.beside else ""


def _line(cells: Iterable[str]) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


def tables(figures: Iterable[Figure]) -> str:
    """All of them."""
    return "\n\n".join(table(group, rows) for group, rows in by_group(figures).items())


def aims(figures: Iterable[Figure]) -> str:
    """What was to be reached, and what was."""
    lines = [_line(["what", "at most", "here", "of the aim", ""]), _line(["---", "---:", "---:", "---:", "---"])]
    for figure in figures:
        if figure.aim is not None and figure.share is not None:
            kept = "met" if figure.share <= 1 else "**missed**"
            what = f"{figure.group}: {figure.row}"
            here = f"{number(figure.value, figure.unit)} {figure.unit}"
            lines.append(_line([what, f"{figure.aim:g} {figure.unit}", here, f"{figure.share:.0%}" if figure.aim else "", kept]))
    return "\n".join(lines)


def rewritten(page: str, blocks: Mapping[str, str]) -> str:
    """
    The page with new tables.

    Args:
        page: Markdown with places for them.
        blocks: What goes where, by the name of the place.

    Raises:
        ValueError: If the page has no such place, has it twice, or does not say where it ends.
    """
    for name, block in blocks.items():
        start = _START.format(name)
        if page.count(start) != 1:
            raise ValueError(f"the page has {page.count(start)} places {start.rstrip()} where it should have one")
        before, _, rest = page.partition(start)
        _, end, after = rest.partition(_END)
        if not end:
            raise ValueError(f"the page has no {_END} after {start.rstrip()}")
        page = f"{before}{start}\n{block}\n\n{end}{after}"
    return page
