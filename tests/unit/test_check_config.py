"""`sentinel-ext check-config`: places, carets, trees, exit codes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from sentinel_ext.cli.check_config import Texts, excerpt
from sentinel_ext.cli.root import app
from sentinel_ext.policy.document import MAX_FILE_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

GOOD = "domain: shop\ndescriptors: [{key: user, rate_limit: {unit: day, requests_per_unit: 7}}]\n"
DOUBTFUL = "domain: shop\ndescriptors: [{key: user, rate_limit: {unit: day}}]\n"
POLICY = "plans: {gold: {limit: 9}}\ntenants: {acme: gold, 'x-*': gold}\nstages: {window: shadow}\n"


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["check-config", *arguments], input=stdin)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "policy.yaml").write_text(POLICY)
    return tmp_path


def test_right_files_show_what_comes_of_them(folder):
    done = run("good.yaml", "policy.yaml")

    assert 0 == done.exit_code
    assert "good.yaml: right\n  domain shop\n    user: 7 per day, fixed_window" in done.stdout
    assert "plan gold: 9 per 60 s" in done.stdout
    assert "2 tenants, 1 pattern among them" in done.stdout
    assert "stage window: shadow" in done.stdout
    assert "" == run("good.yaml", "--quiet").stdout


def test_a_mistake_has_its_line_and_a_caret_and_the_exit_code_is_1(folder):
    (folder / "bad.yaml").write_text(GOOD.replace("day", "days"))

    done = run("bad.yaml", "policy.yaml")

    assert 1 == done.exit_code
    said = 'invalid rate limit unit "days"; did you mean "day"?'
    assert f"error: bad.yaml:2:46: descriptors[0].rate_limit.unit: {said}\n" in done.stderr
    source, caret = done.stderr.splitlines()[1:3]
    assert source.index("days") == caret.index("^")
    assert "1 error, 0 warnings" in done.stderr
    assert "" == done.stdout


def test_doubts_are_errors_warnings_with_lenient_and_errors_again_with_strict(folder):
    (folder / "doubt.yaml").write_text(DOUBTFUL)

    assert [1, 0, 1] == [
        run("doubt.yaml", *more).exit_code for more in ((), ("--lenient",), ("--lenient", "--strict"))
    ]


def test_files_that_share_a_domain_need_to_be_merged(folder):
    (folder / "more.yaml").write_text(GOOD.replace("user", "path"))

    assert 1 == run("good.yaml", "more.yaml").exit_code
    done = run("good.yaml", "more.yaml", "--merge-domains")
    assert (0, True) == (done.exit_code, "path: 7 per day" in done.stdout)


def test_a_folder_is_read_as_the_service_reads_it(folder):
    rules = folder / "rules"
    rules.mkdir()
    (rules / "a.yaml").write_text(GOOD)
    (rules / "README").write_text("")

    done = run("rules")

    assert 0 == done.exit_code
    assert "warning: rules/README: left out" in done.stderr


def test_json_has_everything_for_scripts(folder):
    (folder / "bad.yaml").write_text("domain: x\ndescriptors: [{}]\n")

    told = json.loads(run("--json", "bad.yaml", "policy.yaml").stdout)
    right = json.loads(run("--json", "good.yaml").stdout)

    assert (False, {"file": "bad.yaml", "line": 2, "column": 15}) == (
        told["ok"], {name: told["problems"][0][name] for name in ("file", "line", "column")},
    )  # fmt: skip
    assert ["default", "gold"] == told["policies"]["policy.yaml"]["plans"]
    assert (True, "shop") == (right["ok"], right["ratelimit"]["good.yaml"][0]["domain"])


def test_standard_input_and_a_section_of_the_policy_file(folder):
    section = "ratelimit:\n" + "".join(f"  {line}\n" for line in GOOD.splitlines())

    done = run("-", stdin=POLICY + section)
    wrong = run("-", stdin=(POLICY + section).replace("unit: day", "unit: x"))

    assert (0, True) == (done.exit_code, "user: 7 per day" in done.stdout)
    assert (1, True) == (wrong.exit_code, "<stdin>:6:" in wrong.stderr)


@pytest.mark.parametrize("arguments", [(), ("--no-such-option", "x")])
def test_wrong_arguments_are_2(arguments):
    assert 2 == run(*arguments).exit_code


def test_what_is_not_there_is_1(folder):
    assert 1 == run("nothing.yaml").exit_code


def test_the_summary_counts_also_what_is_not_printed(folder):
    (folder / "bad.yaml").write_text("tenants:\n" + "".join(f"  t{n}: none\n" for n in range(150)))

    assert "150 errors, 0 warnings" == run("bad.yaml").stderr.splitlines()[-1]


def texts_of(text: str) -> Texts:
    texts = Texts()
    texts.add("f", text)
    return texts


def test_a_long_line_is_cut_around_the_place():
    source, caret = excerpt("f:1:5001: wrong", texts_of("x" * 5_000 + "HERE" + "y" * 5_000)).splitlines()

    assert len(source) < 150
    assert source.index("HERE") == caret.index("^")


def test_the_caret_stands_under_the_place_behind_characters_of_any_width():
    source, caret = excerpt("f:1:9: wrong", texts_of("\t表表: e\u0301 x\0")).splitlines()

    assert "表表" in source
    assert cell_len(source[: source.index("x")]) == caret.index("^")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\x85", "\u2028"])
def test_lines_end_as_yaml_ends_them(end):
    assert "     2 | two\n         ^" == excerpt("f:2:1: wrong", texts_of(f"one{end}two{end}"))


@pytest.mark.parametrize("line", ["no place at all", "f:99:1: beyond", "f:0:1: before", "other:1:1: unread"])
def test_what_has_no_place_has_no_excerpt(line, folder):
    assert "" == excerpt(line, texts_of("x"))


def test_limits_in_two_places_are_warned_of(folder):
    (folder / "both.yaml").write_text(
        POLICY + "ratelimit:\n" + "".join(f"  {x}\n" for x in GOOD.splitlines())
    )

    done = run("both.yaml", "good.yaml")

    assert 0 == done.exit_code
    assert "warning: both.yaml: ratelimit: good.yaml has rate limits, too" in done.stderr


def test_a_rate_limit_file_whose_domain_is_misspelt_is_one_all_the_same(folder):
    (folder / "bad.yaml").write_text(GOOD.replace("domain", "domian"))

    assert "config file cannot have empty domain" in run("bad.yaml").stderr


def test_the_environment_fills_in_what_files_leave_out_and_says_how_strict(folder, monkeypatch):
    monkeypatch.setenv("BASE_RATE_LIMIT", "77")
    monkeypatch.setenv("RATELIMIT_LENIENT", "true")
    (folder / "doubt.yaml").write_text(DOUBTFUL)

    done = run("policy.yaml", "doubt.yaml")

    assert (0, True) == (done.exit_code, "plan default: 77 per 60 s" in done.stdout)


@pytest.mark.parametrize(
    "content", [b"\x00\xff" * 50, b"[" * 5_000, b"- a\n", b"\xef\xbb\xbf", b"--- {}\n--- {}"]
)
def test_whatever_a_file_holds_is_right_or_wrong_and_never_a_crash(folder, content):
    (folder / "any.yaml").write_bytes(content)

    done = run("any.yaml")

    assert done.exit_code in {0, 1}
    assert (done.exit_code == 1) == ("error: any.yaml" in done.stderr)


def test_a_folder_and_a_loop_and_a_file_that_is_too_large_are_told(folder):
    (folder / "loop.yaml").symlink_to(folder / "loop.yaml")
    with (folder / "large.yaml").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)

    done = run("loop.yaml", "large.yaml")

    assert 1 == done.exit_code
    assert "loop.yaml: cannot be read: Too many levels of symbolic links" in done.stderr
    assert "large.yaml: is larger than 16 MiB" in done.stderr


def test_only_a_terminal_gets_colours(folder, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")

    assert "\x1b" not in run("nothing.yaml").stderr
