"""A graph as SVG, drawn in layers from top to bottom (Sugiyama, Tagawa & Toda 1981): each box a row below all that it
needs, rows ordered so that few lines cross, lines that pass rows given a place in each."""

from __future__ import annotations

import html
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

HIGH, ROW, GAP, LANE = 36, 66, 18, 14  # pixels: a box's height, from row to row, between boxes, a line's room
LETTER = 6.6  # pixels of a letter of a title
COLOURS = {
    "input": "#e8e8e8",
    "conv": "#cfe3ff",
    "dense": "#d9f2d9",
    "norm": "#fff0c2",
    "pool": "#ffdfcf",
    "": "#f7f7f7",
}
STYLE = """text{font:600 11px system-ui,sans-serif;text-anchor:middle;fill:#222}text.d{font-weight:400;fill:#555}
path{fill:none;stroke:#888;stroke-width:1.4}rect{stroke:#777}rect.f{stroke-width:2.4;stroke-dasharray:5 2}
@media(prefers-color-scheme:dark){svg{background:#1b1b1b}path{stroke:#aaa}}"""

ARROW = """<marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
<path d="M0 0L8 4L0 8z" style="fill:#888;stroke:none"/></marker>"""


def svg(boxes: Mapping[str, Any]) -> str:
    """The picture of `graph.Box`es by key, each after those that it needs."""
    rows, lines = _rows(boxes)
    wide = {key: _width(boxes[key]) if key in boxes else LANE for row in rows for key in row}
    x = _places(rows, lines, wide)
    level = {key: i for i, row in enumerate(rows) for key in row}
    left = min(x[key] - wide[key] / 2 for key in x) - GAP
    right = max(x[key] + wide[key] / 2 for key in x) + GAP
    size = right - left, len(rows) * ROW + GAP
    at = {key: (x[key] - left, level[key] * ROW + GAP + HIGH / 2) for key in x}
    drawn = [_line([at[key] for key in way]) for way in lines]
    drawn += [_drawn(box, *at[key], wide[key]) for key, box in boxes.items()]
    box = f"{size[0]:.0f} {size[1]:.0f}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {box}" width="{size[0]:.0f}" height="{size[1]:.0f}">'
    return "\n".join([head, f"<style>{STYLE}</style><defs>{ARROW}</defs>", *drawn, "</svg>", ""])


def _rows(boxes: Mapping[str, Any]) -> tuple[list[list[Any]], list[list[Any]]]:
    """(the rows of keys, each line as the keys that it passes); where a line passes a row it has a key of its own."""
    level: dict[Any, int] = {}
    for key, box in boxes.items():
        level[key] = 1 + max((level.get(need, -1) for need in box.needs), default=-1)
    rows: list[list[Any]] = [[] for _ in range(1 + max(level.values(), default=0))]
    for key, i in level.items():
        rows[i].append(key)
    lines = []
    for key, box in boxes.items():
        for need in box.needs:
            between = [(need, key, i) for i in range(level[need] + 1, level[key])]
            for lane in between:
                rows[lane[2]].append(lane)
            lines.append([need, *between, key])
    _untangle(rows, lines)
    return rows, lines


def _untangle(rows: list[list[Any]], lines: list[list[Any]]) -> None:
    """Sort each row by the mean place of its neighbours in the row before, then in the row behind, some times."""
    up, down = _neighbours(lines)
    for sweep in range(6):
        sides = (up, rows) if sweep % 2 == 0 else (down, rows[::-1])
        for before, row in pairwise(sides[1]):
            place = {key: i / len(before) for i, key in enumerate(before)}
            own = {key: i / len(row) for i, key in enumerate(row)}
            mean = {key: _mean([place[n] for n in sides[0].get(key, ())], own[key]) for key in row}
            row.sort(key=mean.__getitem__)


def _neighbours(lines: list[list[Any]]) -> tuple[dict[Any, list], dict[Any, list]]:
    up: dict[Any, list] = {}
    down: dict[Any, list] = {}
    for way in lines:
        for a, b in pairwise(way):
            up.setdefault(b, []).append(a)
            down.setdefault(a, []).append(b)
    return up, down


def _places(rows: list[list[Any]], lines: list[list[Any]], wide: Mapping[Any, float]) -> dict[Any, float]:
    """The middle of each box: near its neighbours', as far as those in its row leave room."""
    up, down = _neighbours(lines)
    x: dict[Any, float] = {}
    for row in rows:
        _settle(row, dict.fromkeys(row, 0.0), wide, x)
    for step in range(12):
        for row in rows if step % 2 == 0 else rows[::-1]:
            near = {key: [x[n] for n in (*up.get(key, ()), *down.get(key, ()))] for key in row}
            _settle(row, {key: _mean(near[key], x[key]) for key in row}, wide, x)
    return x


def _settle(row: list[Any], wanted: Mapping[Any, float], wide: Mapping[Any, float], x: dict[Any, float]) -> None:
    """Put a row's boxes where they are wanted, or as near as order and gaps allow: the mean from both sides."""
    right: list[float] = []
    for i, key in enumerate(row):
        least = right[-1] + (wide[row[i - 1]] + wide[key]) / 2 + GAP if right else wanted[key]
        right.append(max(wanted[key], least))
    left: list[float] = []
    for i in range(len(row) - 1, -1, -1):
        most = left[-1] - (wide[row[i + 1]] + wide[row[i]]) / 2 - GAP if left else wanted[row[i]]
        left.append(min(wanted[row[i]], most))
    x.update({key: (a + b) / 2 for key, a, b in zip(row, right, left[::-1], strict=True)})


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _width(box: Any) -> float:
    return max(64.0, LETTER * max(len(box.title), len(box.detail)) + 16)


def _line(points: list[tuple[float, float]]) -> str:
    """A smooth line from under the first point to above the last."""
    points = [(points[0][0], points[0][1] + HIGH / 2), *points[1:-1], (points[-1][0], points[-1][1] - HIGH / 2)]
    text = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for (x0, y0), (x1, y1) in pairwise(points):
        middle = (y0 + y1) / 2
        text += f"C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {y1:.1f}"
    return f'<path d="{text}" marker-end="url(#a)"/>'


def _drawn(box: Any, x: float, y: float, wide: float) -> str:
    colour = next(value for key, value in COLOURS.items() if key in box.kind.lower())
    kind = ' class="f"' if box.folded else ""
    lines = (
        f'<text x="{x:.1f}" y="{y - 2 if box.detail else y + 4:.1f}">{html.escape(box.title)}</text>',
        f'<text class="d" x="{x:.1f}" y="{y + 12:.1f}">{html.escape(box.detail)}</text>' if box.detail else "",
    )
    corner = f'x="{x - wide / 2:.1f}" y="{y - HIGH / 2:.1f}"'
    rect = f'<rect{kind} {corner} width="{wide:.1f}" height="{HIGH}" rx="6" fill="{colour}"/>'
    return f"<g><title>{html.escape(box.tip)}</title>{rect}{''.join(lines)}</g>"
