"""The operator's page of the wire (docs/wire.md) says what the code does: no more, no less."""

from __future__ import annotations

import ast
import importlib
import re
from functools import cache
from pathlib import Path

import pytest

from sentinel_ext import app
from sentinel_ext.wire import calls, faults, head, lifecycle, messages, requests
from sentinel_ext.wire.codes import ErrorCode, Status
from sentinel_ext.wire.faults import Fault
from sentinel_ext.wire.head import Refusal
from sentinel_ext.wire.limits import Limits, ProcessBudget

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "sentinel_ext"
TEXT = (ROOT / "docs/wire.md").read_text()

Row = list[str]

# To nanoseconds and to bytes.
TIMES = {"ns": 1, "ms": 10**6, "s": 10**9, "h": 3600 * 10**9}
SIZES = {"B": 1, "KiB": 1024, "MiB": 1024**2}
WORDS: dict[str, object] = {"off": 0, "on": True, "none": b""}
SUFFIXES = {"_ns": 1, "_ms": TIMES["ms"], "_s": TIMES["s"]}


def section(title: str) -> str:
    """The text below a heading, to the next heading that is not deeper."""
    start = re.search(rf"^(#+) {re.escape(title)}$", TEXT, re.MULTILINE)
    assert start is not None, f"no heading {title!r}"
    stop = re.search(rf"^#{{1,{len(start[1])}}} ", TEXT[start.end() :], re.MULTILINE)
    return TEXT[start.end() :][: stop.start() if stop else None]


def without(title: str, inner: str) -> str:
    return section(title).replace(section(inner), "")


def rows(text: str) -> list[Row]:
    """The rows of all tables, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    heads = {at - 1 for at, line in enumerate(lines) if line.startswith("|---")}
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for at, line in enumerate(lines)
        if at not in heads and at - 1 not in heads
    ]


def plain(cell: str) -> str:
    """A name out of its backticks."""
    match = re.fullmatch(r"`([^`]+)`", cell)
    assert match is not None, f"{cell!r} is not one name"
    return match[1]


def value(cell: str, name: str) -> object:
    """What a cell means, in the unit that the name's ending says; only a time has a unit of time."""
    if cell in WORDS:
        return WORDS[cell]
    match = re.fullmatch(r"(\d+)(?: (\w+))?", cell)
    assert match is not None, f"{name}: {cell!r} is not a number"
    number, unit = int(match[1]), match[2]
    scale = next((scale for ending, scale in SUFFIXES.items() if name.lower().endswith(ending)), None)
    if scale is None:
        return number * (SIZES[unit] if unit else 1)
    return number * TIMES[unit] / scale


