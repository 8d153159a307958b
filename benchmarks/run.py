"""`python -m benchmarks.run`: measure Sentinel, print tables, write JSON."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from benchmarks import machine, report
from benchmarks.processes import UnavailableError
from benchmarks.suite import Options, progress

if TYPE_CHECKING:
    from collections.abc import Sequence

# Each is a module with a function `suite(Options) -> Table`; in the order of running.
SUITES = {
    "constant": "one method that answers a constant: lean against grpc.aio",
    "check": "a whole Check with a real redis-server, 1 and 10,000 tenants",
    "proxy": "requests through a real Envoy: without ext_authz, with grpcio, with lean",
    "watching": "a whole Check with nobody watching, and with one watcher",
    "ratelimit": "ShouldRateLimit: leases on and off, beside envoyproxy/ratelimit where it is built",
    "growth": "from few to many connections, streams, header bytes, tenants",
}

# A run longer than this measures no better, and its latencies would fill the memory.
MAX_SECONDS = 600


def main(argv: Sequence[str] | None = None) -> int:
    """Run the suites that were asked for; return the exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if sys.platform != "linux":
        parser.error("needs Linux: it reads /proc and binds processes to cores")
    options = (
        Options.short() if arguments.quick else Options(runs=arguments.runs, measured_s=arguments.seconds)
    )
    # Ends what was started, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    tables = []
    for name in arguments.only or SUITES:
        progress(f"{name}: {SUITES[name]}")
        table = _run(name, options)
        sys.stdout.write(report.render(table) + "\n\n")
        sys.stdout.flush()
        tables.append(table)
    if arguments.json is not None:
        document = {"machine": machine.facts(), "options": options, "tables": tables}
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(document)) + b"\n")
    return 0


def _run(name: str, options: Options) -> report.Table:
    try:
        table: report.Table = importlib.import_module(f"benchmarks.{name}").suite(options)
    except UnavailableError as error:
        return report.Table(name=name, title=SUITES[name], rows=[report.missing({"suite": name}, error)])
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run",
        description="Measure Sentinel. The measured server has core 0, the load client core 1. "
        "Nothing is judged: read ratios, not absolute numbers.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="suites:\n" + "\n".join(f"  {name:9} {text}" for name, text in SUITES.items()),
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=list(SUITES),
        metavar="SUITE",
        help="run this suite; may be repeated",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the results and the machine's facts here"
    )
    parser.add_argument("--quick", action="store_true", help="one short run of few points: does it work?")
    parser.add_argument("--runs", type=_count, default=5, help="runs per subject, interleaved (%(default)s)")
    parser.add_argument(
        "--seconds", type=_seconds, default=3.0, help="measured seconds of a run (%(default)s)"
    )
    return parser


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most {MAX_SECONDS}")
    return value


if __name__ == "__main__":
    sys.exit(main())
