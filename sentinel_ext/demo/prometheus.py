"""Prometheus in the demo: where it is, what it scrapes, and whether it does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import yaml

from sentinel_ext.demo import binaries
from sentinel_ext.demo.probes import reachable
from sentinel_ext.errors import ConfigError

if TYPE_CHECKING:
    from sentinel_ext.address import Address

_HERE = Path(__file__).parent
# The wheel has a copy beside this file (pyproject.toml); a checkout has the original.
_PLACES = (_HERE / "alerts.yaml", _HERE.parents[1] / "deploy/prometheus/alerts.yaml")
ALERTS = next((path for path in _PLACES if path.exists()), _PLACES[0])
JOBS = ("sentinel", "envoy")
# Short, so that the sample already shows; a production interval is 15 s or more.
SCRAPE_INTERVAL = "1s"
EVALUATION_INTERVAL = "5s"
_TIMEOUT = aiohttp.ClientTimeout(total=2.0)


class Prometheus(NamedTuple):
    """Which program to start, and where it listens."""

    program: Path
    address: Address

    @property
    def url(self) -> str:
        """Where its pages and its API are."""
        return f"http://{reachable(self.address)}"

    def arguments(self, folder: Path) -> list[str]:
        """Return the command line; configuration and data are in `folder`."""
        return [
            str(self.program),
            f"--config.file={folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={folder / 'prometheus'}",
            f"--web.listen-address={self.address}",
            "--enable-feature=exemplar-storage",
            "--log.level=warn",
        ]


def find(address: Address, admin: Address) -> Prometheus:
    """Return what to start.

    Args:
        address: where it shall listen.
        admin: Sentinel's admin address, which it shall scrape.

    Raises:
        ConfigError: it is not installed, or cannot scrape a Unix socket.
    """
    if admin.is_unix:
        raise ConfigError(
            [f"--with-prometheus: Prometheus cannot scrape ADMIN_ADDRESS {admin}: set host:port"]
        )
    program = binaries.on_path("prometheus")
    if program is None:
        remedy = "install Debian's or Ubuntu's package prometheus, or put a release of prometheus.io on PATH"
        raise ConfigError(
            [f"--with-prometheus: prometheus is not on PATH: {remedy}; in a checkout: make prometheus"]
        )
    return Prometheus(program, address)


def configuration(sentinel: Address, envoy: Address, alerts: Path = ALERTS) -> str:
    """Return prometheus.yaml: both admin addresses, and the alerts."""
    targets = (reachable(sentinel), reachable(envoy))
    paths = ("/metrics", "/stats/prometheus")
    jobs = [
        {"job_name": job, "metrics_path": path, "static_configs": [{"targets": [target]}]}
        for job, path, target in zip(JOBS, paths, targets, strict=True)
    ]
    intervals = {"scrape_interval": SCRAPE_INTERVAL, "evaluation_interval": EVALUATION_INTERVAL}
    document = {"global": intervals, "rule_files": [str(alerts)], "scrape_configs": jobs}
    return yaml.safe_dump(document, sort_keys=False)


class Probe:
    """Questions to a Prometheus that runs."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        """Ask at `url`."""
        self._session = session
        self._url = url

    async def is_scraping(self) -> bool:
        """Say whether it has scraped every job with success."""
        answer = await self._ask("/api/v1/targets?state=active")
        targets = answer.get("activeTargets", [])
        return {each["labels"]["job"] for each in targets if each["health"] == "up"} == set(JOBS)

    async def version(self) -> str:
        """Return its version; "unknown" if it does not say."""
        return str((await self._ask("/api/v1/status/buildinfo")).get("version", "unknown"))

    async def _ask(self, path: str) -> dict[str, Any]:
        try:
            async with self._session.get(f"{self._url}{path}", timeout=_TIMEOUT) as answer:
                found: dict[str, Any] = (await answer.json(content_type=None)).get("data", {})
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return {}
        return found
