"""(a) One unary method that answers a constant: what the servers themselves cost."""

from __future__ import annotations

from benchmarks import cpu, processes, servers
from benchmarks.load import Plan
from benchmarks.processes import Programs, UnavailableError
from benchmarks.report import Row, Table, measured, missing, ratios
from benchmarks.suite import Options, grpc_request, interleave, progress

KINDS = ("grpcio", "lean", "lean-async")
# A CheckRequest with a dozen headers.
REQUEST = bytes(600)
CONNECTIONS, STREAMS = 4, 25


def suite(options: Options) -> Table:
    """Measure every kind of server."""
    rows: list[Row] = []
    running: dict[str, tuple[int, int]] = {}
    with Programs() as programs:
        for kind in KINDS:
            try:
                running[kind] = start(programs, kind)
            except UnavailableError as error:
                progress(f"  {kind}: {error}")
                rows.append(missing({"server": kind}, error))
        results = interleave(
            tuple(running),
            options.runs,
            lambda kind: processes.load(plan(*running[kind], options), cpu.core(1)),
        )
    rows = ratios([measured(results[kind], what={"server": kind}) for kind in results]) + rows
    return Table(
        name="constant",
        title=f"unary constant handler, {CONNECTIONS} x {STREAMS} streams, medians of {options.runs} runs",
        rows=rows,
        notes=[
            "grpcio: grpc.aio on uvloop; lean: answers at once; lean-async: the coroutine that grpcio runs",
            "ratio: answers per CPU second of the server process against grpcio's in the same turns",
        ],
    )


def start(programs: Programs, kind: str) -> tuple[int, int]:
    """Start a constant server on core 0; return its port and process id.

    Raises:
        UnavailableError: it does not start.
    """
    port = processes.free_port()
    pid = programs.python(
        "benchmarks.servers",
        kind,
        f"127.0.0.1:{port}",
        cores=cpu.core(0),
        is_ready=lambda: processes.accepts(port),
    )
    return port, pid


def plan(
    port: int, pid: int, options: Options, *, connections: int = CONNECTIONS, streams: int = STREAMS
) -> Plan:
    """Return the plan of one run against a constant server."""
    return Plan(
        target=f"127.0.0.1:{port}",
        headers=grpc_request(servers.PATH),
        message=REQUEST,
        connections=connections,
        streams=streams,
        warm_s=options.warm_s,
        measured_s=options.measured_s,
        watched={"server": pid},
    )
