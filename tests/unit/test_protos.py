"""protos/ is the source of _pb, and what Check sends out is what protos/ says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from envoy.service.auth.v3 import external_auth_pb2
from google.protobuf import json_format

from sentinel_ext._pb.sentinel.v1 import decision_pb2
from sentinel_ext.core.decision import Decision, Reason, ShadowDenial
from sentinel_ext.core.identify import Check
from sentinel_ext.core.model import FailureMode, Plan, Stage, Tier
from sentinel_ext.core.tenant import Tenant
from sentinel_ext.services.check_response import CheckEncoder

ROOT = Path(__file__).parents[2]
PLAN = Plan("gold", Tier.VITAL, 10, 60_000_000, 5, 1000, FailureMode.OPEN)


def test_generated_code_is_current(tmp_path: Path) -> None:
    protoset = tmp_path / "sentinel.protoset"
    subprocess.run(
        [sys.executable, str(ROOT / "protos/generate.py"), str(tmp_path), str(protoset)], check=True
    )

    assert protoset.read_bytes() == (ROOT / "protos/sentinel.protoset").read_bytes(), "run `make protos`"
    made = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.py*")}
    package = ROOT / "sentinel_ext" / "_pb"
    kept = {
        path.relative_to(package): path.read_text()
        for path in package.rglob("*_pb2*.py*")
        if "cache" not in str(path)
    }

    assert made == kept, "run `make protos`"


@pytest.mark.parametrize("allowed", [True, False])
def test_metadata_is_a_decision_metadata(*, allowed: bool) -> None:
    check = Check(Tenant("acme", PLAN, 0), "orders", "c-1", "0" * 16, "", route="checkout")
    decision = Decision(
        check,
        allowed,
        Stage.WINDOW,
        Reason.ALLOWED if allowed else Reason.RATE_LIMITED,
        10,
        shadow=(ShadowDenial(Stage.BUCKET, Reason.LOCAL_RATE_LIMITED),),
        fallback=FailureMode.LOCAL,
        ticket="i1.2a.3" if allowed else "",
    )
    response = external_auth_pb2.CheckResponse.FromString(CheckEncoder().encode(decision))

    fields = json_format.MessageToDict(response.dynamic_metadata)
    metadata = json_format.ParseDict(fields, decision_pb2.DecisionMetadata())  # refuses unknown fields

    assert ("acme", "vital", "gold", "orders") == (
        metadata.tenant,
        metadata.tier,
        metadata.plan,
        metadata.upstream,
    )
    assert allowed == metadata.allowed
    assert ["bucket:local_rate_limited"] == list(metadata.shadow)
    assert ("i1.2a.3" if allowed else "") == metadata.ticket
    # What was refused never starts, so nothing ties its end to a start.
    left_out = set() if allowed else {"ticket"}
    assert {field.name for field in decision_pb2.DecisionMetadata.DESCRIPTOR.fields} - left_out == set(fields)
