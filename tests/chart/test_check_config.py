"""The Job of checkConfig, run as rendered on the files that it mounts."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from support.helm import Helm, containers, environment

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e

POLICY = {"plans": {"gold": {"limit": 1000, "burst": 100}}, "tenants": {"acme": "gold"}}
RULE = {"key": "path", "value": "/limited", "rate_limit": {"unit": "day", "requests_per_unit": 1}}
LIMITS = {"shop.yaml": {"domain": "chart", "descriptors": [RULE]}}


def test_the_check_before_an_upgrade_takes_right_files_and_tells_wrong_ones(
    helm: Helm, tmp_path: Path
) -> None:
    """What neither schema nor template can know: a contract above its plan's limit."""

    def check(policy: dict[str, Any], folder: Path) -> subprocess.CompletedProcess[str]:
        rendered = helm.render(
            {"checkConfig": {"enabled": True}, "policy": {"content": policy}, "rateLimit": {"files": LIMITS}}
        )
        folder.mkdir()
        for name, text in rendered.one("ConfigMap", "-check")["data"].items():
            (folder / name).write_text(text)
        (container,) = containers(rendered.one("Job")).values()
        arguments = [one.replace("/etc/sentinel/check", str(folder)) for one in container["args"]]
        given = {"PATH": os.environ["PATH"], **environment(container)}
        command = [sys.executable, "-m", "sentinel_ext", *arguments]
        return subprocess.run(
            command, env=given, cwd=folder, capture_output=True, text=True, timeout=60, check=False
        )

    assert 0 == check(POLICY, tmp_path / "right").returncode
    contract = {"tier": "vital", "limit": 10, "window": "1s", "guaranteed": "100/s"}
    wrong = check({"plans": {"gold": contract}}, tmp_path / "wrong")
    assert 1 == wrong.returncode
    assert "plans.gold.guaranteed" in wrong.stderr