@cache
def trips() -> dict[str, Fault | None]:
    """Every reason that the code can give, with the fault if that ends the connection."""
    found: dict[str, Fault | None] = {}
    for path in (*(PACKAGE / "wire").glob("*.py"), *(PACKAGE / "server").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Attribute(value=ast.Name(id="faults"), attr=name):
                    fault = getattr(faults, name, None)  # limits.py has a list of that name
                    if isinstance(fault, Fault):
                        found[fault.reason] = fault
                case ast.Call(
                    func=ast.Attribute(attr="trip" | "_trip" | "on_trip"),
                    args=[ast.Constant(value=str(reason))],
                ):
                    found[reason] = None
    return found


LIMITS = rows(without("Limits", "Bounds of the process"))
BOUNDS = rows(section("Bounds of the process"))
FLOODS = "The peer asked for too much: the connection ended with ENHANCE_YOUR_CALM"
TRIPS = rows(section("Trip reasons"))
TRIP_NAMES = [plain(row[0]) for row in TRIPS]


def test_a_row_is_read_as_it_stands() -> None:
    assert [["`a`", "1", ""]] == rows("| x | y | z |\n|---|---|---|\n| `a` | 1 | |\n")
    assert (5_000_000, 2048, 7, 0) == (
        value("5 ms", "a_ns"),
        value("2 KiB", "a"),
        value("7", "a"),
        value("off", "a"),
    )
    with pytest.raises(KeyError):
        value("5 s", "no_time")


def test_every_limit_is_there_once() -> None:
    assert sorted(Limits.__struct_fields__) == sorted(plain(row[0]) for row in LIMITS)


@pytest.mark.parametrize("row", LIMITS, ids=lambda row: row[0].strip("`"))
def test_a_limit_has_the_values_of_both_presets(row: Row) -> None:
    name = plain(row[0])

    assert getattr(Limits.trusted(), name) == value(row[1], name)
    assert getattr(Limits.exposed(), name) == value(row[2], name)


@pytest.mark.parametrize("row", BOUNDS, ids=lambda row: row[0].strip("`"))
def test_a_bound_of_the_process_has_its_value(row: Row) -> None:
    owner, _, name = plain(row[0]).partition(".")
    if owner == "ProcessBudget":
        actual = getattr(ProcessBudget(), name)
    else:
        folder = "server" if (PACKAGE / f"server/{owner}.py").exists() else "wire"
        actual = getattr(importlib.import_module(f"sentinel_ext.{folder}.{owner}"), name)

    assert actual == value(row[1], name)


def test_every_bound_of_the_process_that_connections_share_is_there() -> None:
    shared = {f"ProcessBudget.{name}" for name in ProcessBudget.__slots__ if name.startswith("max_")}

    assert shared <= {plain(row[0]) for row in BOUNDS}


def test_the_reasons_are_found_in_the_code() -> None:
    assert {"rapid_reset", "in_flight", "refused_stream", "reassembly", "no_h2_in_alpn"} <= set(trips())


def test_every_trip_reason_is_there_once() -> None:
    assert sorted(trips()) == sorted(TRIP_NAMES)


@pytest.mark.parametrize("row", TRIPS, ids=TRIP_NAMES)
def test_a_trip_reason_says_what_it_means_and_what_to_do(row: Row) -> None:
    assert all(row), row


def test_a_fault_has_the_code_that_goes_out() -> None:
    ending = {reason: fault.code for reason, fault in trips().items() if fault is not None}
    told = {plain(row[0]): row[1] for row in rows(section("Trip reasons")) if row[1] in ErrorCode.__members__}
    floods = {plain(row[0]): ErrorCode.ENHANCE_YOUR_CALM.name for row in rows(section(FLOODS))}
    told = {name: code for name, code in told.items() if name in ending} | floods

    assert {reason: code.name for reason, code in ending.items()} == told


@pytest.mark.parametrize("row", LIMITS, ids=lambda row: row[0].strip("`"))
def test_a_limit_names_reasons_that_exist(row: Row) -> None:
    """What follows GOAWAY is a fault; what follows "trip" is counted."""
    ends = re.findall(r"GOAWAY `(\w+)`", row[3])
    counted = re.findall(r"trip `(\w+)`", row[3])
    reasons = trips()

    assert all(reasons.get(name) is not None for name in ends), ends
    assert all(name in reasons for name in counted), counted


def test_every_refusal_is_there_with_its_statuses() -> None:
    refusals = {
        refusal.message: (refusal.http_status, refusal.grpc_status)
        for module in (head, messages, requests, calls, lifecycle)
        for refusal in vars(module).values()
        if isinstance(refusal, Refusal)
    }

    told = {
        plain(message): (0 if http == "none" else int(http), None if status == "none" else Status[status])
        for message, http, status, _ in rows(section("What a request is refused with"))
    }

    assert refusals == told


def test_a_drain_has_the_programs_times() -> None:
    times = [app.DRAIN_S, app.DRAIN_MAX_S, app.GRACE_S / 2, app.GRACE_S]

    told = [row[0] for row in rows(section("The process stops"))]

    assert times == [float(number) for cell in told for number in re.findall(r"\d\.\d", cell)]


def test_every_module_is_told() -> None:
    folders = ("wire", "server")
    modules = sorted(
        path.name for folder in folders for path in (PACKAGE / folder).glob("*.py") if path.stem != "__init__"
    )

    assert modules == sorted(re.findall(r"`(\w+\.py)`", section("Modules")))


def test_every_path_and_heading_it_names_exists() -> None:
    paths = re.findall(r"`((?:sentinel_ext|tests)/[\w./]+)`", TEXT)
    links = re.findall(r"\]\(#([\w-]+)\)", TEXT)
    headings = {title.lower().replace(" ", "-") for title in re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)}

    assert paths
    assert [] == [path for path in paths if not (ROOT / path).exists()]
    assert set(links) <= headings
