"""Draws what `run.py --json` found as an SVG picture: one bar a queue, the fastest first."""

from collections.abc import Mapping
from html import escape

WIDTH, ROW, LEFT, RIGHT = 720, 34, 150, 190  # pixels; what is left of WIDTH is for the bars
OURS, THEIRS = "#0b7285", "#adb5bd"


def draw(found: Mapping[str, Mapping[str, float]], machine: str, ours: str) -> str:
    """Return the picture of the whole lifecycles per second; `ours` is the bar that stands out."""
    rows = sorted(found.items(), key=lambda item: -item[1]["whole"])
    scale = (WIDTH - LEFT - RIGHT) / rows[0][1]["whole"]
    height = ROW * (len(rows) + 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
        f' font-family="system-ui, sans-serif" font-size="14" fill="#212529">',
        "<title>Whole lifecycles per second, beside other queues</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="24" font-weight="600">Whole lifecycles per second ({escape(machine)})'
        "</text>",
    ]
    for number, (name, row) in enumerate(rows):
        y = ROW * (number + 1) + 6
        length = max(1.0, row["whole"] * scale)
        note = "charged, audited, announced" if name == ours else "an empty job"
        parts.append(
            f'<text x="{LEFT - 10}" y="{y + 17}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{ROW - 10}" rx="3"'
            f' fill="{OURS if name == ours else THEIRS}"/>'
            f'<text x="{LEFT + length + 8:.1f}" y="{y + 17}">{row["whole"]:,.0f}'
            f' <tspan fill="#495057" font-size="12">{note}</tspan></text>'
        )
    parts.append("</svg>\n")
    return "\n".join(parts)
