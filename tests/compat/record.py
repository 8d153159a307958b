"""`python tests/compat/record.py`: ask envoyproxy/ratelimit all of cases.py and write vectors.json.

Needs its server (`make peer`) and redis-server. The tests need neither: they read vectors.json.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import grpc

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(HERE)]

from asking import Asked, ask_all  # noqa: E402
from cases import CASES  # noqa: E402
from support.envoy import free_port  # noqa: E402
from support.redis_server import RedisServer  # noqa: E402

from benchmarks.peer import binary  # noqa: E402

COUNTER = re.compile(r'"name":"ratelimit\.service\.rate_limit\.(.+)\.(\w+)","type":"counter","value":"(\d+)')


def record(case: dict[str, Any], folder: Path) -> tuple[list[Asked], dict[str, dict[str, int]]]:
    """Run one case on a server and a Redis of its own; return its answers and each rule's statistics."""
    config = folder / "ratelimit" / "config"
    config.mkdir(parents=True)
    for name, text in case["files"].items():
        (config / name).write_text(text)
    redis_server = RedisServer(folder).start()
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "HOST": "127.0.0.1", "PORT": str(free_port()),
        "DEBUG_HOST": "127.0.0.1", "DEBUG_PORT": str(free_port()),
        "GRPC_HOST": "127.0.0.1", "GRPC_PORT": str(port), "LOG_LEVEL": "error",
        # Without a place for its statistics it logs them.
        "USE_STATSD": "false", "STATS_FLUSH_INTERVAL": "1s",
        "RUNTIME_ROOT": str(folder), "RUNTIME_SUBDIRECTORY": "ratelimit", "RUNTIME_WATCH_ROOT": "false",
        "REDIS_SOCKET_TYPE": "unix", "REDIS_URL": str(redis_server.socket),
        **case["env"],
    }  # fmt: skip
    with (folder / "peer.log").open("wb") as log:
        process = subprocess.Popen([binary()], env=environment, stdout=log, stderr=log)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            grpc.channel_ready_future(channel).result(timeout=20)
            time.sleep(0.5)  # it serves before it has read its files
            answers = ask_all(channel, case["requests"])
        time.sleep(1.5)  # until the next flush
    finally:
        process.kill()
        process.wait()
        redis_server.stop()
    statistics: dict[str, Counter[str]] = defaultdict(Counter)
    for rule, name, count in COUNTER.findall((folder / "peer.log").read_text()):
        if name != "domain_not_found":
            statistics[rule][name] += int(count)
    return answers, {rule: dict(sorted(statistics[rule].items())) for rule in sorted(statistics)}


def main() -> None:
    """Record all."""
    vectors = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            print(case["name"], file=sys.stderr)
            answers, statistics = record(case, Path(folder))
        vectors.append({"name": case["name"], "answers": answers, "statistics": statistics})
    source = "envoyproxy/ratelimit v1.4.1-0.20260122083618-3fb702589d36, asked by tests/compat/record.py"
    document = {"source": source, "vectors": vectors}
    (HERE / "vectors.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
