"""metairn-report as users call it: page, figures, tables, refusals, speed."""

import math
import re
import time
from html.parser import HTMLParser

import pandas as pd
import pytest
from PIL import Image
from study_builder import MadeUpStudy

from metairn.experiments import report

LENGTHS, SEEDS = (2, 5), 3


def run_report(root, capsys, monkeypatch):
    """Exit code and both streams of the command."""
    arguments = ["study=toy", f"output_root={root}", f"images_root={root}/images"]
    monkeypatch.setattr("sys.argv", ["metairn-report", *arguments])
    with pytest.raises(SystemExit) as ended:
        report.main()
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


class Page(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def test_report_is_a_page_that_needs_nothing_else(tmp_path, capsys, monkeypatch):
    MadeUpStudy(tmp_path).write_all(lengths=LENGTHS, seeds=SEEDS)
    code, out, err = run_report(tmp_path, capsys, monkeypatch)
    assert (code, err) == (0, "")
    assert "MetaIRN" in out
    html = (tmp_path / "toy" / "report.html").read_text()
    page = Page(html)
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 8
    assert all(image["src"].startswith("data:image/svg+xml;base64,") for image in images)
    assert all(len(image["alt"]) > 40 for image in images)
    assert not {"link", "iframe"} & {tag for tag, _ in page.tags}
    assert not [a for tag, a in page.tags if tag != "img" and ({"src", "href"} & a.keys())]
    assert not re.search(r"https?://|@import|url\(", html)
    assert len(html) < 3e6
    for words in ("LIRPG", "length 5", "24 runs", "0123456789abcdef", "3.11.7"):
        assert words in page.text
    names = {path.stem for path in (tmp_path / "images").iterdir()}
    assert {"toy_sample_efficiency", "toy_over_length", "toy_improvement"} <= names
    for path in (tmp_path / "images").iterdir():
        start = {".png": b"\x89PNG", ".pdf": b"%PDF", ".gif": b"GIF8"}[path.suffix]
        assert path.read_bytes().startswith(start)
    assert len(list((tmp_path / "images").iterdir())) == 2 * len(images) + 1
    with Image.open(tmp_path / "images" / "toy_credit_over_training.gif") as moving:
        assert moving.n_frames == 3


def test_table_has_every_number_with_its_interval(tmp_path, capsys, monkeypatch):
    study = MadeUpStudy(tmp_path)
    for seed in range(3):
        study.write("ppo", 4, seed, scores=[0, 0, 0.2, 0.2, 0.2, 0.2])
        study.write("meta_irn", 4, seed, scores=[0, 0.95, 1, 1, 1, 1])
    assert run_report(tmp_path, capsys, monkeypatch)[0] == 0
    table = pd.read_csv(tmp_path / "toy" / "table.csv").set_index("method")
    ppo, mine = table.loc["ppo"], table.loc["meta_irn"]
    assert (ppo["optimality"], mine["optimality"]) == (0.2, 1.0)
    assert (ppo["env_steps_to_90pct"], mine["env_steps_to_90pct"]) == (math.inf, 2000)
    assert (ppo["never"], mine["never"]) == (3, 0)
    assert (mine["improvement_final"], mine["improvement_speed"]) == (1, 1)
    assert (mine["credit_on_cause"], ppo["seeds"], ppo["left_out"]) == (0.25, 3, 0)
    for name in ("optimality", "greedy", "env_steps_to_90pct", "credit_on_cause"):
        assert (table[f"{name}_low"] <= table[name]).all()
        assert (table[f"{name}_high"] >= table[name]).all()
    page = Page((tmp_path / "toy" / "report.html").read_text())
    assert "never [never, never]" in page.text
    assert "in 3 of 3" in page.text


def test_same_runs_give_the_same_report(tmp_path, capsys, monkeypatch):
    MadeUpStudy(tmp_path).write_all(methods=["ppo", "meta_irn"], lengths=[3], seeds=2)

    def files():
        run_report(tmp_path, capsys, monkeypatch)
        paths = [*(tmp_path / "images").iterdir(), *(tmp_path / "toy").glob("*.*")]
        return {path.name: path.read_bytes() for path in paths}

    first = files()
    assert len(first) > 10
    assert files() == first


def test_damaged_and_failed_runs_are_said_and_left_out(tmp_path, capsys, monkeypatch):
    study = MadeUpStudy(tmp_path)
    study.write_all(methods=["ppo", "meta_irn"], lengths=LENGTHS, seeds=SEEDS)
    damaged = study.folder("meta_irn", 5, 1) / "metrics.jsonl"
    damaged.write_text(damaged.read_text().replace("{", "", 1))
    failed = study.write("ppo", 2, 7, finish=False)
    (failed / "error.txt").write_text("Traceback\nValueError: <b>too bad</b>\n")
    code, _, err = run_report(tmp_path, capsys, monkeypatch)
    assert code == 0
    html = (tmp_path / "toy" / "report.html").read_text()
    page = Page(html)
    for told in (err, page.text):
        assert f"{damaged.parent} is left out: damaged, metrics.jsonl: line 1 is no row" in told
        assert f"{failed} is left out: failed, ValueError: <b>too bad</b>." in told
        assert "leave out seed 1 of MetaIRN" in told
    assert "<b>too bad" not in html
    assert "2 (1 left out)" in page.text
    table = pd.read_csv(tmp_path / "toy" / "table.csv").set_index(["method", "length"])
    assert table.loc[("meta_irn", 5), ["seeds", "left_out"]].tolist() == [2, 1]
    assert table.loc[("ppo", 2), ["seeds", "left_out"]].tolist() == [3, 1]


def test_environment_without_known_optimum_is_compared_by_returns(tmp_path, capsys, monkeypatch):
    study = MadeUpStudy(tmp_path)
    study.write_all(methods=["ppo", "meta_irn"], lengths=[3])
    for path in (tmp_path / "toy").rglob("metrics.parquet"):
        table = pd.read_parquet(path)
        hidden = ["optimality", "optimality_greedy", "credit_on_cause"]
        table.drop(columns=hidden).to_parquet(path)
    for path in (tmp_path / "toy").rglob("*.npz"):
        path.unlink()
    code, out, err = run_report(tmp_path, capsys, monkeypatch)
    assert (code, err) == (0, "")
    assert "env steps to 90%" not in out
    columns = set(pd.read_csv(tmp_path / "toy" / "table.csv").columns)
    assert {"evaluation_return_mean", "greedy", "improvement_final"} <= columns
    assert not {"optimality", "never", "improvement_speed"} & columns


@pytest.mark.parametrize("problem", ["empty", "missing method", "mixed", "no number"])
def test_bad_input_costs_one_sentence_and_writes_nothing(problem, tmp_path, capsys, monkeypatch):
    study = MadeUpStudy(tmp_path)
    if problem != "empty":
        study.write("meta_irn", 2, 0)
    if problem in ("mixed", "no number"):
        study.write("ppo", 2, 0)
    if problem == "mixed":
        study.write("ppo", 2, 1, clip=0.3)
    if problem == "no number":
        study.write("ppo", 2, 1, scores=[0, 0, math.nan, 1, 1, 1])
    code, out, err = run_report(tmp_path, capsys, monkeypatch)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    named = {
        "empty": "no finished runs",
        "missing method": "method=ppo",
        "mixed": "training.clip=0.2",
        "no number": "seed=1 is no number at 4000 env steps",
    }
    assert named[problem] in err
    assert not (tmp_path / "images").exists()
    assert not list(tmp_path.glob("toy/*.*"))


@pytest.mark.slow
def test_report_over_150_runs_takes_less_than_half_a_minute(tmp_path, capsys, monkeypatch):
    study = MadeUpStudy(tmp_path, budget=100_000)
    study.write_all(methods=["ppo", "meta_irn", "oracle"], lengths=(2, 5, 10, 20, 50), seeds=10)
    started = time.process_time()  # Of this process: others on the machine do not count.
    assert run_report(tmp_path, capsys, monkeypatch)[0] == 0
    assert time.process_time() - started < 30
    html = (tmp_path / "toy" / "report.html").read_text()
    assert "150" in Page(html).text
    assert len(html) < 5e6
