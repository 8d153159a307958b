"""The shape of a command's answer: columns, names of facts, keys; not what follows the traffic."""

from __future__ import annotations

import json
import re
from typing import Any

from sentinel_ext.cli import _tables

# What heads columns, to tell the head of a table from a fact ("tenant  acme  from header x-tenant-id").
_TABLES = (_tables._TENANTS, _tables._PRESSURE, _tables._BREAKERS)
_COLUMNS = {
    *(column.name for columns in _TABLES for column in columns),
    *("stage", "verdict", "mode", "what it sees", "from", "when (UTC)", "change", "why"),
    *("time", "stage: reason", "left", "took"),
}
# Their keys are names: of signals, tiers and addresses.
_MAPS = {"signals", "local_signals", "tier_share", "addresses"}
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)*")
_KEY = re.compile(r'"([^"\\]+)":')
_WIDE = re.compile(r" {2,}")
_DEEP = " " * 8


def shape(answer: str) -> list[str]:
    """Return what an answer is made of, a line each."""
    found: list[str] = []
    in_table = False
    if answer.startswith("{"):
        return _json_shape(answer)
    for line in answer.splitlines():
        cells = _WIDE.split(line.strip())
        if not line.strip():
            in_table = False
        elif _is_head(cells):
            in_table = True
            found.append("columns " + " | ".join(cells))
        elif line.startswith(_DEEP):
            # The line above goes on.
            continue
        elif line.strip().startswith("{"):
            found.append("keys " + " ".join(_KEY.findall(line)))
        elif line.startswith("sentinel-ext: "):
            found.append(_NUMBER.sub("0", line))
        elif len(cells) > 1 and not in_table:
            # A verdict's name begins with its status: which there are follows the traffic.
            found += [f"fact {cells[0]}"] if not cells[0][0].isdigit() else []
        elif len(cells) == 1:
            found.append("words " + _NUMBER.sub("0", line.split()[0]))
    return found


def _is_head(cells: list[str]) -> bool:
    return len(cells) > 2 and sum(cell in _COLUMNS for cell in cells) > len(cells) / 2


def _json_shape(answer: str) -> list[str]:
    for documents in ([answer], answer.splitlines()):
        try:
            return [f"json {_keys(json.loads(each))}" for each in documents]
        except ValueError:
            continue
    # Cut off.
    return ["keys " + " ".join(_KEY.findall(answer))]


def _keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: "map" if key in _MAPS else _keys(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_keys(each) for each in value[:1]]
    return None
