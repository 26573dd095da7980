"""`python -m bench.plots RESULTS.json PICTURE.svg`: what a program measured, beside its bounds."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import log2
from pathlib import Path
from typing import Any

MEASURED = re.compile(r"([\d.]+) x \(([\d.]+) to ([\d.]+)\)")
BOUND = re.compile(r"at most ([\d.]+)")
WIDTH, LEFT, RIGHT, ROW, TOP = 760, 250, 30, 34, 54
LOOK = """
text { font: 13px system-ui, sans-serif; fill: #222 } .small { font-size: 11px; fill: #666 }
.grid { stroke: #ddd } .met { stroke: #1a7f37; fill: #1a7f37 } .missed { stroke: #b35900; fill: #b35900 }
.bound { stroke: #222; stroke-width: 2 } .interval { stroke-width: 6; stroke-opacity: .35 }
@media (prefers-color-scheme: dark) { text { fill: #eee } .small { fill: #aaa } .grid { stroke: #444 }
.bound { stroke: #eee } .met { stroke: #3fb950; fill: #3fb950 } .missed { stroke: #f0883e; fill: #f0883e } }
"""


@dataclass(frozen=True, slots=True)
class Row:
    what: str
    low: float
    middle: float
    high: float
    bound: float
    met: bool


def rows(found: Mapping[str, Any]) -> list[Row]:
    """The checks of a program's results whose measure is a ratio with its interval."""
    return list(_rows(found["checks"]))


def _rows(checks: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    for check in checks:
        measured, bound = MEASURED.fullmatch(str(check["measured"])), BOUND.match(check["bound"])
        if measured and bound:
            middle, low, high = map(float, measured.groups())
            yield Row(check["what"].partition(":")[0], low, middle, high, float(bound[1]), check["ok"])


def picture(found: Mapping[str, Any]) -> str:
    """An SVG of these rows: a dot for the ratio, a band for its 95 % interval, a stroke for the bound. Doublings are
    equally far apart. Raises ValueError if there is no such row.
    """
    drawn = rows(found)
    if not drawn:
        raise ValueError("no check of these results is a ratio")
    most = max(2.0, *(max(row.high, row.bound) for row in drawn))
    least = min(1.0, *(row.low for row in drawn))

    def x(value: float) -> float:
        share = (log2(value) - log2(least)) / (log2(most) - log2(least))
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    height = TOP + ROW * len(drawn) + 30
    told = f"{found['bench']}, {found['ended_at'][:10]}: ratio, 95 % interval (band), bound (stroke)"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(told)}</title><style>{LOOK}</style>",
        f'<text x="10" y="24">{escape(told)}</text>',
    ]
    for tick in (2**n for n in range(10) if least <= 2**n <= most):
        parts.append(f'<line class="grid" x1="{x(tick)}" x2="{x(tick)}" y1="{TOP - 12}" y2="{height - 24}"/>')
        parts.append(f'<text class="small" x="{x(tick)}" y="{height - 8}" text-anchor="middle">{tick} x</text>')
    for number, row in enumerate(drawn):
        parts += _drawn(row, TOP + ROW * number + ROW // 2, x)
    return "\n".join([*parts, "</svg>", ""])


def _drawn(row: Row, y: int, x: Any) -> list[str]:
    kind = "met" if row.met else "missed"
    return [
        f'<text x="10" y="{y + 4}">{escape(row.what)}</text>',
        f'<line class="interval {kind}" x1="{x(row.low)}" x2="{x(row.high)}" y1="{y}" y2="{y}"/>',
        f'<line class="bound" x1="{x(row.bound)}" x2="{x(row.bound)}" y1="{y - 10}" y2="{y + 10}"/>',
        f'<circle class="{kind}" cx="{x(row.middle)}" cy="{y}" r="4"/>',
    ]


if __name__ == "__main__":
    results, target = map(Path, sys.argv[1:3])
    target.write_text(picture(json.loads(results.read_text())))
