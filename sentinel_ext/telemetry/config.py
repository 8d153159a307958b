"""Metrics of the configuration: is what the files hold in force, and since when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client import Metric

    from sentinel_ext.telemetry.metrics import Metrics


# Whose word a stage's mode is.
POLICY: Final = "policy"
OPERATOR: Final = "operator"


class Live(Protocol):
    """What is told of a configuration that changes while we run."""

    generation: int
    is_ok: bool
    loaded_at: float

    @property
    def reloads(self) -> Mapping[str, int]:
        """How many ended with which result."""
        ...


class _Reloads(Collector):
    def __init__(self, live: Live) -> None:
        self._live = live

    def collect(self) -> Iterator[Metric]:
        """Read it, as prometheus_client's Collector."""
        family = CounterMetricFamily(
            "sentinel_config_reloads",
            "Changes of files that were looked at, by result (ok, broken).",
            labels=["result"],
        )
        for result, count in self._live.reloads.items():
            family.add_metric([result], count)
        yield family


class _StageModes(Collector):
    def __init__(self, shown: Callable[[], Mapping[str, Mapping[str, str]]]) -> None:
        self._shown = shown

    def collect(self) -> Iterator[Metric]:
        """Read it, as prometheus_client's Collector."""
        family = GaugeMetricFamily(
            "sentinel_stage_mode",
            "1 for the mode (enforce, shadow, off) a stage runs in; source says whose word that is.",
            labels=["stage", "mode", "source"],
        )
        for stage, modes in self._shown().items():
            source = POLICY if modes["mode"] == modes["policy"] else OPERATOR
            family.add_metric([stage, modes["mode"], source], 1.0)
        yield family


def publish_modes(metrics: Metrics, shown: Callable[[], Mapping[str, Mapping[str, str]]]) -> None:
    """Publish how every stage runs: `shown` as stage_modes.StageModes.shown."""
    metrics.registry.register(_StageModes(shown))


def publish_config(metrics: Metrics, live: Live) -> None:
    """Join the metrics of the process."""
    metrics.registry.register(_Reloads(live))
    metrics.gauge(
        "sentinel_config_last_reload_ok",
        "1 while what the files hold is in force; 0 while they are broken and the last good ones stay.",
        lambda: float(live.is_ok),
    )
    metrics.gauge(
        "sentinel_config_last_success_timestamp_seconds",
        "When the configuration in force was loaded.",
        lambda: live.loaded_at,
    )
    metrics.gauge(
        "sentinel_config_generation",
        "Counts the configurations that were in force, from 1.",
        lambda: float(live.generation),
    )
