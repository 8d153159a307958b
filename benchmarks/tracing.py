"""(f) What tracing costs: a whole Check with tracing off, and on with parts of the checks sampled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import cpu, processes, sentinel
from benchmarks.processes import Programs, UnavailableError
from benchmarks.report import Row, Table, measured, missing, ratios, with_values
from benchmarks.suite import Options, interleave, progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.load import Result

# Subject: the ratio of OTEL_TRACES_SAMPLER_ARG, None for off.
SUBJECTS: Mapping[str, str | None] = {"off": None, "on, 0 %": "0", "on, 1 %": "0.01", "on, 100 %": "1"}
_COUNTS = ("exported", "dropped")


def suite(options: Options) -> Table:
    """Measure each in turns, all with the same collector, which takes everything."""
    rows: list[Row] = []
    with Programs() as programs:
        port = processes.free_port()
        programs.python(
            "benchmarks.sink", str(port), cores=cpu.core(1), is_ready=lambda: processes.accepts(port)
        )
        running: dict[str, sentinel.Running] = {}
        for number, (subject, ratio) in enumerate(SUBJECTS.items()):
            try:
                running[subject] = sentinel.start(
                    programs, "lean", _environment(port, ratio), name=f"trace-{number}"
                )
            except UnavailableError as error:
                progress(f"  {subject}: {error}")
                rows.append(missing({"server": subject}, error))

        def measure(subject: str) -> Result:
            return processes.load(sentinel.check_plan(running[subject], options, tenants=100), cpu.core(1))

        results = interleave(tuple(running), options.runs, measure)
        rows += ratios([_row(subject, results[subject], each) for subject, each in running.items()], "off")
    return Table(
        name="tracing",
        title=f"sentinel-ext serve with a collector that takes all, medians of {options.runs} runs",
        rows=rows,
        notes=[
            "server on core 0; Redis, collector and load client on core 1",
            "us: CPU microseconds of one Check",
        ],
    )


def _environment(port: int, ratio: str | None) -> dict[str, str]:
    if ratio is None:
        return {}
    return {
        "ENABLE_TRACING": "true",
        "OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": ratio,
    }


def _row(subject: str, results: list[Result] | UnavailableError, running: sentinel.Running) -> Row:
    row = measured(results, what={"server": subject})
    if isinstance(results, UnavailableError):
        return row
    answers = max(1, sum(each.answers for each in results))
    values = {"server_us": sum(each.cpu["server"] for each in results) * 1e6 / answers}
    values |= {f"spans_{name}": _spans(running, name) for name in _COUNTS}
    return with_values(row, values)


def _spans(running: sentinel.Running, name: str) -> float:
    text = (processes.http_get(f"http://127.0.0.1:{running.admin_port}/metrics") or b"").decode()
    lines = (line for line in text.splitlines() if line.startswith(f"sentinel_spans_{name}_total"))
    return sum(float(line.rpartition(" ")[2]) for line in lines)
