"""(e) RateLimitService: Sentinel with leases and without, and envoyproxy/ratelimit, under the same load."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from envoy.service.ratelimit.v3 import rls_pb2

from benchmarks import cpu, peer, processes, sentinel
from benchmarks.load import Plan
from benchmarks.processes import Programs, UnavailableError, find
from benchmarks.report import Row, Table, measured, missing, with_values
from benchmarks.suite import Options, grpc_request, interleave, progress
from sentinel_ext.client.load_connection import TENANT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.load import Result

SHOULD_RATE_LIMIT = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
PEER = "peer"
# What both read. Nothing is over but where a case is about that.
RULES = """
domain: bench
descriptors:
  - key: user
    rate_limit: {unit: hour, requests_per_unit: 4000000000}
  - key: path
    rate_limit: {unit: hour, requests_per_unit: 4000000000}
  - key: method
    rate_limit: {unit: hour, requests_per_unit: 4000000000}
  - key: host
    rate_limit: {unit: hour, requests_per_unit: 4000000000}
  - key: over
    rate_limit: {unit: hour, requests_per_unit: 10}
"""
# What clients ask for themselves, not for a decision.
_OF_CLIENTS = {"info", "command", "client", "hello", "ping"}
_KEYS = ("user", "path", "method", "host")


class Case(msgspec.Struct, frozen=True):
    """One kind of request.

    Attributes:
        keys: one descriptor each; the first has TENANT as its value.
        tenants: how many values take turns.
    """

    name: str
    keys: tuple[str, ...] = _KEYS[:1]
    tenants: int = 1


CASES = (
    Case("1 key"),
    Case("10,000 keys", tenants=10_000),
    Case("2 descriptors", _KEYS[:2]),
    Case("4 descriptors", _KEYS),
    Case("over limit", ("over",)),
)


class Subject(msgspec.Struct, frozen=True):
    """One server under load, with a Redis of its own."""

    name: str
    port: int
    pid: int
    redis_socket: str
    redis_pid: int

    def commands(self) -> dict[str, int]:
        """Return how often Redis was called so far: scripts and commands, and commands within scripts."""
        import redis  # noqa: PLC0415  only this suite asks Redis itself

        with redis.Redis(unix_socket_path=self.redis_socket) as client:
            stats = client.info("commandstats")
        return {name.removeprefix("cmdstat_"): int(each["calls"]) for name, each in stats.items()}


def suite(options: Options) -> Table:
    """Measure every case on every subject that is there."""
    rows: list[Row] = []
    with Programs() as programs:
        subjects = {}
        for name, make in _makers(programs).items():
            try:
                subjects[name] = make()
            except UnavailableError as error:
                progress(f"  {name}: {error}")
                rows.append(missing({"server": name}, error))
        for case in CASES[::2] if options.quick else CASES:
            rows += _case(case, subjects, options)
    return Table(
        name="ratelimit",
        title=f"ShouldRateLimit, 4 x 25 streams, medians of {options.runs} runs",
        rows=rows,
        notes=[
            "server on core 0, the others stopped meanwhile; Redis and the load client on core 1",
            "ratio: decisions per CPU second of the service against the peer's in the same case",
            "commands: what Redis ran per decision, those inside a script too",
            "trips: messages to Redis per decision; the peer's is one for each decision that sends any",
            "peer: GOMAXPROCS=1, REDIS_POOL_SIZE=10, USE_PROMETHEUS=true, LOCAL_CACHE_SIZE_IN_BYTES=1e8",
        ],
    )


def _makers(programs: Programs) -> dict[str, Callable[[], Subject]]:
    def ours(name: str, leases: str) -> Subject:
        folder = programs.folder / f"rules-{leases}"
        folder.mkdir()
        (folder / "rules.yaml").write_text(RULES, encoding="utf-8")
        extra = {"RATELIMIT_CONFIG_DIR": str(folder), "RATELIMIT_LEASES": leases}
        running = sentinel.start(programs, "lean", extra, name=f"lean-{leases}")
        return Subject(name, running.port, running.pid, running.redis_socket, running.redis_pid)

    def theirs() -> Subject:
        find("redis-server")
        peer.binary()
        socket, redis_pid = sentinel.start_redis(programs, PEER)
        port, pid = peer.start(programs, RULES, socket, {"LOCAL_CACHE_SIZE_IN_BYTES": "100000000"})
        return Subject(PEER, port, pid, socket, redis_pid)

    return {
        "sentinel": lambda: ours("sentinel", "true"),
        "no leases": lambda: ours("no leases", "false"),
        PEER: theirs,
    }


def _case(case: Case, subjects: dict[str, Subject], options: Options) -> list[Row]:
    progress(f" {case.name}")
    called: dict[str, dict[str, int]] = {name: {} for name in subjects}

    def measure(name: str) -> Result:
        subject = subjects[name]
        others = [each.pid for each in subjects.values() if each is not subject]
        before = subject.commands()
        with processes.frozen(others):
            result = processes.load(_plan(case, subject, options), cpu.core(1))
        for command, calls in subject.commands().items():
            called[name][command] = called[name].get(command, 0) + calls - before.get(command, 0)
        return result

    results = interleave(tuple(subjects), options.runs, measure)
    rows = [_row(case, name, results[name], called[name], options) for name in subjects]
    base = next(
        (row.values["answers_per_cpu_s"] for row in rows if row.what["server"] == PEER and row.values), None
    )
    if base is None:
        return rows
    return [
        with_values(row, {"ratio": row.values["answers_per_cpu_s"] / base}) if row.values else row
        for row in rows
    ]


def _plan(case: Case, subject: Subject, options: Options) -> Plan:
    request = rls_pb2.RateLimitRequest(domain="bench")
    for at, key in enumerate(case.keys):
        request.descriptors.add().entries.add(key=key, value=TENANT if at == 0 else "v")
    return Plan(
        target=f"127.0.0.1:{subject.port}",
        headers=grpc_request(SHOULD_RATE_LIMIT),
        message=request.SerializeToString(),
        tenants=case.tenants,
        warm_s=options.warm_s,
        measured_s=options.measured_s,
        watched={"server": subject.pid, "redis": subject.redis_pid},
    )


def _row(
    case: Case, name: str, results: list[Result] | UnavailableError, called: dict[str, int], options: Options
) -> Row:
    row = measured(results, what={"case": case.name, "server": name})
    if isinstance(results, UnavailableError):
        return row
    measured_answers = max(1, sum(each.answers for each in results))
    # Redis was asked during the warm-up, too.
    answers = measured_answers * (options.warm_s + options.measured_s) / options.measured_s
    values = {
        "server_us": sum(each.cpu["server"] for each in results) * 1e6 / measured_answers,
        "redis_us": sum(each.cpu["redis"] for each in results) * 1e6 / measured_answers,
        **redis_use(called, answers, pipelined=len(case.keys) if name == PEER else 0),
    }
    return with_values(row, values, _remark(results, is_over=case.name == "over limit"))


def redis_use(called: Mapping[str, int], answers: float, *, pipelined: int) -> dict[str, float]:
    """Return commands and trips per answer.

    Args:
        called: calls by command.
        answers: in the same time.
        pipelined: 0 where each script call is a trip, else how many INCRBY travel together.
    """
    commands = sum(calls for command, calls in called.items() if command.partition("|")[0] not in _OF_CLIENTS)
    scripts = called.get("evalsha", 0) + called.get("eval", 0)
    trips = called.get("incrby", 0) / pipelined if pipelined else scripts
    return {"commands": commands / answers, "trips": trips / answers}


def _remark(results: list[Result], *, is_over: bool) -> str:
    """Say when answers are not the ones the case is about."""
    codes = [
        rls_pb2.RateLimitResponse.FromString(sample[5:]).overall_code
        for result in results
        for sample in result.samples
    ]
    expected = rls_pb2.RateLimitResponse.OVER_LIMIT if is_over else rls_pb2.RateLimitResponse.OK
    wrong = sum(code != expected for code in codes)
    return f"{wrong} of {len(codes)} samples are another answer" if wrong else ""
