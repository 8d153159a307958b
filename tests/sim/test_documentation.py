"""docs/overload.md: its example runs, its figures are the board's, its constants are the code's."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sim.document import BEGIN, BOARD, END, PAGE, tables

from sentinel_ext.core import credit, guard, pressure, probe, signals

ROOT = Path(__file__).parents[2]


def test_the_figures_are_those_of_the_last_board():
    found = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]

    assert tables(json.loads(BOARD.read_text())) == found, "cd tests && python -m sim.document"


def test_the_example_runs_and_serves_vital_first():
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=ROOT, check=True
    )
    vital, standard, economy = json.loads(ran.stdout.partition("]")[0] + "]")

    assert 0.95 <= vital
    assert 0.3 <= standard <= 0.4
    assert 0.1 >= economy


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HIGH", credit.HIGH),
        ("LOW", credit.LOW),
        ("CUT", credit.CUT),
        ("RAISE", credit.RAISE),
        ("FLOOR", credit.FLOOR),
        ("REOPENED", credit.REOPENED),
        ("SLACK_MS", guard.SLACK_MS),
        ("SMOOTHING_MS", pressure.SMOOTHING_MS),
        ("SUSPECT", probe.SUSPECT),
        ("PROBE_CREDIT", probe.PROBE_CREDIT),
        ("DWELL", signals.DWELL_NS / 1e9),
    ],
)
def test_constants_are_those_of_the_code(name, value):
    (said,) = re.findall(rf"\| `{name}` \| ([0-9.]+)", PAGE.read_text())

    assert value == float(said)
