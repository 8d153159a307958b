"""(d) From little to much of one thing at a time: where does a server stop being the same?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import constant, cpu, processes, sentinel
from benchmarks.processes import Programs, UnavailableError
from benchmarks.report import Row, Table, measured, missing, with_values
from benchmarks.suite import Options, interleave

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.load import Plan, Result

CONNECTIONS = (1, 4, 16, 64, 256)
STREAMS = (1, 10, 100, 1000)
HEADER_BYTES = (200, 1000, 2000, 4000, 8000)
TENANTS = (10, 1000, 100_000, 1_000_000)
# With more connections each has fewer streams, and the other way round: 256 requests are open in any case.
OPEN = 256


def suite(options: Options) -> Table:
    """Measure a constant answer over connections and streams, a whole Check over headers and tenants."""
    rows: list[Row] = []
    for kind in ("grpcio", "lean"):
        rows += _constant_rows(kind, options)
    for server in sentinel.SERVERS:
        rows += _check_rows(server, options)
    return Table(
        name="growth",
        title=f"one thing grows at a time, medians of {options.runs} runs",
        rows=rows,
        notes=[
            f"connections: a constant answer, {OPEN} requests open; streams: the same on one connection",
            "header bytes: of the caller, inside a whole Check; tenants: take turns, a whole Check",
        ],
    )


def _constant_rows(kind: str, options: Options) -> list[Row]:
    rows: list[Row] = []
    with Programs() as programs:
        try:
            port, pid = constant.start(programs, kind)
        except UnavailableError as error:
            return [missing({"server": kind}, error)]
        rows += _grow(
            {"server": kind, "grows": "connections"},
            _points(CONNECTIONS, options),
            options,
            lambda n: constant.plan(port, pid, options, connections=n, streams=max(1, OPEN // n)),
        )
        rows += _grow(
            {"server": kind, "grows": "streams"},
            _points(STREAMS, options),
            options,
            lambda n: constant.plan(port, pid, options, connections=1, streams=n),
        )
    return rows


def _check_rows(server: str, options: Options) -> list[Row]:
    rows: list[Row] = []
    sweeps: tuple[tuple[str, tuple[int, ...], str], ...] = (
        ("header bytes", HEADER_BYTES, "header_bytes"),
        ("tenants", TENANTS, "tenants"),
    )
    for name, points, parameter in sweeps:
        with Programs() as programs:
            try:
                running = sentinel.start(programs, server)
            except UnavailableError as error:
                return [missing({"server": server}, error)]

            def plan(count: int, running: sentinel.Running = running, parameter: str = parameter) -> Plan:
                return sentinel.check_plan(running, options, **{parameter: count})

            what: dict[str, str | int] = {"server": server, "grows": name}
            rows += _grow(what, _points(points, options), options, plan, running.pid)
    return rows


def _grow(
    what: dict[str, str | int],
    points: Sequence[int],
    options: Options,
    plan: Callable[[int], Plan],
    pid: int | None = None,
) -> list[Row]:
    """Measure every point; with `pid` also that process' memory after it, which only ever grows."""
    labels = {f"{what['server']}, {what['grows']} {point:,}": point for point in points}
    memory: dict[str, dict[str, float]] = {label: {} for label in labels}

    def run(label: str) -> Result:
        result = processes.load(plan(labels[label]), cpu.core(1))
        if pid is not None:
            memory[label] = {"rss_mib": processes.rss_mib(pid)}
        return result

    results = interleave(tuple(labels), options.runs, run)
    return [
        with_values(measured(results[label], what={**what, "to": point}), memory[label])
        for label, point in labels.items()
    ]


def _points(points: tuple[int, ...], options: Options) -> tuple[int, ...]:
    return points[:2] if options.quick else points
