"""`bcd-edge benchmark`, `compare` and `plan` as a person types them, and the files they leave."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

import bcd_edge
from bcd_edge.benchmark import compare, plots, results, rows, scenarios, sut
from bcd_edge.cli import benchmark, main

Edit = Callable[[dict[str, Any]], None]
BRIEF = ("--duration", "0.3s", "--min-queries", "30")


def run(*arguments: str | Path, code: int = 0, env: dict[str, str] | None = None) -> str:
    """What a command printed, both streams, after its exit code was checked."""
    done = CliRunner().invoke(main, ["benchmark", *map(str, arguments)], env=env)
    assert done.exit_code == code, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.output


@pytest.fixture(scope="module", autouse=True)
def _little_work() -> Iterator[None]:
    """Nothing here has caches to fill, and what decoding takes is not the matter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "WARM_S", 0.0)
        patch.setattr(rows, "WARM_CALLS", 1)
        for name, value in (("SYNTHETIC", 4), ("HEIGHT", 60), ("WIDTH", 80)):
            patch.setattr(sut, name, value)
        yield


def null(out: Path, delay: str, *arguments: str, code: int = 0) -> Path:
    """A run as on an idle machine, whatever else this one does while the tests run."""
    run("--provider", "null", "--provider-option", f"delay={delay}", *BRIEF, "--out", out, *arguments, code=code)
    content = json.loads((out / "run.json").read_text())
    for row in content["rows"]:
        row["unsteady"] = []
    (out / "run.json").write_text(json.dumps(content))
    return out / "run.json"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every scenario of an engine that takes 3 ms a call."""
    return null(tmp_path_factory.mktemp("base") / "out", "3ms", "--batch", "1,4", "--qps", "100")


@pytest.fixture
def edited(base: Path, tmp_path: Path) -> Callable[[Edit], Path]:
    """A copy of it that went through a function."""

    def edit(change: Edit) -> Path:
        content = json.loads(base.read_text())
        change(content)
        path = tmp_path / "edited.json"
        path.write_text(json.dumps(content))
        return path

    return edit


def test_the_files_of_a_run(base: Path) -> None:
    assert sorted(file.name for file in base.parent.iterdir()) == ["report.html", "run.csv", "run.json"]
    content = results.read(base)
    assert content["finished"]
    assert content["failures"] == []
    assert content["version"] == bcd_edge.__version__
    rows = content["rows"]
    assert {row["scenario"] for row in rows} == {"SingleStream", "MultiStream", "Offline", "Server"}
    assert {row["scope"] for row in rows} == {"model", "end-to-end"}
    assert all(row["verdict"]["valid"] for row in rows if row["scenario"] == "SingleStream")
    assert not any(row["verdict"]["mlperf_valid"] for row in rows)
    with (base.parent / "run.csv").open(newline="") as stream:
        flat = list(csv.DictReader(stream))
    assert [row["scenario"] for row in flat] == [row["scenario"] for row in rows]
    assert float(flat[0]["latency_ms.p99.9.value"]) == rows[0]["latency_ms"]["p99.9"]["value"]
    assert {"start_ms.compile", "verdict.mlperf_reasons", "cost.peak_rss_mib", "images_per_s.low"} <= set(flat[0])


def test_the_command_offers_what_there_is() -> None:
    """It does not import it to say so."""
    assert tuple(scenarios.SCENARIOS) == benchmark.SCENARIOS
    assert benchmark.SCOPES == rows.SCOPES
    (allow_different,) = [option for option in benchmark.compare.params if option.name == "allow_different"]
    assert tuple(allow_different.type.choices) == compare.ALLOWED_DIFFERENCES


def test_the_published_schema_is_valid_itself() -> None:
    schema = json.loads((Path(bcd_edge.__file__).parent / "benchmark" / "benchmark.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["properties"]["schema"]["const"] == results.SCHEMA


def test_the_terminal_is_80_columns_and_shows_no_figure_without_its_interval(tmp_path: Path) -> None:
    output = run("--provider", "null", "--provider-option", "delay=2ms", *BRIEF, "--scenario", "singlestream,offline", "--out", tmp_path / "out")
    rows = [line for line in output.splitlines() if line.startswith(("  SingleStream", "  Offline"))]
    assert len(rows) == 4
    assert all(re.search(r"\d \[[\d.,]+, ([\d.,]+|-)\] ", line) for line in rows)
    assert max(len(line) for line in output.splitlines() if "Wrote" not in line) <= 80
    assert "Energy: " in output or " J per image" in output


class Page(HTMLParser):
    """Links, and whether every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.links += [str(value) for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_needs_no_other_file(base: Path) -> None:
    page = Page()
    page.feed((base.parent / "report.html").read_text())
    assert page.links == []
    assert page.open == []
    assert (base.parent / "report.html").read_text().count("<svg") >= 3


def test_no_label_of_a_plot_begins_left_of_it(base: Path) -> None:
    long = [row | {"provider": "x" * 40, "threads": 16, "streams": 16} for row in results.read(base)["rows"]]
    for x, words in re.findall(r'<text x="([\d.]+)"[^>]*text-anchor="end"[^>]*>([^<]+)<', plots.distribution(long)):
        assert float(x) >= 6.5 * len(words)
    assert "b4 t16 s16" in plots.frontier(long, "model")


def test_plots_of_one_row_and_of_figures_that_are_all_alike(base: Path) -> None:
    (row, *_) = results.read(base)["rows"]
    alike = row | {"raw": {"latency_ns": [5] * 9, "end_ns": list(range(9))}, "series": row["series"] * 3}
    for drawn in (plots.distribution([alike]), plots.frontier([alike], row["scope"]), plots.over_time([alike])):
        Page().feed(drawn)
        assert "nan" not in drawn
    assert plots.frontier([alike], "nothing") == ""


def test_a_run_does_not_replace_another(base: Path) -> None:
    assert "already contains a benchmark" in run("--provider", "null", *BRIEF, "--out", base.parent, code=2)


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (["--batch", "0"], 2),
        (["--batch", "many"], 2),
        (["--scenario", "tea"], 2),
        (["--scope", "moon"], 2),
        (["--precision", "int4"], 2),
        (["--provider", "abacus"], 2),
        (["--provider", "null", "--provider-option", "delay=soon"], 2),
        (["--duration", "0"], 2),
        (["--duration", "soon"], 2),
        (["--sustained", "-1m"], 2),
        (["--data", "nowhere"], 2),
        (["--data", "."], 2),
        (["--bundle", "nowhere"], 3),
        (["--provider", "cpu", "--precision", "fp32"], 3),
        (["--out", "/proc/nowhere", "--provider", "null"], 5),
        (["compare", "nowhere.json", "nowhere.json"], 2),
        (["capacity", "nowhere.json"], 2),
    ],
)
def test_what_cannot_be_honoured_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: list[str], code: int) -> None:
    monkeypatch.chdir(tmp_path)
    run(*wrong, code=code)
    assert list(tmp_path.iterdir()) == []


