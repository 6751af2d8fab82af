# noqa: INP001 - a script, no package
"""
Draw ``docs/demo.svg``: some scenarios of the tour, as a terminal shows them.

    make pictures
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from resilience.demo.tour_command import play
from resilience.demo.tour_scenarios import SCENARIOS

PICTURE = Path(__file__).with_name("demo.svg")

SHOWN = ("expired-token", "lost-answer", "no-key", "breaker")

WIDTH = 118

# The picture brings its own background, so that it reads the same on a light page and on a dark one.
COLOURS = [
    (110, 118, 129),
    (255, 123, 114),
    (86, 211, 100),
    (227, 179, 65),
    (121, 192, 255),
    (210, 168, 255),
    (86, 212, 221),
    (201, 209, 217),
]
THEME = TerminalTheme((22, 27, 34), (230, 237, 243), COLOURS)

# rich's own, without the fonts that it would fetch from elsewhere.
SVG = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
    <style>
    .{unique_id}-matrix {{
        font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace;
        font-size: {char_height}px;
        line-height: {line_height}px;
    }}
    .{unique_id}-title {{ font: bold 18px sans-serif; }}
    {styles}
    </style>
    <defs>
    <clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>
    {lines}
    </defs>
    {chrome}
    <g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
    {backgrounds}
    <g class="{unique_id}-matrix">
    {matrix}
    </g>
    </g>
</svg>
"""


def main() -> int:
    """Play, and draw if all ended as documented."""
    console = Console(
        record=True,
        width=WIDTH,
        file=io.StringIO(),
        force_terminal=True,
        color_system="standard",
        highlight=False,
        markup=False,
        emoji=False,
    )
    reports = play([scenario for scenario in SCENARIOS if scenario.name in SHOWN], console)
    if any(report.problems for report in reports):
        print("Nothing drawn: the tour did not end as documented; see `make demo`.", file=sys.stderr)  # noqa: T201 - a script prints
        return 1
    picture = console.export_svg(title="make demo", theme=THEME, code_format=SVG, unique_id="demo")
    PICTURE.write_text("\n".join(line.rstrip() for line in picture.splitlines()) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
