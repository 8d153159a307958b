"""What a table says, and that it cannot hide a run that went wrong."""

from __future__ import annotations

import struct

from envoy.service.auth.v3 import external_auth_pb2

from benchmarks import report, sentinel
from benchmarks.load import Result
from benchmarks.processes import UnavailableError, last_line
from benchmarks.suite import interleave


def result(answers: int = 100, cpu: float = 0.5, outcomes: dict[str, int] | None = None) -> Result:
    return Result(
        answers=answers,
        seconds=2.0,
        p50=0.001,
        p99=0.002,
        outcomes={"0": answers} if outcomes is None else outcomes,
        cpu={"server": cpu, "client": 1.0},
        samples=[],
    )


def test_a_row_holds_medians_over_the_runs():
    row = report.measured([result(100), result(300), result(10_000)], what={"server": "lean"})

    assert 600 == row.values["answers_per_cpu_s"]
    assert 150 == row.values["answers_per_s"]
    assert (1.0, 2.0, 0.25) == (row.values["p50_ms"], row.values["p99_ms"], row.values["server_busy"])
    assert "" == row.note


def test_answers_that_are_not_ok_and_no_answers_are_told():
    bad = report.measured([result(outcomes={"0": 99, "rst 7": 1})], what={})
    none = report.measured([result(0)], what={})

    assert "outcomes: 0 x 99, rst 7 x 1" == bad.note
    assert "no answers" == none.note


def test_no_cpu_time_at_all_is_no_number_and_no_crash():
    row = report.measured([result(cpu=0.0), result(cpu=0.5)], what={})

    assert 200 == row.values["answers_per_cpu_s"]


def test_ratios_are_against_the_base_and_rows_without_numbers_stay():
    base = report.measured([result(100)], what={"server": "grpcio"})
    fast = report.measured([result(1000)], what={"server": "lean"})
    absent = report.missing({"server": "other"}, "why")

    rows = report.ratios([fast, absent, base])

    assert [10, None, 1] == [row.values.get("ratio") for row in rows]
    assert [fast, absent] == report.ratios([fast, absent])


def test_a_subject_that_fails_is_not_asked_again_and_the_others_go_on():
    asked = []

    def measure(subject: str) -> Result:
        asked.append(subject)
        if subject == "bad":
            raise UnavailableError("broken")
        return result()

    results = interleave(("bad", "good"), 3, measure)

    assert ["bad", "good", "good", "good"] == asked
    assert "not measured: broken" == report.measured(results["bad"], what={}).note
    assert [result()] * 3 == results["good"]


def test_a_table_has_its_columns_in_line():
    rows = [
        report.Row(what={"server": "lean"}, values={"n": 123_456.0}),
        report.missing({"server": "x"}, "why"),
    ]

    text = report.render(report.Table(name="t", title="title", rows=rows, notes=["note"]))

    assert [
        "t: title",
        "  server        n",
        "  lean    123,456",
        "  x             -  not measured: why",
        "  note",
    ] == (text.splitlines())


def test_decisions_other_than_allow_and_without_the_store_are_told():
    def sample(**fields) -> bytes:
        message = external_auth_pb2.CheckResponse(**fields).SerializeToString()
        return struct.pack(">BI", 0, len(message)) + message

    allowed, denied = sample(ok_response={}), sample(denied_response={})

    assert "" == sentinel.remark([allowed, allowed], 0)
    assert "denied_response x 1 of the samples, 3 decisions without the store" == sentinel.remark(
        [allowed, denied], 3
    )


def test_what_a_program_said_is_told_without_paths():
    assert "Error: ... is missing" == last_line("first\nError: /home/someone/file.py is missing\n")
    assert "it said nothing" == last_line("\n")
