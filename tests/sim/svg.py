"""A small SVG writer: line charts in panels below each other, with axes, a legend and shaded spans.

The background is drawn, so that a drawing is legible on a dark page too. Equal data give equal bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

import msgspec

WIDTH = 860
LEFT, RIGHT = 62, 160
TITLE = 44
PANEL, GAP = 190, 52
INK, GRID, SHADE, PAPER = "#1f2328", "#d8dee4", "#fde8c8", "#ffffff"


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """A line; a point without a value interrupts it."""

    name: str
    colour: str
    points: Sequence[tuple[float, float | None]]
    width: float = 1.5
    dashes: str = ""


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """One pair of axes."""

    label: str
    series: Sequence[Series]
    top: float


class Drawing(msgspec.Struct, frozen=True, kw_only=True):
    """Panels with a common x axis, from `left` to `right`."""

    title: str
    x_label: str
    left: float
    right: float
    x_ticks: Sequence[float]
    panels: Sequence[Panel]
    shaded: Sequence[tuple[float, float, str]] = ()


def render(drawing: Drawing) -> str:
    """Give the file's text."""
    height = TITLE + len(drawing.panels) * (PANEL + GAP)
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="system-ui, sans-serif" role="img">',
        f"<title>{escape(drawing.title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>',
        _text(LEFT, 24, drawing.title, size=15, weight="600"),
    ]
    for number, panel in enumerate(drawing.panels):
        parts += _panel(drawing, panel, TITLE + number * (PANEL + GAP))
    parts += _legend(drawing)
    return "\n".join([*parts, "</svg>", ""])


def _x(drawing: Drawing, value: float) -> float:
    return LEFT + (value - drawing.left) / (drawing.right - drawing.left) * (WIDTH - LEFT - RIGHT)


def _y(panel: Panel, top: float, value: float) -> float:
    return top + PANEL * (1 - min(value, panel.top) / panel.top)


def _panel(drawing: Drawing, panel: Panel, top: float) -> list[str]:
    bottom, end = top + PANEL, WIDTH - RIGHT
    parts = []
    for start, stop, label in drawing.shaded:
        x, width = _x(drawing, start), _x(drawing, stop) - _x(drawing, start)
        parts.append(f'<rect x="{x:.1f}" y="{top}" width="{width:.1f}" height="{PANEL}" fill="{SHADE}"/>')
        if top == TITLE:  # once is enough, and the panels below have their lines up there
            parts.append(_text(x + 4, top + 13, label, size=11))
    for quarter in range(5):
        value = panel.top * quarter / 4
        y = _y(panel, top, value)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{end}" stroke="{GRID}"/>')
        parts.append(_text(LEFT - 6, y + 4, f"{value:g}", anchor="end"))
    for tick in drawing.x_ticks:
        x = _x(drawing, tick)
        parts.append(f'<path d="M{x:.1f} {bottom}v4" stroke="{INK}"/>')
        parts.append(_text(x, bottom + 17, f"{tick:g}", anchor="middle"))
    parts.append(f'<path d="M{LEFT} {top}V{bottom}H{end}" fill="none" stroke="{INK}"/>')
    parts.append(_text((LEFT + end) / 2, bottom + 33, drawing.x_label, anchor="middle"))
    middle = top + PANEL / 2
    turned = _text(0, 0, panel.label, anchor="middle")
    parts.append(f'<g transform="translate(18 {middle:.1f}) rotate(-90)">{turned}</g>')
    parts += [_line(drawing, panel, top, series) for series in panel.series]
    return parts


def _line(drawing: Drawing, panel: Panel, top: float, series: Series) -> str:
    path = []
    pen = "M"
    for x, value in series.points:
        if value is None:
            pen = "M"
            continue
        path.append(f"{pen}{_x(drawing, x):.1f} {_y(panel, top, value):.1f}")
        pen = "L"
    dashes = f' stroke-dasharray="{series.dashes}"' if series.dashes else ""
    return (
        f'<path d="{"".join(path)}" fill="none" stroke="{series.colour}" stroke-width="{series.width:g}"'
        f' stroke-linejoin="round"{dashes}><title>{escape(series.name)}</title></path>'
    )


def _legend(drawing: Drawing) -> list[str]:
    known: dict[str, Series] = {}
    for panel in drawing.panels:
        known.update({series.name: series for series in panel.series})
    parts = []
    x = WIDTH - RIGHT + 16
    for number, series in enumerate(known.values()):
        y = TITLE + 10 + number * 19
        dashes = f' stroke-dasharray="{series.dashes}"' if series.dashes else ""
        parts.append(
            f'<path d="M{x} {y}h26" stroke="{series.colour}" stroke-width="{series.width:g}"{dashes}/>'
        )
        parts.append(_text(x + 32, y + 4, series.name))
    return parts


def _text(
    x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", weight: str = "400"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}"'
        f' fill="{INK}">{escape(text)}</text>'
    )
