"""(b) A whole Check: decode, tenant, bucket, window in a real Redis, answer; on either server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import cpu, processes, sentinel
from benchmarks.processes import Programs, UnavailableError
from benchmarks.report import Row, Table, measured, missing, ratios, with_values
from benchmarks.suite import Options, interleave, progress

if TYPE_CHECKING:
    from benchmarks.load import Result

TENANTS = (1, 10_000)


def suite(options: Options) -> Table:
    """Measure each server with few and many tenants."""
    rows: list[Row] = []
    with Programs() as programs:
        running = {}
        for server in sentinel.SERVERS:
            try:
                running[server] = sentinel.start(programs, server)
            except UnavailableError as error:
                progress(f"  {server}: {error}")
                rows.append(missing({"server": server}, error))
        for tenants in TENANTS:
            before = {server: each.fallbacks() for server, each in running.items()}

            def measure(server: str, tenants: int = tenants) -> Result:
                plan = sentinel.check_plan(running[server], options, tenants=tenants)
                return processes.load(plan, cpu.core(1))

            results = interleave(tuple(running), options.runs, measure)
            rows += ratios(
                [
                    _row(results[server], server, tenants, each.fallbacks() - before[server])
                    for server, each in running.items()
                ]
            )
    return Table(
        name="check",
        title=f"sentinel-ext serve and redis-server, 4 x 25 streams, medians of {options.runs} runs",
        rows=rows,
        notes=["server on core 0; Redis and the load client on core 1", "us: CPU microseconds of one Check"],
    )


def _row(results: list[Result] | UnavailableError, server: str, tenants: int, fallbacks: float) -> Row:
    row = measured(results, what={"server": server, "tenants": tenants})
    if isinstance(results, UnavailableError):
        return row
    answers = max(1, sum(each.answers for each in results))
    microseconds = {
        f"{name}_us": sum(each.cpu[name] for each in results) * 1e6 / answers for name in ("server", "redis")
    }
    samples = [sample for each in results for sample in each.samples]
    return with_values(row, microseconds, sentinel.remark(samples, fallbacks))
