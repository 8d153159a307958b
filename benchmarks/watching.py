"""(g) What watching costs the requests: a whole Check with nobody watching, and with one watcher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import cpu, processes, sentinel
from benchmarks.processes import Programs, UnavailableError
from benchmarks.report import Row, Table, measured, missing, ratios, with_values
from benchmarks.suite import Options, interleave, progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.load import Result

# Subject: what its watcher asks for; None for no watcher. Nothing is refused, so "denials" matches nothing.
SUBJECTS: Mapping[str, str | None] = {
    "nobody watches": None,
    "denials watched": '{"verdict": "deny"}',
    "all watched": "{}",
}


def suite(options: Options) -> Table:
    """Measure each in turns."""
    rows: list[Row] = []
    with Programs() as programs:
        running: dict[str, sentinel.Running] = {}
        for number, (subject, request) in enumerate(SUBJECTS.items()):
            debug = f"127.0.0.1:{processes.free_port()}"
            try:
                each = sentinel.start(programs, "lean", {"DEBUG_GRPC_ADDRESS": debug}, name=f"watch-{number}")
                if request is not None:
                    _watch(programs, each, debug, request)
            except UnavailableError as error:
                progress(f"  {subject}: {error}")
                rows.append(missing({"server": subject}, error))
            else:
                running[subject] = each

        def measure(subject: str) -> Result:
            return processes.load(sentinel.check_plan(running[subject], options, tenants=100), cpu.core(1))

        results = interleave(tuple(running), options.runs, measure)
        made = [_row(subject, results[subject], each) for subject, each in running.items()]
        rows += ratios(made, "nobody watches")
    return Table(
        name="watching",
        title=f"sentinel-ext serve and one watcher that reads, medians of {options.runs} runs",
        rows=rows,
        notes=[
            "server on core 0; Redis, watcher and load client on core 1",
            "us: CPU microseconds of one Check; missed: events that the watcher did not get",
        ],
    )


def _watch(programs: Programs, running: sentinel.Running, debug: str, request: str) -> None:
    programs.python(
        "benchmarks.watcher",
        debug,
        request,
        cores=cpu.core(1),
        is_ready=lambda: _read(running, "sentinel_watchers") == 1,
    )


def _row(subject: str, results: list[Result] | UnavailableError, running: sentinel.Running) -> Row:
    row = measured(results, what={"server": subject})
    if isinstance(results, UnavailableError):
        return row
    answers = max(1, sum(each.answers for each in results))
    server_us = sum(each.cpu["server"] for each in results) * 1e6 / answers
    return with_values(row, {"server_us": server_us, "missed": _read(running, "sentinel_watch_missed_total")})


def _read(running: sentinel.Running, name: str) -> float:
    text = (processes.http_get(f"http://127.0.0.1:{running.admin_port}/metrics") or b"").decode()
    lines = (line for line in text.splitlines() if line.startswith(f"{name} "))
    return sum(float(line.rpartition(" ")[2]) for line in lines)
