"""Every score of multilabel classification against scikit-learn in float64, and by definition where it has none."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from multilabel_cases import (
    multilabel_batch,
    multilabel_cells,
    multilabel_oracle,
    row_columns,
    scikit_learn,
)
from oracles import Batch, same
from sklearn import metrics as sk

from ptmetrics.errors import ConfigError
from ptmetrics.metrics.intervals import mover
from ptmetrics.metrics.multilabel import MultilabelMetrics
from ptmetrics.metrics.score import Scores
from ptmetrics.metrics.score_spec import ScoreSpec

LAW = settings(deadline=None, max_examples=12, derandomize=True)
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
seeds = st.integers(0, 2**32)
kinds = st.sampled_from(["logits", "probs", "labels"])
absents = st.sampled_from([math.nan, 0.0, 1.0])


def configs(least: int = 1) -> st.SearchStrategy[dict[str, Any]]:
    """With one column scikit-learn takes the task for another one."""
    return st.fixed_dictionaries(
        {"num_labels": st.integers(least, 5), "inputs": kinds, "absent": absents}
    )


def scores_of(batch: Batch, **config: Any) -> Scores:
    metrics = MultilabelMetrics(**config)
    metrics.update(batch.preds, batch.target, batch.weight)
    return metrics.compute()


def clean(batch: Batch) -> Batch:
    """Without the rows that hold a fault."""
    kept = ((batch.target == 0) | (batch.target == 1)).all(1) & (
        (batch.preds >= -99) & (batch.preds <= 5)
    ).all(1)
    kept &= ~(batch.preds == 1.5).any(1)
    if batch.weight is not None:
        kept &= batch.weight > 0
    return Batch(
        batch.preds[kept], batch.target[kept], None if batch.weight is None else batch.weight[kept]
    )


@given(configs(least=2), st.integers(1, 60), seeds, st.booleans(), st.sampled_from(DTYPES))
@settings(LAW, max_examples=40)
def test_every_score_is_that_of_scikit_learn_where_every_cell_counts(
    config: dict[str, Any], rows: int, seed: int, weighted: bool, dtype: torch.dtype
) -> None:
    config["absent"] = (
        0.0  # scikit-learn's default; other values it gives to labels that are there too
    )
    batch = clean(multilabel_batch(config["num_labels"], config["inputs"], rows, seed, weighted))
    assume(len(batch.target) > 0)
    if config["inputs"] != "labels":
        batch.preds = batch.preds.to(dtype)
    got = scores_of(batch, **config)
    cells = multilabel_cells(config, [batch])
    assert got.n == len(cells.weight) == len(batch.target)
    for name, value in scikit_learn(cells, config["absent"]).items():
        assert same(got[name], value), f"{name}: {got[name].value!r} for {value!r}"


@given(configs(), st.sampled_from([None, -1, 0, 1]), st.integers(0, 60), seeds, st.booleans())
@settings(LAW, max_examples=40)
def test_every_score_is_that_of_its_definition_where_cells_are_ignored_or_faulty(
    config: dict[str, Any], ignored: int | None, rows: int, seed: int, weighted: bool
) -> None:
    config |= {"ignore_index": ignored, "threshold": 0.4}
    batch = multilabel_batch(config["num_labels"], config["inputs"], rows, seed, weighted)
    got = scores_of(batch, **config)
    for name, value in multilabel_oracle(config, [batch]).items():
        if name.startswith("class:"):
            assert all(map(same, got.per_class[name.removeprefix("class:")], value)), name
        else:
            assert same(got[name], value), f"{name}: {got[name].value!r} for {value!r}"


@given(st.integers(2, 5), st.integers(1, 40), seeds, st.booleans())
@LAW
def test_print_starts_with_scikit_learns_report_digit_for_digit(
    labels: int, rows: int, seed: int, long: bool
) -> None:
    batch = clean(multilabel_batch(labels, "logits", rows, seed, False))
    assume(len(batch.target) > 0)
    names = [("a label with a long name " if long else "l") + str(i) for i in range(labels)]
    got = scores_of(batch, num_labels=labels, label_names=names, absent=0.0)
    cells = multilabel_cells({"num_labels": labels, "inputs": "logits"}, [batch])
    how = {"target_names": names, "zero_division": 0.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert str(got).startswith(sk.classification_report(cells.actual, cells.said, **how))


@given(st.integers(0, 6), st.integers(0, 4), kinds, seeds, st.booleans())
@LAW
def test_dense_predictions_count_as_the_same_rows_laid_flat(
    n: int, d: int, inputs: Any, seed: int, weighted: bool
) -> None:
    flat = multilabel_batch(3, inputs, n * d, seed, weighted)
    preds, target = (x.reshape(n, d, 3).movedim(-1, 1) for x in (flat.preds, flat.target))
    weight = None if flat.weight is None else flat.weight.reshape(n, d)
    dense, whole = (
        scores_of(
            Batch(preds, target, weight), num_labels=3, inputs=inputs, groups=False, class_dim=1
        ),
        scores_of(flat, num_labels=3, inputs=inputs),
    )
    assert repr(dense.to_dict()) == repr(whole.to_dict())


def test_hand_numbers() -> None:
    target = torch.tensor([[1, 0, 1], [1, 1, 0], [0, 0, 0], [1, 0, 0]])
    preds = torch.tensor([[1, 0, 1], [1, 0, 0], [0, 0, 0], [0, 1, 0]])
    got = scores_of(Batch(preds, target), num_labels=3, inputs="labels")
    assert got["exact_match"].value == 2 / 4
    assert got["hamming_loss"].value == 3 / 12
    assert got["precision/micro"].value == 3 / 4
    assert got["recall/micro"].value == 3 / 5
    assert [float(x) for x in got.per_class["recall"]] == [2 / 3, 0.0, 1.0]
    assert [float(x) for x in got.per_class["precision"]] == [1.0, 0.0, 1.0]
    assert got["precision/samples"].value == pytest.approx(
        (1 + 1 + 0) / 3
    )  # the third row predicts nothing
    assert got["recall/samples"].value == pytest.approx((1 + 0.5 + 0) / 3)
    assert got["f1/samples"].value == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_ignored_labels_have_no_say_in_an_exact_match_and_refused_ones_leave_the_row_out() -> None:
    target = torch.tensor([[1, -1, 0], [1, -1, 0], [1, 0, 0], [1, 0, 7], [-1, -1, -1]])
    preds = torch.tensor([[9.0, 9, -9], [9, 9, 9], [9, math.nan, -9], [9, -9, -9], [9, 9, 9]])
    got = scores_of(Batch(preds, target), num_labels=3, ignore_index=-1)
    assert (got["exact_match"].value, got["exact_match"].n) == (0.5, 2)  # rows 0 and 1
    assert got.n == 4
    assert got["hamming_loss"].value == 1 / 8  # 2 + 2 + 2 + 2 labels counted
    assert [(name, f["count"]) for name, f in got.faults.items()] == [
        ("target-out-of-range", 1),
        ("nan-score", 1),
    ]
    assert [x.n for x in got.per_class["recall"]] == [4, 0, 0]


@pytest.mark.fault(22)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_threshold_is_a_probability_and_equal_is_a_yes(dtype: torch.dtype) -> None:
    """Peer defect B: small logits are logits, in any batch."""
    logits = torch.tensor([[0.2], [0.4], [0.0], [-0.1]], dtype=dtype)
    target = torch.tensor([[1], [1], [1], [0]])
    assert scores_of(Batch(logits, target), num_labels=1)["exact_match"].value == 1.0
    probs = torch.tensor([[0.75], [0.5], [0.76], [0.25]], dtype=dtype)
    target = torch.tensor([[1], [0], [1], [0]])
    assert (
        scores_of(Batch(probs, target), num_labels=1, inputs="probs", threshold=0.75)[
            "exact_match"
        ].value
        == 1.0
    )


@pytest.mark.parametrize("threshold", [0.01, 0.3, 0.5, 0.9, 0.999])
def test_logits_and_their_probabilities_decide_alike(threshold: float) -> None:
    logits = (
        torch.randn(500, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    )
    target = (torch.rand(500, 3, generator=torch.Generator().manual_seed(1)) < 0.4).long()
    one = scores_of(Batch(logits, target), num_labels=3, threshold=threshold)
    two = scores_of(
        Batch(logits.sigmoid(), target), num_labels=3, threshold=threshold, inputs="probs"
    )
    assert {name: s.to_dict() for name, s in one.items()} == {
        name: s.to_dict() for name, s in two.items()
    }


@pytest.mark.fault(24)
def test_without_rows_every_score_is_nan_with_a_reason() -> None:
    for absent, filled in ((math.nan, math.nan), (0.0, 0.0)):
        got = scores_of(
            Batch(torch.zeros(0, 2), torch.zeros(0, 2, dtype=torch.long)),
            num_labels=2,
            absent=absent,
        )
        assert got.n == 0
        assert math.isnan(got["exact_match"])
        assert all(score.reason for score in got.values() if math.isnan(score))
        assert all(same(score, filled) for score in got.per_class["f1"])


@pytest.mark.parametrize("shared", [0.0, 0.8])
def test_intervals_cover_what_they_say_whether_labels_err_alone_or_together(shared: float) -> None:
    labels, rows, repeats = 8, 150, 120
    g = torch.Generator().manual_seed(0)

    def draw(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        common, own = torch.randn(n, 1, generator=g), torch.randn(n, labels, generator=g)
        wrong = math.sqrt(shared) * common + math.sqrt(1 - shared) * own < -1.1
        target = torch.rand(n, labels, generator=g) < torch.linspace(0.1, 0.6, labels)
        return (target ^ wrong).long(), target.long()

    truth = scores_of(Batch(*draw(300_000)), num_labels=labels, inputs="labels")
    covered = dict.fromkeys(truth, 0)
    for _ in range(repeats):
        got = scores_of(Batch(*draw(rows)), num_labels=labels, inputs="labels")
        for name in got:
            covered[name] += got[name].low <= truth[name].value <= got[name].high
    rates = {name: hits / repeats for name, hits in covered.items()}
    assert all(rate >= 0.89 for rate in rates.values()), rates
    assert np.mean(list(rates.values())) <= 0.985


def test_labels_that_all_err_together_are_worth_one_label() -> None:
    g = torch.Generator().manual_seed(0)
    target = torch.randint(0, 2, (200, 1), generator=g)
    preds = torch.where(torch.rand(200, 1, generator=g) < 0.2, 1 - target, target)
    one = scores_of(Batch(preds, target), num_labels=1, inputs="labels")
    ten = scores_of(
        Batch(preds.expand(-1, 10), target.expand(-1, 10)), num_labels=10, inputs="labels"
    )
    for name in ("hamming_loss", "precision/macro", "recall/micro", "f1/macro", "jaccard/weighted"):
        assert ten[name].value == pytest.approx(one[name].value)
        for end in ("low", "high"):
            assert getattr(ten[name], end) == pytest.approx(getattr(one[name], end), abs=0.004), (
                name
            )


def test_directions_and_methods_are_named() -> None:
    got = scores_of(multilabel_batch(3, "logits", 50, 0, False), num_labels=3)
    assert [name for name, score in got.items() if not score.higher_is_better] == ["hamming_loss"]
    assert {score.method for score in got.values()} == {
        "wilson", "wilson-clustered", "mover-clustered", "wilson-effective", "mean-of-ends",
        "delong-newcombe-clustered", "delta-wilson-clustered",
    }  # fmt: skip
    ranked = {"auroc", "average_precision"}
    assert set(got.per_class) == {"precision", "recall", "f1", "jaccard", "support"} | ranked
    assert not ranked & set(
        scores_of(multilabel_batch(3, "labels", 9, 0, False), num_labels=3, inputs="labels")
    )
    assert got.confusion is not None
    assert got.confusion.shape == (3, 2, 2)
    assert got.to_dict()["confusion"] is None  # a record has that of classes


@pytest.mark.slow
@given(
    st.sampled_from(["logits", "probs"]),
    st.sampled_from([3, 66]),
    st.integers(2, 80),
    seeds,
    st.booleans(),
)
@settings(LAW, max_examples=15)
def test_ranking_scores_are_those_of_scikit_learn_within_their_bound(
    inputs: Any, labels: int, rows: int, seed: int, weighted: bool
) -> None:
    batch = multilabel_batch(labels, inputs, rows, seed, weighted)
    batch.preds = batch.preds + 0.1 * torch.rand(
        rows, labels, generator=torch.Generator().manual_seed(seed)
    )
    got = scores_of(batch, num_labels=labels, inputs=inputs, ignore_index=-1)
    c = multilabel_cells({"num_labels": labels, "inputs": inputs, "ignore_index": -1}, [batch])
    weight = torch.ones(rows) if batch.weight is None else batch.weight
    preds = batch.preds[(weight >= 0) & (weight < math.inf)].double().numpy()
    for name, oracle in (
        ("auroc", sk.roc_auc_score),
        ("average_precision", sk.average_precision_score),
    ):
        defined = []
        for label, score in enumerate(got.per_class[name]):
            kept = c.counted[:, label] & (c.weight > 0)
            target, p, w = c.actual[kept, label], preds[kept, label], c.weight[kept]
            if name == "auroc" and len(set(target)) < 2:
                assert math.isnan(score)
                assert "one class only" in str(score.reason)
                continue
            if not target.any():  # scikit-learn's is 0 then, with a warning
                assert math.isnan(score)
                assert score.reason == "no target is positive"
                continue
            assert abs(score - oracle(target, p, sample_weight=w)) <= score.error_bound + 1e-12
            assert score.low <= score <= score.high
            defined.append(score)
        assert same(got[f"{name}/macro"], float(np.mean(defined)) if defined else math.nan)


@pytest.mark.fault(23)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_ranking_scores_of_half_precision_logits_are_exact(dtype: torch.dtype) -> None:
    """Peer defect H: logits near 98, where every sigmoid is 1."""
    g = torch.Generator().manual_seed(0)
    target = torch.randint(0, 2, (500, 2), generator=g)
    preds = (98 + target + torch.randn(500, 2, generator=g)).to(dtype)
    got = scores_of(Batch(preds, target), num_labels=2)
    expected = sk.roc_auc_score(target.numpy(), preds.double().numpy(), average=None)
    for score, value in zip(got.per_class["auroc"], expected, strict=True):
        assert score.error_bound == 0.0
        assert same(score, value)


@pytest.mark.parametrize(
    ("labels", "most"), [(1, 2**21), (64, 2**27), (65, 2**24), (1024, 2**27 + 2**20)]
)
def test_the_state_of_the_curves_keeps_to_its_budget(labels: int, most: int) -> None:
    assert MultilabelMetrics(labels).state_bytes <= most


def test_above_1024_labels_and_on_request_no_scores_are_kept() -> None:
    for metrics in (MultilabelMetrics(1025), MultilabelMetrics(3, curves=False)):
        assert metrics.state_bytes < 200_000
        assert not any(name.startswith("auroc") for name in metrics.compute())


def youden(counts: Any) -> Any:
    return (
        counts.hits / counts.actual
        + (counts.others - counts.predicted + counts.hits) / counts.others
        - 1
    )


def test_scores_of_your_own_are_computed_from_the_sums_of_each_label() -> None:
    """With slices, of which there are as many as labels, and groups, which give the mean its interval."""
    mine = (
        ScoreSpec("youden", youden, each=True, range=(-1.0, 1.0)),
        ScoreSpec("reach", lambda c: (c.hits, c.actual), "wilson", each=True),
        ScoreSpec("mean_youden", lambda c: youden(c).mean(-1), range=(-1.0, 1.0)),
    )
    metrics = MultilabelMetrics(3, inputs="labels", scores=mine, slices=3, groups=True)
    target = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 1], [1, 1, 0]] * 6)
    preds = torch.tensor([[1, 0, 1], [0, 1, 1], [0, 1, 1], [0, 1, 0]] * 6)
    metrics.update(preds, target, slices=torch.arange(24) % 3, group=torch.arange(24) // 2)
    got = metrics.compute()
    assert [x.value for x in got.per_class["youden"]] == pytest.approx([0.5, 0.5, 0.5])
    assert [x.n for x in got.per_class["youden"]] == [24] * 3
    assert got.per_class["reach"][0].value == got.per_class["recall"][0].value == 0.5
    assert got["mean_youden"].value == pytest.approx(0.5)
    assert got["mean_youden"].method == "jackknife-groups"
    assert -1 < got["mean_youden"].low < 0.5 < got["mean_youden"].high < 1
    assert set(got.per_slice) == {"0", "1", "2"}


@pytest.mark.parametrize(
    "spec",
    [
        ScoreSpec("mine", youden, "delta"),
        ScoreSpec("mine", lambda c: (c.hits, c.actual), "mover"),
        ScoreSpec("mine", lambda c: (c.hits.sum(-1), c.actual.sum(-1)), "wilson"),
    ],
    ids=lambda spec: spec.interval,
)
def test_intervals_that_take_labels_for_independent_are_refused(spec: ScoreSpec) -> None:
    rule = r"scores: expected each=True with interval=\"wilson\", .*got mine with .*err together"
    with pytest.raises(ConfigError, match=rule):
        MultilabelMetrics(3, scores=[spec])
    with pytest.raises(
        ConfigError, match=r"scores: expected pm.ScoreSpec objects, or names among specificity"
    ):
        MultilabelMetrics(3, scores=["mine"])  # type: ignore[list-item]


def test_parts_are_scored_as_metrics_of_their_rows_alone() -> None:
    batch = multilabel_batch(3, "logits", 90, 0, True)
    parts = torch.arange(90) % 4 - 1
    metrics = MultilabelMetrics(3, ignore_index=-1, slices=("a", "b", "c"), absent=0.0)
    metrics.update(batch.preds, batch.target, batch.weight, slices=parts)
    per_slice = metrics.compute().per_slice
    for name, number in (("a", 0), ("b", 1), ("c", 2)):
        rows = batch.rows((parts == number).nonzero().squeeze(1).tolist())
        alone = scores_of(rows, num_labels=3, ignore_index=-1, absent=0.0, curves=False)
        assert per_slice[name].keys() == alone.keys()
        for key, score in alone.items():
            got = per_slice[name][key]
            assert (got.n, got.method) == (score.n, score.method)
            assert [got.value, got.low, got.high] == pytest.approx(
                [score.value, score.low, score.high], rel=1e-12, nan_ok=True
            ), key


def test_intervals_by_groups_know_that_copies_of_a_row_are_one() -> None:
    batch = clean(multilabel_batch(3, "logits", 200, 0, False))
    rows, copies = len(batch.target), 5
    many = MultilabelMetrics(3, groups=True, curves=False)
    once = MultilabelMetrics(3, groups=True, curves=False)
    group = torch.arange(rows)
    once.update(batch.preds, batch.target, group=group)
    for _ in range(copies):
        many.update(batch.preds, batch.target, group=group)
    for name, score in once.compute().items():
        got = many.compute()[name]
        assert got.method == "jackknife-groups"
        # Each row is a group once: there its interval by rows may be the wider one.
        assert score.low - 1e-9 <= got.low <= got.high <= score.high + 1e-9, name
        if not name.endswith("macro"):  # of a rare label rows tell more doubt than buckets
            assert [got.low, got.high] == pytest.approx([score.low, score.high], abs=0.03), name
    plain = MultilabelMetrics(3, curves=False)
    for _ in range(copies):
        plain.update(batch.preds, batch.target)
    narrow, wide = plain.compute()["f1/micro"], many.compute()["f1/micro"]
    assert narrow.high - narrow.low < 0.7 * (wide.high - wide.low)


def wilson_ends(p: float, n: float) -> list[float]:
    z2 = 1.959963984540054**2
    middle, half = p + z2 / (2 * n), math.sqrt(z2) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return [(middle - half) / (1 + z2 / n), (middle + half) / (1 + z2 / n)]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("parts", [False, True])
def test_ends_follow_from_the_rows_one_by_one(weighted: bool, parts: bool) -> None:
    """Micro averages, means over rows and the design effect, each summed up anew from rows with weights and faults."""
    batch = multilabel_batch(4, "logits", 150, 3, weighted)
    for tensor in (batch.preds, batch.target):  # labels that err together
        tensor[:, 1:3] = tensor[:, 3:]
    config = {"num_labels": 4, "inputs": "logits", "ignore_index": -1}
    metrics = MultilabelMetrics(**config, absent=0.5, slices=2 * parts)  # type: ignore[arg-type]
    given = {"slices": torch.zeros(150, dtype=torch.long)} if parts else {}
    metrics.update(batch.preds, batch.target, batch.weight, **given)
    got = metrics.compute().per_slice["0"] if parts else metrics.compute()

    c = multilabel_cells(config, [batch])
    kept = c.counted.any(1)
    w = c.weight[kept]
    rows = w.sum() ** 2 / (w**2).sum()
    said, actual, counted = (x[kept].astype(float) for x in (c.said, c.actual, c.counted))
    hits, wrong = said * actual, np.abs(said - actual)
    sizes = {
        "precision/micro": (hits, said),
        "recall/micro": (hits, actual),
        "jaccard/micro": (hits, said + actual - hits),
        "hamming_loss": (wrong, counted),
    }
    for name, (part, whole) in sizes.items():
        p = (w @ part).sum() / (w @ whole).sum()
        variance = (w**2 * (part - p * whole).sum(1) ** 2).sum() * rows / (rows - 1)
        n = p * (1 - p) * (w @ whole).sum() ** 2 / variance
        assert [got[name].low, got[name].high] == pytest.approx(wilson_ends(p, n), rel=1e-9), name

    columns, row_weight = row_columns(c, absent=0.5)
    effective = row_weight.sum() ** 2 / (row_weight**2).sum()
    for name, values in columns.items():
        mean = np.average(values, weights=row_weight)
        spread = (row_weight**2 * (np.array(values) - mean) ** 2).sum()
        variance = spread * effective / (effective - 1) / row_weight.sum() ** 2
        ends = wilson_ends(mean, mean * (1 - mean) / variance)
        score = got[f"{name}/samples"]
        assert [score.low, score.high] == pytest.approx(ends, rel=1e-9), name

    for title in ("recall", "jaccard"):
        part, whole = sizes[f"{title}/micro"]
        p = (w @ part) / (w @ whole)
        alone = (w[:, None] ** 2 * (part - p * whole) ** 2).sum()
        overall = (w @ part).sum() / (w @ whole).sum()
        together = (w**2 * (part - overall * whole).sum(1) ** 2).sum()
        effect = together / alone
        assert 1 < effect < (w @ counted).sum() / w.sum()
        n = (w @ whole) ** 2 / (w**2 @ whole) / effect
        for average, share in (("macro", None), ("weighted", w @ actual)):
            score = got[f"{title}/{average}"]
            expected = [float(x) for x in mover(p, n, share)]
            assert [score.value, score.low, score.high] == pytest.approx(expected, rel=1e-9)


def test_a_constant_in_the_place_of_an_undefined_f1_is_that_constant_and_has_no_doubt() -> None:
    target = torch.tensor([[1, 0], [0, 0], [1, 0], [1, 0]])
    preds = torch.tensor([[1, 0], [1, 0], [1, 0], [0, 0]])
    one = scores_of(Batch(preds[:, :1], target[:, :1]), num_labels=1, inputs="labels")
    two = scores_of(Batch(preds, target), num_labels=2, inputs="labels", absent=0.5)
    assert two["f1/macro"].value == pytest.approx((one["f1/macro"].value + 0.5) / 2)
    assert two["f1/micro"].value == one["f1/micro"].value


def test_micro_averages_without_any_error_rest_on_the_number_of_rows() -> None:
    target = torch.tensor([[1, 1, 1]] * 20)
    got = scores_of(Batch(target, target), num_labels=3, inputs="labels")
    assert [got["recall/micro"].low, got["recall/micro"].high] == pytest.approx(wilson_ends(1, 20))
