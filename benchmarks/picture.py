"""
The figures as one picture, an SVG that needs nothing else: no script, no font of its own, text as text.

From top to bottom: bars for what is compared with others, on a logarithmic scale, for the costs lie three orders of magnitude apart and
ours at their lower end; bars for all that has an aim, as shares of it, on a plain one; and the curves.  Colours are chosen for a light page
and exchanged on a dark one, where the viewer's own setting asks for that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from xml.sax.saxutils import escape

from benchmarks.aims import FAILURES, HAPPY
from benchmarks.figures import Curve, Figure
from benchmarks.results import Result
from benchmarks.tables import by_group, number

__all__ = ["draw"]

WIDTH = 960
LEFT, RIGHT = 310, 840  # of the bars; what is left of them is their names', what is right of them their figures'
ROW = 19
GAP = 26
FARTHEST = 2.0  # times its aim
COLUMNS = 3
MARGIN = 24

STYLE = """
text { font: 12px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #24292f }
.page { fill: #ffffff }
.title { font-size: 19px; font-weight: 600 }
.head { font-size: 14px; font-weight: 600 }
.small, .side { font-size: 11px; fill: #57606a }
.side { font-style: italic }
.end { text-anchor: end }
.middle { text-anchor: middle }
.ours { fill: #0969da }
.theirs { fill: #a0a9b3 }
.floors { fill: #d5dae0 }
.over { fill: #cf222e }
.missed { fill: #cf222e; font-weight: 600 }
.grid { stroke: #d8dee4; stroke-width: 1 }
.aim { stroke: #1a7f37; stroke-width: 2.5 }
.later { fill: none; stroke: #24292f; stroke-width: 1.2 }
.line { fill: none; stroke: #0969da; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .page { fill: #0d1117 }
  .small, .side { fill: #9198a1 }
  .ours { fill: #4493f8 }
  .theirs { fill: #6e7681 }
  .floors { fill: #3d444d }
  .over { fill: #f85149 }
  .missed { fill: #f85149 }
  .grid { stroke: #30363d }
  .aim { stroke: #3fb950 }
  .later { stroke: #e6edf3 }
  .line { stroke: #4493f8 }
}
"""


def draw(result: Result) -> str:
    """The picture, as the text of an SVG file."""
    groups = by_group(result.figures)
    parts: list[str] = []
    y = 38
    parts.append(_text(MARGIN, y, "What resilience costs", "title"))
    y += 20
    for line in _wrapped(result.belongs_to, 150):
        parts.append(_text(MARGIN, y, line, "small"))
        y += 15
    for group, note in (
        (HAPPY, "in W, the overhead of a plain wrapper coroutine; logarithmic; the circle: where the operation suspends once"),
        (FAILURES, "in hand-written loops that recover from one failure; logarithmic"),
    ):
        if group in groups:
            y = _bars(parts, y + GAP, group, note, groups[group])
    if aims := [figure for figure in result.figures if figure.aim is not None]:
        y = _shares(parts, y + GAP, aims)
    if result.curves:
        y = _curves(parts, y + GAP, result.curves)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + MARGIN}" viewBox="0 0 {WIDTH} {y + MARGIN}" role="img">'
    page = f'<rect class="page" width="{WIDTH}" height="{y + MARGIN}" rx="6"/>'
    title = "<title>What resilience costs: each figure beside its aim and beside other libraries</title>"
    return "\n".join([head, title, f"<style>{STYLE}</style>", page, *parts, "</svg>", ""])


# Bars


def _bars(parts: list[str], y: int, title: str, note: str, figures: Sequence[Figure]) -> int:
    """What is compared: ours, theirs, floors; returns where it ends."""
    parts.append(_text(MARGIN, y, f"{title[0].upper()}{title[1:]}", "head"))
    parts.append(_text(RIGHT, y, note, "small end"))
    largest = max(figure.value for figure in figures)
    least = 0.5
    scale = _log_scale(least, largest * 1.15, LEFT, RIGHT)
    top = y + 12
    rows: list[str] = []
    y = top
    side = ""
    for figure in figures:
        if figure.side != side:
            side = figure.side
            y += ROW
            rows.append(_text(LEFT - 8, y - 5, side, "side end"))
        rows += _bar(figure, y, scale, _colour(side))
        y += ROW
    for tick in (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000):
        if least <= tick <= largest * 1.15:
            x = scale(tick)
            parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{y}"/>')
            parts.append(_text(x, y + 13, f"{tick:g}", "small middle"))
    parts += rows
    return y + 16


def _colour(side: str) -> str:
    return "floors" if side == "floors" else "theirs" if side.startswith("theirs") else "ours"


def _bar(figure: Figure, y: int, scale: Callable[[float], float], colour: str) -> list[str]:
    end = scale(figure.value)
    parts = [
        _text(LEFT - 8, y + 13, figure.row, "end"),
        _rect(colour, y, LEFT, end),
    ]
    furthest = end
    if "suspending" in figure.beside:
        x = scale(figure.beside["suspending"])
        furthest = max(furthest, x + 4)
        parts.append(f'<circle class="later" cx="{x:.1f}" cy="{y + ROW / 2:.1f}" r="3"/>')
    words, style = number(figure.value, figure.unit), ""
    if figure.aim is not None:
        x = scale(figure.aim)
        furthest = max(furthest, x + 2)
        parts.append(f'<line class="aim" x1="{x:.1f}" x2="{x:.1f}" y1="{y + 1}" y2="{y + ROW - 1}"/>')
        words, style = f"{words}, at most {figure.aim:g}", _verdict(figure)
    parts.append(_text(furthest + 6, y + 13, words, style))
    return parts


def _verdict(figure: Figure) -> str:
    return "missed" if figure.share is not None and not figure.share <= 1 else ""


def _shares(parts: list[str], y: int, figures: Sequence[Figure]) -> int:
    """All that has an aim, as a share of it; returns where it ends."""
    parts.append(_text(MARGIN, y, "Everything that has an aim, as a share of it", "head"))
    parts.append(_text(RIGHT, y, f"less is better; bars are cut off at {FARTHEST:g} times the aim", "small end"))
    left = LEFT + 120  # these names are longer
    scale = _plain_scale(0.0, FARTHEST, left, RIGHT - 80)
    aim = scale(1.0)
    top = y + 12
    y = top
    group = ""
    for figure in figures:
        if figure.group != group:
            group = figure.group
            y += ROW
            parts.append(_text(left - 8, y - 5, group, "side end"))
        missed = _verdict(figure)
        share = 0.0 if figure.value <= 0 else figure.share or 0.0
        end = scale(min(share, FARTHEST))
        value = f"{number(figure.value, figure.unit)} {figure.unit}"
        parts.append(_text(left - 8, y + 13, figure.row, "end"))
        parts.append(_rect("over" if missed else "ours", y, left, end))
        parts.append(_text(max(end, aim) + 6, y + 13, f"{value}, at most {figure.aim:g}", missed))
        y += ROW
    parts.append(f'<line class="aim" x1="{aim:.1f}" x2="{aim:.1f}" y1="{top}" y2="{y}"/>')
    parts.append(_text(aim, y + 13, "the aim", "small middle"))
    return y + 16


def _rect(colour: str, y: int, start: float, end: float) -> str:
    return f'<rect class="{colour}" x="{start}" y="{y + 3}" width="{max(end - start, 1):.1f}" height="{ROW - 6}"/>'


# Curves


def _curves(parts: list[str], y: int, curves: Sequence[Curve]) -> int:
    """Panels side by side; returns where they end."""
    parts.append(_text(MARGIN, y, "How costs grow", "head"))
    y += 12
    width = (WIDTH - MARGIN * (COLUMNS + 1)) / COLUMNS
    height = 190
    for index, curve in enumerate(curves):
        row, column = divmod(index, COLUMNS)
        parts += _panel(curve, left=MARGIN + column * (width + MARGIN), top=y + row * height, width=width, height=height - 20)
    return y + height * math.ceil(len(curves) / COLUMNS)


def _panel(curve: Curve, *, left: float, top: float, width: float, height: float) -> list[str]:
    x0, x1, y0, y1 = left + 46, left + width - 14, top + height - 34, top + 38
    xs, ys = [x for x, _ in curve.points], [y for _, y in curve.points]
    ceiling = _ceiling(max(ys))
    first = min(xs) if curve.log else min(0.0, *xs)
    across = (_log_scale if curve.log else _plain_scale)(first, max(xs), x0, x1)
    up = _plain_scale(0.0, ceiling, y0, y1)
    parts = [_text(left, top + 14, curve.title, "")]
    for mark in (0.0, ceiling / 2, ceiling):
        parts.append(f'<line class="grid" x1="{x0:.1f}" x2="{x1:.1f}" y1="{up(mark):.1f}" y2="{up(mark):.1f}"/>')
        parts.append(_text(x0 - 5, up(mark) + 4, _short(mark), "small end"))
    parts += [_text(across(x), y0 + 14, _short(x), "small middle") for x in (_decades(first, max(xs)) if curve.log else (first, max(xs)))]
    path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in curve.points)
    parts.append(f'<polyline class="line" points="{path}"/>')
    parts += [f'<circle class="ours" cx="{across(x):.1f}" cy="{up(y):.1f}" r="2.5"/>' for x, y in curve.points]
    parts.append(_text((x0 + x1) / 2, y0 + 29, curve.x, "small middle"))
    parts.append(_text(left, y1 - 9, curve.y, "small"))
    return parts


# Scales and words


def _log_scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = math.log(high / low) or 1.0
    return lambda value: start + (end - start) * math.log(max(value, low) / low) / span


def _plain_scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: start + (end - start) * (value - low) / span


def _ceiling(value: float) -> float:
    """A round figure somewhat above *value*."""
    if value <= 0:
        return 1.0
    size = 10.0 ** math.floor(math.log10(value))
    return next(step * size for step in (1.2, 1.6, 2, 3, 4, 6, 8, 10, 12) if value * 1.1 <= step * size)


def _decades(low: float, high: float) -> list[float]:
    return [10.0**power for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]


def _short(value: float) -> str:
    for size, suffix in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.3g}"


def _text(x: float, y: float, words: str, style: str) -> str:
    look = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{look}>{escape(words)}</text>'


def _wrapped(words: str, width: int) -> Iterable[str]:
    line = ""
    for word in words.split(" "):
        if line and len(line) + len(word) >= width:
            yield line
            line = word
        else:
            line = f"{line} {word}".strip()
    yield line
