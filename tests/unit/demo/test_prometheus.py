"""What the demo's Prometheus is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sentinel_ext.address import Address
from sentinel_ext.demo import prometheus
from sentinel_ext.errors import ConfigError


def test_it_scrapes_both_admin_addresses_where_this_machine_reaches_them() -> None:
    written = yaml.safe_load(
        prometheus.configuration(Address.parse("0.0.0.0:9464"), Address.parse("[::1]:9901"), Path("/a.yaml"))
    )
    jobs = {job["job_name"]: job for job in written["scrape_configs"]}

    assert ["/a.yaml"] == written["rule_files"]
    assert [{"targets": ["127.0.0.1:9464"]}] == jobs["sentinel"]["static_configs"]
    assert [{"targets": ["[::1]:9901"]}] == jobs["envoy"]["static_configs"]
    assert "/stats/prometheus" == jobs["envoy"]["metrics_path"]


def test_a_unix_socket_cannot_be_scraped() -> None:
    with pytest.raises(ConfigError, match="set host:port"):
        prometheus.find(Address.parse("127.0.0.1:9090"), Address.parse("unix:///run/admin.sock"))


def test_a_program_on_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "prometheus"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = prometheus.find(Address.parse("127.0.0.1:9090"), Address.parse("127.0.0.1:9464"))

    assert (own, "http://127.0.0.1:9090") == (found.program, found.url)
    assert "--web.listen-address=127.0.0.1:9090" in found.arguments(tmp_path)
