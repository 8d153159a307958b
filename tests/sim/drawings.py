"""The drawings of docs/sim: figures over the offered load, and time lines of what goes wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.policy import TIERS
from sim.scenarios import LOADS, SCENARIOS, steady
from sim.svg import Drawing, Panel, Series, render

if TYPE_CHECKING:
    from sim.board import Board
    from sim.scenario import Scenario
    from sim.score import Lines

# Colour and dashes by policy: no two share both, and the one that matters is the thick one.
_LOOKS = {
    "sentinel": ("#0b57d0", ""),
    "none": ("#1f2328", "2 3"),
    "static-rate": ("#8250df", "6 3"),
    "aimd": ("#1a7f37", ""),
    "gradient2": ("#9a6700", ""),
    "gradient2-shares": ("#bc4c00", "6 3"),
    "vegas": ("#1b7c83", "6 3"),
    "sre-throttle": ("#6639ba", "2 3"),
    "dagor": ("#cf222e", ""),
    "cinnamon": ("#d4267b", ""),
    "cubic": ("#57606a", "6 3"),
}
_THICK, _THIN = 3.0, 1.4
_OFFERED = "#9aa4ae"

# Who stands beside Sentinel in the time lines: no control, the best limiter without tiers and with them.
RIVALS = ("none", "gradient2", "gradient2-shares")
TIME_LINES = ("step", "dip", "metastable", "hog", "als-outage", "redis-outage")


def all_of(board: Board) -> dict[str, str]:
    """Draw everything; name of the file without its ending -> text."""
    found = {"goodput": _over_load(board, ("goodput",)), "tiers": _over_load(board, TIERS)}
    for name in TIME_LINES:
        found[name] = _time_lines(board, SCENARIOS[name])
    return {name: render(drawing) for name, drawing in found.items()}


def _over_load(board: Board, figures: tuple[str, ...]) -> Drawing:
    what = "Goodput" if figures == ("goodput",) else "Success by tier"
    return Drawing(
        title=f"{what} over offered load, by policy",
        x_label="offered load, multiple of the capacity",
        left=0,
        right=max(LOADS),
        x_ticks=range(6),
        panels=[_load_panel(board, figure) for figure in figures],
    )


def _load_panel(board: Board, figure: str) -> Panel:
    # Sentinel is drawn last, above the others.
    series = [
        _series(
            policy,
            [(x, getattr(board[policy][steady(x).name].score, figure)) for x in LOADS],
        )
        for policy in sorted(board, key=lambda name: name == "sentinel")
    ]
    label = "goodput, share of capacity" if figure == "goodput" else f"{figure} success"
    return Panel(label=label, series=series, top=1.0)


def _time_lines(board: Board, scenario: Scenario) -> Drawing:
    runs = {name: board[name][scenario.name].lines for name in (*RIVALS, "sentinel") if name in board}
    offered = next(iter(runs.values()))
    goodput = Panel(
        label="goodput and offered, C",
        series=[
            Series(
                name="offered", colour=_OFFERED, points=_points(offered, "offered"), width=1.4, dashes="1 2"
            ),
            *(_series(name, _points(run, "goodput")) for name, run in runs.items()),
        ],
        top=1.2,
    )
    tiers = [
        Panel(
            label=f"{tier} success",
            series=[_series(name, _points(run, tier)) for name, run in runs.items()],
            top=1.0,
        )
        for tier in TIERS
    ]
    return Drawing(
        title=f"{scenario.name}: {scenario.title}",
        x_label="seconds",
        left=0,
        right=scenario.duration_s,
        x_ticks=range(0, int(scenario.duration_s) + 1, 10),
        panels=[goodput, *tiers],
        shaded=_shaded(scenario),
    )


def _shaded(scenario: Scenario) -> list[tuple[float, float, str]]:
    spans = [(change.start_s, change.end_s, "less capacity") for change in scenario.capacity]
    spans += [(*span, "no access log") for span in scenario.als_outages]
    spans += [(*span, "no Redis") for span in scenario.redis_outages]
    over = [at for at, _ in scenario.load] + [scenario.duration_s]
    if scenario.name == "step":
        spans += [(over[1], over[2], "overload")]
    return spans


def _points(run: Lines, name: str) -> list[tuple[float, float | None]]:
    return [((at + 0.5) * run.step_s, value) for at, value in enumerate(getattr(run, name))]


def _series(policy: str, points: list[tuple[float, float | None]]) -> Series:
    colour, dashes = _LOOKS[policy]
    width = _THICK if policy == "sentinel" else _THIN
    return Series(name=policy, colour=colour, points=points, width=width, dashes=dashes)