def test_loadgen_that_is_missing_is_4_and_says_which_line_to_type(tmp_path: Path) -> None:
    script = "import sys; sys.modules['mlperf_loadgen'] = None; from bcd_edge.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script, "benchmark", "--loadgen"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 4
    assert 'pip install "bcd-edge[loadgen]"' in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_keeps_the_rows_that_are_finished(tmp_path: Path) -> None:
    command = [
        "--provider",
        "null",
        "--provider-option",
        "delay=2ms",
        "--duration",
        "0.5s",
        "--min-queries",
        "5",
        "--batch",
        ",".join(map(str, range(1, 60))),
    ]
    whole = [sys.executable, "-m", "bcd_edge", "benchmark", *command, "--scenario", "offline", "--scope", "model", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(whole, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    ends = time.monotonic() + 60
    while time.monotonic() < ends and not (tmp_path / "out" / "run.json").exists():
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, output = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in output
    content = results.read(tmp_path / "out" / "run.json")
    assert not content["finished"]
    assert 1 <= len(content["rows"]) < 59
    assert "was interrupted" in (tmp_path / "out" / "report.html").read_text()
    assert not list((tmp_path / "out").glob(".*"))
    assert "was interrupted" in run("capacity", tmp_path / "out" / "run.json", code=1)


def test_a_run_compared_with_itself_has_no_regression(base: Path) -> None:
    output = run("compare", base, base, "--max-regress", "100%")
    assert "0 regressed" in output
    assert "REGRESSION" not in output
    assert max(len(line) for line in output.splitlines()) <= 80


def test_a_slower_provider_is_a_regression_and_a_faster_one_is_not(base: Path, tmp_path: Path) -> None:
    slow = null(tmp_path / "slow", "25ms", "--scenario", "singlestream,offline", "--scope", "model")
    output = run("compare", base, slow, code=1)
    assert output.count("REGRESSION") == 2
    assert "rows are in one run only" in output
    assert "faster" in run("compare", slow, base)
    assert "slower, within --max-regress" in run("compare", base, slow, "--max-regress", "9000%")
    assert "regression is slower" not in output


@pytest.mark.parametrize("wrong", ["5", "x%", "-1%", ""])
def test_a_share_that_is_none_is_2(base: Path, wrong: str) -> None:
    run("compare", base, base, "--max-regress", wrong, code=2)


def _each_row(**values: Any) -> Edit:
    def change(content: dict[str, Any]) -> None:
        content["rows"] = [row | values for row in content["rows"]]

    return change


def _power(content: dict[str, Any]) -> None:
    content["environment"]["power"]["governor"] = "powersave"


def _input(content: dict[str, Any]) -> None:
    content["input"]["what"] = "other files"


@pytest.mark.parametrize(
    ("change", "name"),
    [(_each_row(precision="fp32"), "precision"), (_each_row(provider="cpu"), "provider"), (_power, "power-mode"), (_input, "input")],
)
def test_unlike_runs_are_refused_until_one_says_so(base: Path, edited: Callable[[Edit], Path], change: Edit, name: str) -> None:
    other = edited(change)
    assert f"--allow-different {name}" in run("compare", base, other, code=2)
    assert "0 regressed" in run("compare", base, other, "--allow-different", name, "--max-regress", "100%")


def _searched(qps: float, low: float, high: float, valid: bool = True) -> Edit:
    def change(content: dict[str, Any]) -> None:
        content["rows"] = [row for row in content["rows"] if (row["scenario"], row["scope"]) == ("Server", "model")]
        for row in content["rows"]:
            row["server"] |= {"qps": qps, "bracket": [low, high]}
            row["verdict"]["valid"] = valid

    return change


@pytest.mark.parametrize(
    ("change", "expected", "code"),
    [
        (_searched(100, 100, 110), "x 1.000 [0.9091, 1.100]  cannot tell", 2),
        (_searched(50, 50, 55), "x 2.000 [1.818, 2.200]  REGRESSION", 1),
        (_searched(45, 0, 50, valid=False), "at least: x 2.000 [2.000, -]  REGRESSION", 1),
        (_searched(200, 200, 220), "faster", 0),
    ],
)
def test_rates_that_were_searched_are_compared_by_their_ranges(
    edited: Callable[[Edit], Path], tmp_path: Path, change: Edit, expected: str, code: int
) -> None:
    first = edited(_searched(100, 100, 110)).rename(tmp_path / "first.json")
    second = edited(change)
    assert expected in run("compare", first, second, code=code)


def test_a_rate_that_never_held_is_not_compared(edited: Callable[[Edit], Path], tmp_path: Path) -> None:
    first = edited(_searched(100, 0, 110, valid=False)).rename(tmp_path / "first.json")
    output = run("compare", first, edited(_searched(100, 100, 110)))
    assert "1 Server rows of the first run kept no rate" in output
    assert "0 rows compared" in output


def _twice(content: dict[str, Any]) -> None:
    content["rows"] += [row | {"precision": "fp32"} for row in content["rows"]]


def _other_batches(content: dict[str, Any]) -> None:
    for row in content["rows"]:
        row["batch"] += 70


def _samples(content: dict[str, Any]) -> None:
    content["rows"][0]["raw"]["latency_ns"] = ["much"]


@pytest.mark.parametrize(
    ("change", "options", "expected"),
    [
        (_twice, ["--allow-different", "precision"], "Several rows of the second run"),
        (_other_batches, [], "no row in common"),
        (lambda content: content.update(schema=2), [], "is not a benchmark run of schema 1"),
        (lambda content: content.pop("environment"), [], "is damaged"),
        (lambda content: content["rows"][0].pop("metric"), [], "is damaged (rows/0"),
        (_samples, [], "are damaged"),
        (lambda content: content.update(rows=[]), [], "The runs"),
    ],
)
def test_what_cannot_be_compared_is_2(base: Path, edited: Callable[[Edit], Path], change: Edit, options: list[str], expected: str) -> None:
    assert expected in run("compare", base, edited(change), *options, code=2)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"schema": 1}', "\x00"])
def test_a_file_that_is_no_run_is_2(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    run("compare", tmp_path / "x.json", tmp_path / "x.json", code=2)
    run("capacity", tmp_path / "x.json", code=2)


def test_plan_follows_from_the_figures(base: Path) -> None:
    output = run("capacity", base)
    rows = results.read(base)["rows"]
    whole = max(row["images_per_s"]["value"] for row in rows if (row["scenario"], row["scope"]) == ("Offline", "end-to-end"))
    (a_day,) = re.findall(r"images per day: ([\d,]+)", output)
    assert int(a_day.replace(",", "")) == pytest.approx(86_400 * whole, rel=0.01)
    (model,) = [row for row in rows if (row["scenario"], row["scope"], row["batch"]) == ("Offline", "model", 4)]
    (lime_s,) = re.findall(r"LIME: ([\d.]+) ", output)
    assert float(lime_s) == pytest.approx(512 / model["images_per_s"]["value"], rel=0.01)
    assert max(len(line) for line in output.splitlines()) <= 80


def test_plan_says_what_was_not_measured(edited: Callable[[Edit], Path]) -> None:
    def only_server(content: dict[str, Any]) -> None:
        content["rows"] = [row for row in content["rows"] if row["scenario"] == "Server"]

    assert run("capacity", edited(only_server), code=1).count("not measured") == 2
    run("capacity", edited(lambda content: content.update(rows=[])), code=2)


def test_capacity_does_not_use_unsteady_rows(edited: Callable[[Edit], Path]) -> None:
    output = run("capacity", edited(_each_row(unsteady=["other processes used 1.50 cores"])), code=1)
    assert output.count("unsteady (other processes used 1.50 cores); measure again") == 2
    assert "images per day: unsteady" in output
    assert "[" not in output.partition("intervals")[2]


@pytest.mark.parametrize("which", ["before", "after"])
def test_an_unsteady_row_cannot_be_told(base: Path, edited: Callable[[Edit], Path], which: str) -> None:
    busy = edited(_each_row(unsteady=["other processes used 1.50 cores"]))
    output = run("compare", *((busy, base) if which == "before" else (base, busy)), code=2)
    assert output.count("cannot tell") == len(results.read(base)["rows"])
    assert "No row can be told" in output


def test_a_clock_that_differs_cannot_be_told(base: Path, edited: Callable[[Edit], Path]) -> None:
    def clocked(mhz: float) -> Edit:
        return _each_row(sensors={name: {"mhz": mhz, "gpu_mhz": None, "celsius": None, "throttled": None} for name in ("before", "after")})

    slow = edited(clocked(1500.0)).rename(base.parent / "slow.json")
    assert "the clock was 1500 and 3000 MHz" in run("compare", slow, edited(clocked(3000.0)), code=2)


def test_engines_of_one_run_are_compared(base: Path, edited: Callable[[Edit], Path]) -> None:
    def two(content: dict[str, Any]) -> None:
        content["rows"] += [row | {"provider": "pytorch", "precision": "fp32"} for row in content["rows"]]

    both = edited(two)
    output = run("compare", both, "--engines", "pytorch,null:int8", "--max-regress", "100%")
    assert "compared with pytorch fp32, batch 1" in output
    assert "0 regressed" in output
    assert "it has null:int8, pytorch:fp32" in run("compare", both, "--engines", "null,cpu", code=2)
    run("compare", both, both, "--engines", "null,pytorch", code=2)
    run("compare", both, code=2)
    run("compare", both, "--engines", "null", code=2)


def test_what_a_bundle_lacks_and_how_long_it_takes_is_announced(tmp_path: Path) -> None:
    output = run("--provider", "null", "--precision", "all", *BRIEF, "--scenario", "singlestream", "--out", tmp_path / "out")
    assert "not measured: fp32, fp16." in output
    assert "2 rows, 1 to 3 min" in output


@pytest.fixture(scope="module")
def driven(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    pytest.importorskip("mlperf_loadgen", reason='pip install "bcd-edge[loadgen]"')
    yield null(tmp_path_factory.mktemp("driven") / "out", "5ms", "--scope", "model", "--qps", "50", "--loadgen", "--streams", "1,2")


def test_loadgen_drives_the_same_calls_and_keeps_its_logs(driven: Path) -> None:
    rows = results.read(driven)["rows"]
    assert len(rows) == 6
    for row in rows:
        loadgen = row["loadgen"]
        assert loadgen["verdict"] in ("VALID", "INVALID")
        assert (driven.parent / loadgen["logs"] / "mlperf_log_summary.txt").exists()
        assert (driven.parent / loadgen["logs"] / "mlperf_log_detail.txt").exists()
        if loadgen["metric"] == "p90_ms":
            assert loadgen["value"] >= 5  # its clock saw the delay
        elif row["scenario"] == "Offline":
            assert 0 < loadgen["value"] <= 200 * row["streams"]
        assert loadgen["ours_over_theirs"] == pytest.approx(
            row["metric" if row["scenario"] != "Server" else "images_per_s"]["value"] / loadgen["value"], rel=1e-3
        )


def test_sustained_shows_the_curve(tmp_path: Path) -> None:
    run("--provider", "null", "--provider-option", "delay=2ms", "--sustained", "3s", "--scope", "model", "--out", tmp_path / "out")
    (row,) = results.read(tmp_path / "out" / "run.json")["rows"]
    assert row["scenario"] == "Offline"
    assert [point["end_s"] for point in row["series"]] == pytest.approx([row["elapsed_s"] / 3 * index for index in (1, 2, 3)], abs=0.01)
    assert sum(point["images_per_s"] for point in row["series"]) / 3 == pytest.approx(row["images_per_s"]["value"], rel=0.05)


def test_defaults_come_from_variables_and_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[benchmark]\nscenario = "offline"\nscope = "model"\nduration = "0.1s"\n')
    variables = {"BCD_EDGE_PROVIDER": "null", "BCD_EDGE_CONFIG": str(file), "BCD_EDGE_BENCHMARK_OUT": str(tmp_path / "out")}
    run(env=variables)
    (row,) = results.read(tmp_path / "out" / "run.json")["rows"]
    assert (row["provider"], row["scenario"], row["scope"]) == ("null", "Offline", "model")
