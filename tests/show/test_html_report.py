"""The report as a file: what stands in it, what cannot get out of it, and that it needs nothing else."""

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from recorded_runs import HOSTILE, binary_run, multiclass_run, pictures_run, write_run

import ptmetrics as pm
from ptmetrics.cli import main
from ptmetrics.errors import ConfigError, DataError
from ptmetrics.record.journal import Journal
from ptmetrics.record.reader import read_run
from ptmetrics.show.run import run_text
from ptmetrics.verdict.samples import checksum

VOID = {"meta", "input", "img", "br", "link"}


class Page(HTMLParser):
    """Elements with their attributes, and the text below each id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.unbalanced: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag) -> None:
        if not self._open or self._open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data) -> None:
        if "script" not in self._open and "style" not in self._open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(runs, **options) -> Page:
    folder = runs[0] if isinstance(runs, list) else runs
    file = Path(folder).parent / "report.html"
    assert pm.report(runs, file, **options) == file
    return Page(file.read_text(encoding="utf-8"))


def test_the_verdict_stands_first_with_evidence_and_advice(tmp_path: Path) -> None:
    run = multiclass_run(tmp_path / "run")
    verdict = pm.judge(run)
    page = page_of(run)
    text = page.text
    assert text.index(verdict.status) < text.index("Learning curves")
    for finding in verdict.findings:
        assert finding.code in text
        assert finding.message in text
        assert finding.advice in text
        for name in finding.evidence:
            assert f" {name} " in text
    for criterion in verdict.criteria:
        assert f"{criterion.name} {criterion.state} {criterion.value:.4f}" in text
    assert not page.unbalanced


def test_scores_stand_as_they_were_recorded(tmp_path: Path) -> None:
    run = multiclass_run(tmp_path / "run")
    epoch = pm.read_history(run).run().epochs[-1]
    text = page_of(run).text
    for name in ("accuracy", "f1/macro", "mcc"):
        score = epoch["scores"][f"val/{name}"]
        shown = f"{name} {score['value']:.4f} [{score['low']:.4f}, {score['high']:.4f}]"
        assert f"{shown} {score['n']}" in text
    recall = epoch["per_class"]["val"]["recall"]
    assert f"{recall['value'][3]:.4f} [{recall['low'][3]:.4f}, {recall['high'][3]:.4f}]" in text


def test_each_chart_says_what_it_shows_without_being_seen(tmp_path: Path) -> None:
    page = page_of(binary_run(tmp_path / "run"))
    charts = page.all("svg")
    assert len(charts) >= 6
    for chart in charts:
        assert chart["role"] == "img"
        assert len(chart["aria-label"]) > 8
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    known = set(ids)
    for _, attributes in page.elements:
        goal = attributes.get("href") or attributes.get("xlink:href") or ""
        if goal.startswith("#"):
            assert goal[1:] in known
    assert all(row.get("scope") in {"col", "row"} for row in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert [tag for tag, _ in page.elements].count("main") == 1
    assert page.all("html")[0]["lang"] == "en"


@pytest.mark.fault(45)
def test_the_page_needs_nothing_else_and_allows_its_own_script_alone(tmp_path: Path) -> None:
    run = multiclass_run(tmp_path / "run")
    page = page_of(run)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    policy = page.all("meta")[1]["content"]
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; script-src 'sha256-{digest}'; style-src")
    assert "unsafe-eval" not in policy
    assert text.count("<script") == 1
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in {"src", "href", "xlink:href"}:
                assert value.startswith(("#", "data:image/")), (tag, value)
    assert "url(http" not in text
    assert "@import" not in text


@pytest.mark.fault(45)
def test_hostile_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    config = dict.fromkeys(HOSTILE, HOSTILE[1])
    run = multiclass_run(tmp_path / "run", HOSTILE, config=config)
    with Journal(run, resume=True) as journal:
        for name in HOSTILE:
            journal.append("note", {"code": "own", "message": name})
    page = page_of(run)
    tame = page_of(multiclass_run(tmp_path / "tame"))
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in tame.elements}
    assert len(page.all("script")) == len(page.all("svg")) - len(tame.all("svg")) + 1 == 1
    assert not page.unbalanced
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    for sign in "\u202e\u202c\x1b":
        assert sign not in text
    assert "x" * 3000 not in text
    assert "<img src=x onerror=alert(1)>" in page.text
    assert "{{ 7 * 7 }}" in page.text


def test_what_the_sections_tell_is_in_the_record(tmp_path: Path) -> None:
    run = binary_run(tmp_path / "run")
    text = page_of(run).text
    advice = pm.advise_threshold(run, recall_at_least=0.8)  # as the profile asks for
    assert "recall of 80 %" in text
    assert f"threshold {advice.threshold:.6g} (probability {advice.probability:.4f})" in text
    best = pm.advise_threshold(run, beta=1)
    assert f"threshold {best.threshold:.6g} (probability {best.probability:.4f})" in text
    read = pm.read_history(run).run()
    kept = read.kept(read.epochs[-1])
    wrong, _ = kept.misclassified()
    assert f"{len(wrong)} of them" in text
    places, rows = kept.worst(1)
    assert f"{places[0]} ill well {rows[0]['loss']:.4f}" in text or (
        f"{places[0]} well ill {rows[0]['loss']:.4f}" in text
    )
    assert "phase time share" in text
    auroc = read.epochs[-1]["scores"]["val/auroc"]["value"]
    assert f"ROC curve; auroc {auroc:.4f}" in text
    assert f"torch {torch.__version__}" in text


def test_of_many_classes_the_matrix_is_that_of_the_samples_that_were_kept(tmp_path: Path) -> None:
    run = multiclass_run(tmp_path / "run", [f"class {i}" for i in range(300)], epochs=1)
    page = page_of(run)
    assert "Confusion matrix of 300 classes" in page.text
    read = pm.read_history(run).run()
    assert "val" not in read.epochs[-1]["confusion"], "too many for the record itself"
    rows = read.kept(read.epochs[-1]).rows
    pairs = {}
    for row in rows[rows["predicted"] != rows["target"]]:
        pair = (int(row["target"]), int(row["predicted"]))
        pairs[pair] = pairs.get(pair, 0) + 1
    most = max(pairs.values())
    told = re.search(r"most confused: class (\d+) taken for class (\d+), (\d+) ×", page.text)
    assert pairs[int(told[1]), int(told[2])] == int(told[3]) == most


@pytest.mark.fault(46)
def test_a_thousand_classes_fit_into_a_file_of_a_few_megabytes(tmp_path: Path) -> None:
    multiclass_run(tmp_path / "run", [f"class {i}" for i in range(1000)], epochs=1)
    file = pm.report(tmp_path / "run", tmp_path / "report.html")
    assert file.stat().st_size < 3 * 2**20
    assert len(Page(file.read_text(encoding="utf-8")).all("tr")) > 1000


def test_two_arms_are_compared_and_every_run_can_be_left_out(tmp_path: Path) -> None:
    first = write_run(tmp_path / "tuned")
    second = write_run(tmp_path / "scratch", (0.5, 0.7, 0.8, 0.91), step_s=2.0)
    page = page_of([first, second], target="val/accuracy>=0.9")
    comparison = pm.compare(first, second, target="val/accuracy>=0.9")
    assert "What tuned bought over scratch" in page.text
    assert f"{comparison.time_ratio.low:.2f}" in page.text
    boxes = [box["id"] for box in page.all("input")]
    assert boxes == ["show-1", "show-2"]
    drawn = {group.get("class") for group in page.all("g")}
    assert {"run-1", "run-2"} <= drawn
    assert "val/accuracy>=0.9" in page.text
    assert "forward and backward" in page.text


def test_runs_that_cannot_be_compared_are_shown_side_by_side(tmp_path: Path) -> None:
    first = write_run(tmp_path / "one", (0.9,))
    second = write_run(tmp_path / "two", (0.8,))
    assert "The two cannot be compared. run: expected at least 2" in page_of([first, second]).text


def test_of_many_runs_the_first_is_told_in_full_and_the_others_by_their_verdicts(tmp_path) -> None:
    for number in range(6):
        write_run(tmp_path / "runs" / f"run{number}")
    page = page_of(tmp_path / "runs")
    assert len(page.all("input")) == 6
    assert page.text.count("Learning curves") == 1
    assert "ptmetrics report" in page.text


def test_a_run_without_an_epoch_has_a_report(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with Journal(tmp_path / "run") as journal:
        journal.append("note", {"code": "own", "message": "nothing happened"})
    page = page_of(tmp_path / "run")
    assert "0 epochs" in page.text
    assert "not-validated" in page.text


def test_a_log_of_another_tool_and_a_monitor_have_a_report_too(tmp_path: Path) -> None:
    log = tmp_path / "metrics.csv"
    log.write_text("epoch,loss,val_loss,val_acc\n0,0.9,1.0,0.5\n1,0.6,0.8,0.75\n2,0.5,0.7,0.8\n")
    assert "accuracy 0.8000" in page_of(log).text
    monitor = pm.Monitor(pm.RegressionMetrics())
    monitor.update(torch.arange(50.0), torch.arange(50.0) + 1, split="val")
    monitor.end_epoch()
    file = pm.report(monitor, tmp_path / "memory.html")
    assert "mae 1.0000" in Page(file.read_text(encoding="utf-8")).text


def test_another_epoch_or_split_can_be_asked_for(tmp_path: Path) -> None:
    run = multiclass_run(tmp_path / "run")
    assert "epoch 1 of 3, as asked for" in page_of(run, epoch=0).text
    assert "Scores of split train" in page_of(run, split="train").text
    with pytest.raises(ConfigError, match="split: expected a split that was evaluated"):
        page_of(run, split="test")
    with pytest.raises(DataError, match="runs: expected a run"):
        pm.report([], tmp_path / "none.html")
    with pytest.raises(DataError, match=r"runs: expected a run.* got dict"):
        pm.report({}, tmp_path / "none.html")


def test_the_command_writes_the_file_and_says_where(tmp_path: Path, capsys) -> None:
    run = str(multiclass_run(tmp_path / "run"))
    file = tmp_path / "out.html"
    assert main(["report", run, "-o", str(file)]) == 0
    assert capsys.readouterr().out == f"Report: {file}\n"
    assert file.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert main(["report", run, "-o", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": str(file)}
    assert main(["report", run, "-o", str(tmp_path / "nowhere" / "out.html")]) == 2
    assert "expected a file that can be written" in capsys.readouterr().err


def shown(result) -> Page:
    page = Page(result._repr_html_())
    assert not page.unbalanced
    assert "script" not in {tag for tag, _ in page.elements}
    return page


def test_arms_that_cannot_be_compared_have_that_for_their_headline(tmp_path: Path) -> None:
    first = read_run(write_run(tmp_path / "tuned"))
    second = read_run(write_run(tmp_path / "scratch", (0.5, 0.7, 0.8, 0.91), step_s=2.0))
    for run, name in ((first, "a"), (second, "b")):
        run.header["val_fingerprint"] = name
    file = pm.report([first, second], tmp_path / "report.html", target="val/accuracy>=0.9")
    page = Page(file.read_text(encoding="utf-8"))
    assert "tuned and scratch cannot be compared" in page.text
    assert "bought" not in page.text
    assert "less training time" not in page.text
    assert "less training time" not in shown(pm.compare(first, second)).text


def test_a_history_shows_its_epochs_and_the_last_of_many(tmp_path: Path) -> None:
    page = shown(pm.read_history(write_run(tmp_path / "run", (0.5, 0.7, 0.8, 0.91))))
    assert "epoch" in page.text
    assert "val/accuracy" in page.text
    assert "4 0.0900 0.1900 0.9100" in page.text, "as on the console: losses, then validation"
    assert "4 epochs, 8 of " in page.text
    assert "time" not in page.text
    long = shown(pm.read_history(write_run(tmp_path / "long", [0.5] * 70)))
    assert len(long.all("tr")) == 51
    assert "The last 50 of 70" in long.text
    assert "No epoch" in shown(pm.Monitor(pm.BinaryMetrics()).history).text


def test_results_show_themselves_in_a_notebook(tmp_path: Path) -> None:
    first = write_run(tmp_path / "first")
    second = write_run(tmp_path / "second", (0.5, 0.7, 0.8, 0.91), step_s=2.0)
    assert "Not ready" in shown(pm.judge_confusion([[600, 400], [450, 550]])).text.capitalize()
    assert "training time" in shown(pm.compare(first, second)).text
    monitor = pm.Monitor(pm.MulticlassMetrics(2, class_names=[HOSTILE[0], "dog"]))
    assert "No epoch" in shown(monitor).text
    monitor.update(torch.eye(2).repeat(50, 1), torch.arange(100) % 2, split="val")
    scores = monitor.end_epoch()
    for result in (monitor, scores, scores.splits["val"]):
        assert "accuracy 1.0000 [0.9630, 1.0000] 100" in shown(result).text
    assert shown(scores["val/accuracy"]).text.strip() == "1.0000 [0.9630, 1.0000] n=100"
    assert "1 1.0000" in shown(monitor.history).text
    assert HOSTILE[0] in shown(scores.splits["val"]).text


def test_samples_are_shown_by_their_pictures(tmp_path: Path) -> None:
    folder = pictures_run(tmp_path / "run")
    run = pm.read_history(folder).run()
    kept = run.kept(run.epochs[-1])
    page = page_of(folder)
    assert not page.unbalanced
    gallery = page.all("img")[:48]
    for row, shown_one in zip(kept.inputs, gallery, strict=False):
        place = row["place"]
        sample = kept.rows[place]
        names = ["cat", HOSTILE[0], "dog"]
        words = f"sample {place}: actual {names[sample['target']]}, predicted "
        words += f"{names[sample['predicted']]}, loss {sample['loss']:.4f}"
        assert shown_one["alt"] == words
        data = base64.b64decode(shown_one["src"].removeprefix("data:image/png;base64,"))
        pixels = np.asarray(Image.open(io.BytesIO(data)))
        assert (pixels == row["picture"].transpose(1, 2, 0)).all()
    assert len(page.all("img")) == 48 + 5 + 1, "and of the pairs that are named"
    assert (tmp_path / "report.html").stat().st_size < 2**20


def test_leaked_rows_are_told_with_their_scores(tmp_path: Path) -> None:
    folder = pictures_run(tmp_path / "run")
    page = page_of(folder)
    text = page.text
    assert "60 rows of training, as served in its first epoch, against 90 rows of val" in text
    assert "training has seen 6 of them" in text
    assert "near nearly equal to a training sample NOT CHECKED not asked for" in text
    assert "exact equal to a training sample 6 6.7 %" in text
    kept = pm.read_history(folder).run()
    rows = kept.kept(kept.epochs[-1]).rows
    clean = rows[:84]
    right = (clean["predicted"] == clean["target"]).mean()
    whole = (rows["predicted"] == rows["target"]).mean()
    assert f"accuracy {whole:.4f} {right:.4f} [" in text
    assert "train 0 = val 84 conflicts actual cat, predicted" in text
    assert "Not searched for: shifts" in text
    told = " ".join(run_text(kept, pm.judge(folder)).split())
    assert "leaked rows: val, 90 rows: 6 equal to a training sample; near NOT CHECKED" in told


def test_that_nobody_looked_for_leaked_rows_is_said(tmp_path: Path) -> None:
    text = page_of(multiclass_run(tmp_path / "run")).text
    assert "NOT CHECKED Nobody looked for rows of validation in training" in text


def test_rows_that_came_in_another_order_are_not_told_of(tmp_path: Path) -> None:
    folder = multiclass_run(tmp_path / "run")
    part = {"rows": 1, "of": 300, "pairs": [[0, 2]], "named": [HOSTILE[1]]}
    note = {"code": "leakage-audit", "message": "found", "split": "val", "leaked": [2]}
    with Journal(folder, resume=True) as journal:
        journal.append("note", {**note, "parts": {"exact": part}, "targets": "00000000"})
    page = page_of(folder)
    assert HOSTILE[1] in page.text
    assert "training has seen 1 of them" in page.text
    assert "actual" not in page.text.rpartition(" Leakage ")[2].partition(" Time ")[0]
    assert len(page.all("script")) == 1


def test_pictures_of_numbers_tell_their_errors(tmp_path: Path) -> None:
    with pm.Monitor(pm.RegressionMetrics(), tmp_path / "run", keep_inputs=2) as monitor:
        target = torch.arange(4.0)
        preds = target + torch.tensor([0.0, 3.0, -0.5, 0.25])
        monitor.update(preds, target, split="val", inputs=torch.rand(4, 1, 5, 6))
        monitor.end_epoch()
    told = [image["alt"] for image in page_of(tmp_path / "run").all("img")]
    assert told == [
        "sample 1: actual 1.0000, error 3.0000",
        "sample 2: actual 2.0000, error -0.5000",
    ]


def test_a_note_that_names_more_than_it_has_is_shown(tmp_path: Path) -> None:
    folder = multiclass_run(tmp_path / "run")
    run = pm.read_history(folder).run()
    targets = checksum(run.kept(run.epochs[-1]).rows["target"])
    part = {"rows": 2, "of": 300, "pairs": [[], [5, 10_000]], "named": ["one", "other", "third"]}
    note = {"code": "leakage-audit", "message": "found", "split": "val", "leaked": [2]}
    with Journal(folder, resume=True) as journal:
        for refused in (["not counts"], {"train": 7}):
            parts = {"exact": part, "unknown": part}
            told = {**note, "parts": parts, "targets": targets, "refused": refused}
            journal.append("note", told)
    text = page_of(folder).text
    assert "one exact" in text
    assert "third exact" in text
    assert "7 rows of train could not be read." in text
    assert "refused" in text, "the first note is told to be no such note"


def test_an_audit_shows_itself_in_a_notebook() -> None:
    pictures = torch.rand(40, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    train = torch.utils.data.TensorDataset(pictures[:30], torch.arange(30) % 2)
    val = torch.utils.data.TensorDataset(pictures[28:], torch.arange(12) % 2)
    page = shown(pm.audit(train, val, near=False, thumbnails=True, progress=False))
    assert "30 rows of the training set, against 12 rows of val" in page.text
    assert "train 28 = val 0 exact label 0" in page.text
    assert "near nearly equal to a training sample NOT CHECKED not asked for" in page.text
    pairs = [image["alt"] for image in page.all("img")]
    assert pairs[:2] == ["training, twin of validation row 0", "validation row 0"]
    assert len(pairs) == 4


@pytest.mark.slow
@pytest.mark.fault(46)
def test_of_ten_thousand_classes_the_report_says_what_it_leaves_out(tmp_path: Path) -> None:
    classes = 10_000
    names = [f"class {i}" for i in range(classes)]
    metrics = pm.MulticlassMetrics(classes, inputs="labels", class_names=names)
    with pm.Monitor(metrics, tmp_path / "run", progress=False) as monitor:
        target = torch.arange(2 * classes) % classes
        preds = torch.where(torch.arange(2 * classes) % 3 == 0, 0, target)
        monitor.update(preds, target, split="val")
        monitor.end_epoch()
    file = pm.report(tmp_path / "run", tmp_path / "report.html")
    page = Page(file.read_text(encoding="utf-8"))
    assert file.stat().st_size < 8 * 2**20
    assert len(page.all("tr")) < 200
    assert "Scores of each of more than 4096 classes are not recorded." in page.text
    assert "More than 4096 classes: no confusion matrix is kept." in page.text


def test_faults_have_a_section_of_their_own_and_its_absence_is_none(tmp_path: Path) -> None:
    def fails(monitor, scores) -> None:
        raise RuntimeError("the tracker's disk is full")

    bad = pm.Callback()
    bad.on_epoch_end = fails
    page = page_of(multiclass_run(tmp_path / "bad", callbacks=[bad]))
    section = page.text.rpartition("Faults and notes")[2].partition("Environment")[0]
    assert "the tracker's disk is full" in section
    assert "3 ×" in section
    assert "Faults and notes" not in page_of(multiclass_run(tmp_path / "good")).text
