"""Hugging Face's Trainer with one callback counts what a loop without a trainer counts."""

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import SequentialSampler, default_collate

import ptmetrics as pm

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

from ptmetrics.integrations.transformers import MonitorCallback  # noqa: E402 — needs transformers

WORDS, LENGTH, LABELS = 30, 8, 3


class InOrder(transformers.Trainer):
    """Trains on the samples in their order, as the plain loop does."""

    def _get_train_sampler(self, *data: Any) -> Any:
        return SequentialSampler(self.train_dataset)


def samples(rows: int, seed: int, tokens: bool = False) -> list[dict[str, torch.Tensor]]:
    """Sequences of unlike length, filled up; of each a label, or one a token."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(rows):
        ids = torch.randint(1, WORDS, (LENGTH,), generator=generator)
        length = int(torch.randint(3, LENGTH + 1, (), generator=generator))
        mask = (torch.arange(LENGTH) < length).long()
        labels = ids[0] % LABELS
        if tokens:
            labels = (ids % LABELS).masked_fill(mask == 0, -100)
        found.append({"input_ids": ids * mask, "attention_mask": mask, "labels": labels})
    return found


def bert(kind: str = "SequenceClassification", **options: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=WORDS,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=LENGTH,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=LABELS,
        **options,
    )
    return getattr(transformers, f"BertFor{kind}")(config)


def trainer(
    folder: Path, *callbacks: Any, model: Any = None, kind: type = InOrder, **options: Any
) -> Any:
    model = model or bert()
    beside = {
        name: options.pop(name)
        for name in ("train_dataset", "eval_dataset", "compute_metrics", "compute_loss_func")
        if name in options
    }
    beside = {"train_dataset": samples(40, 1), "eval_dataset": samples(30, 2), **beside}
    options = {"eval_strategy": "epoch", "save_strategy": "no", "num_train_epochs": 2, **options}
    options = {"per_device_train_batch_size": 16, **options}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    arguments = transformers.TrainingArguments(
        str(folder / "trainer"),
        per_device_eval_batch_size=8,
        max_grad_norm=0,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        **options,
    )
    return kind(
        model, arguments, callbacks=[*callbacks], optimizers=(optimizer, constant), **beside
    )


def callback(run: Path | None = None, **options: Any) -> MonitorCallback:
    return MonitorCallback(pm.MulticlassMetrics(LABELS, ignore_index=-100), run, **options)


def trained(epochs: int, accumulate: int = 1, **options: Any) -> pm.Monitor:
    """The same without a trainer."""
    model = bert()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    metrics = pm.MulticlassMetrics(LABELS, ignore_index=-100)
    monitor = pm.Monitor(metrics, progress=False, **options)
    monitor.attach(model, optimizer=optimizer)
    train = torch.utils.data.DataLoader(samples(40, 1), 16)
    val = torch.utils.data.DataLoader(samples(30, 2), 8)
    for _ in range(epochs):
        model.train()
        for batch in monitor.train(train):
            model(**batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        model.eval()
        with torch.no_grad():
            for batch in monitor.validate(val):
                model(**batch)
        monitor.end_epoch()
        if monitor.should_stop:
            break
    return monitor


def counts(monitor: pm.Monitor) -> dict[str, list[list[int]]]:
    assert monitor.faults.all() == []
    return {name: s.confusion.tolist() for name, s in monitor.scores.splits.items()}


def matrix(model: Any, data: list[dict[str, torch.Tensor]], tuples: bool = False) -> Any:
    """Counts of what a model answers, by indexing."""
    batch = default_collate(data)
    with torch.no_grad():
        logits = model.eval()(**{**batch, "labels": None}, return_dict=True).logits
    kept = batch["labels"] != -100
    found = torch.zeros(LABELS, LABELS, dtype=torch.int64)
    places = batch["labels"][kept], logits.argmax(-1)[kept]
    return found.index_put_(places, torch.tensor(1), accumulate=True).tolist()


def test_the_counts_are_those_of_a_plain_loop(tmp_path: Path) -> None:
    watched = callback()
    trainer(tmp_path, watched).train()
    plain = trained(2)
    monitor = watched.monitor
    assert counts(monitor) == counts(plain)
    assert monitor.scores.counts == plain.scores.counts
    for name in ("train/accuracy", "val/accuracy", "val/f1/macro"):
        assert monitor.history[name] == plain.history[name]
    for name in ("train/loss", "val/loss"):
        assert monitor.history[name] == pytest.approx(plain.history[name], rel=1e-6)


def test_weights_are_those_without_the_callback(tmp_path: Path) -> None:
    with_us, plain = bert(), bert()
    trainer(tmp_path, callback(), model=with_us).train()
    trainer(tmp_path, model=plain).train()
    for one, other in zip(with_us.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other)


def own_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(outputs.logits.view(-1, LABELS), labels.view(-1))


class OwnLoss(InOrder):
    """Takes the labels out and computes the loss itself, as many do."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, **more: Any
    ) -> Any:
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = own_loss(outputs, labels)
        return (loss, outputs) if return_outputs else loss


WAYS: dict[str, dict[str, Any]] = {
    "labels in the call": {},
    "smoothed labels": {"label_smoothing_factor": 0.1},
    "a loss function": {"compute_loss_func": own_loss},
    "a compute_loss": {"kind": OwnLoss},
    "tuples": {"return_dict": False},
    "accumulated gradients": {"gradient_accumulation_steps": 2},
}


@pytest.mark.parametrize("tokens", [False, True], ids=["sequences", "tokens"])
@pytest.mark.parametrize("way", WAYS)
def test_labels_are_found_however_the_loss_is_computed(
    way: str, tokens: bool, tmp_path: Path
) -> None:
    options = dict(WAYS[way])
    form = {"return_dict": options.pop("return_dict")} if "return_dict" in options else {}
    model = bert("TokenClassification" if tokens else "SequenceClassification", **form)
    train, val = samples(40, 1, tokens), samples(30, 2, tokens)
    watched = callback()
    trainer(
        tmp_path, watched, model=model, train_dataset=train, eval_dataset=val, **options
    ).train()
    found = counts(watched.monitor)
    assert found["val"] == matrix(model, val)
    labels = torch.stack([sample["labels"] for sample in train])
    rows = torch.bincount(labels[labels != -100], minlength=LABELS)
    assert [sum(row) for row in found["train"]] == rows.tolist()
    steps = 2 if "accumulation" in str(options) else 3
    assert watched.monitor.scores.counts["train_steps_cumulative"] == 2 * steps


def of_items(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    flat = outputs.logits.view(-1, LABELS), labels.view(-1)
    return torch.nn.functional.cross_entropy(*flat, reduction="sum") / num_items_in_batch


LOSSES: dict[str, dict[str, Any]] = {
    **{way: options for way, options in WAYS.items() if "accumulated" not in way},
    "a loss function of the items": {"compute_loss_func": of_items},
}


@pytest.mark.parametrize("accumulate", [1, 2, 4])  # of 3 batches, the last of which is smaller
@pytest.mark.parametrize("tokens", [False, True], ids=["sequences", "tokens"])
@pytest.mark.parametrize("way", LOSSES)
def test_the_loss_is_the_mean_over_all_labels_however_batches_are_accumulated(
    way: str, tokens: bool, accumulate: int, tmp_path: Path
) -> None:
    options = dict(LOSSES[way])
    form = {"return_dict": options.pop("return_dict")} if "return_dict" in options else {}
    model = bert("TokenClassification" if tokens else "SequenceClassification", **form)
    answers: list[torch.Tensor] = []

    def keep(model: Any, given: Any, output: Any) -> None:
        if model.training:
            answers.append(output.detach().reshape(-1, LABELS))

    model.classifier.register_forward_hook(keep)
    data = samples(40, 1, tokens)
    watched = callback()
    options |= {"gradient_accumulation_steps": accumulate, "eval_strategy": "no"}
    options["num_train_epochs"] = 1
    trainer(tmp_path, watched, model=model, train_dataset=data, **options).train()
    labels = torch.stack([sample["labels"] for sample in data]).reshape(-1)
    smoothing = options.get("label_smoothing_factor", 0.0)
    expected = torch.nn.functional.cross_entropy(
        torch.cat(answers), labels, label_smoothing=smoothing
    )
    assert watched.monitor.faults.all() == []
    assert watched.monitor.history["train/loss"] == pytest.approx([expected.item()], rel=1e-5)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_the_loss_is_that_which_the_trainer_logs(accumulate: int, tmp_path: Path) -> None:
    watched = callback()
    hugging = trainer(
        tmp_path,
        watched,
        compute_loss_func=of_items,
        gradient_accumulation_steps=accumulate,
        num_train_epochs=1,
        logging_steps=1,
        eval_strategy="no",
    )
    hugging.train()
    logged = [line["loss"] for line in hugging.state.log_history if "loss" in line]
    rows = {2: [32, 8], 4: [40]}[accumulate]
    mean = sum(loss * n for loss, n in zip(logged, rows, strict=True)) / 40
    assert watched.monitor.history["train/loss"] == pytest.approx([mean], rel=1e-4)


def test_a_loss_that_passes_over_the_number_of_items_is_a_mean_of_its_batch(
    tmp_path: Path,
) -> None:
    model = bert()
    model.num_labels = model.config.num_labels = 1
    model.classifier = torch.nn.Linear(16, 1)
    data = [{**s, "labels": s["labels"].float()} for s in samples(40, 1)]
    watched = MonitorCallback(pm.RegressionMetrics(), preds=lambda output: output.logits[:, 0])
    options = {"gradient_accumulation_steps": 4, "num_train_epochs": 1, "eval_strategy": "no"}
    trainer(tmp_path, watched, model=model, train_dataset=data, **options).train()
    scores = watched.monitor.scores
    assert scores["train/loss"].value == pytest.approx(scores["train/mse"].value, rel=1e-5)


def gpt() -> Any:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=WORDS,
        n_positions=LENGTH,
        n_embd=16,
        n_layer=2,
        n_head=2,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    return transformers.GPT2LMHeadModel(config)


def texts(rows: int, seed: int) -> list[dict[str, torch.Tensor]]:
    found = samples(rows, seed)
    for text in found:
        text["labels"] = text["input_ids"].masked_fill(text["attention_mask"] == 0, -100)
    return found


def test_the_loss_of_a_causal_model_is_the_mean_over_its_next_tokens(tmp_path: Path) -> None:
    watched = MonitorCallback(pm.MulticlassMetrics(WORDS, ignore_index=-100))
    data = texts(40, 1)
    options = {"gradient_accumulation_steps": 4, "num_train_epochs": 1, "eval_strategy": "no"}
    model = gpt()
    with torch.no_grad():
        loss = model(**default_collate(data)).loss.item()  # before the only step
    trainer(tmp_path, watched, model=model, train_dataset=data, **options).train()
    assert watched.monitor.faults.all() == []
    assert watched.monitor.history["train/loss"] == pytest.approx([loss], rel=1e-5)


def test_a_causal_model_is_counted_by_its_next_tokens(tmp_path: Path) -> None:
    model = gpt()
    data = texts(20, 3)
    watched = MonitorCallback(pm.MulticlassMetrics(WORDS, ignore_index=-100))
    metrics = trainer(tmp_path, watched, model=model, eval_dataset=data).evaluate()
    scores = watched.monitor.scores
    tokens = int(sum((text["labels"][1:] != -100).sum() for text in data))
    assert int(scores.splits["val"].confusion.sum()) == tokens
    assert watched.monitor.faults.all() == []
    batch = default_collate(data)
    with torch.no_grad():
        loss = model(**batch).loss.item()  # the mean over all tokens
    assert scores["val/nll"].value == pytest.approx(loss, rel=1e-5)
    assert metrics["eval_perplexity"] == pytest.approx(torch.tensor(loss).exp().item(), rel=1e-5)


def test_data_sets_of_several_names_are_splits(tmp_path: Path) -> None:
    sets = {"val": samples(30, 2), "other": samples(20, 3)}
    watched = callback()
    model = bert()
    trainer(tmp_path, watched, model=model, eval_dataset=sets).train()
    assert watched.monitor.epoch == 2
    found = counts(watched.monitor)
    assert found["val"] == matrix(model, sets["val"])
    assert found["other"] == matrix(model, sets["other"])


@pytest.mark.parametrize(("steps", "epochs"), [(2, 3), (3, 2), (5, 2)])
def test_an_evaluation_by_steps_closes_an_epoch(steps: int, epochs: int, tmp_path: Path) -> None:
    watched = callback(tmp_path / "run")
    trainer(tmp_path, watched, eval_strategy="steps", eval_steps=steps).train()
    watched.monitor.close()
    history = pm.read_history(tmp_path / "run")
    assert len(history["val/accuracy"]) == epochs
    assert watched.monitor.by_steps
    assert history.step[-1] == 6


def test_without_evaluation_each_epoch_is_closed(tmp_path: Path) -> None:
    watched = callback()
    trainer(tmp_path, watched, eval_strategy="no").train()
    assert watched.monitor.epoch == 2
    assert watched.monitor.scores["train/accuracy"].n == 40


def test_a_score_chooses_the_best_model_and_its_epoch_is_judged(tmp_path: Path) -> None:
    watched = callback(tmp_path / "run")
    best = {"load_best_model_at_end": True, "metric_for_best_model": "f1/macro"}
    hugging = trainer(tmp_path, watched, save_strategy="epoch", num_train_epochs=3, **best)
    hugging.train()
    values = watched.monitor.history["val/f1/macro"]
    assert hugging.state.best_metric == pytest.approx(max(values))
    watched.monitor.close()
    number = values.index(max(values)) + 1
    judged = [note for note in pm.judge(tmp_path / "run").notes if "Judged epoch" in note]
    assert judged[0].startswith(f"Judged epoch {number} of 3, the best")


def test_early_stopping_stops_the_trainer_where_it_stops_a_plain_loop(tmp_path: Path) -> None:
    def stopping() -> list[Any]:
        return [pm.EarlyStopping("val/accuracy", patience=1, restore_best=True)]

    watched = callback(callbacks=stopping())
    model = bert()
    trainer(tmp_path, watched, model=model, num_train_epochs=20).train()
    plain = trained(20, callbacks=stopping())
    assert plain.epoch < 20
    assert watched.monitor.epoch == plain.epoch
    assert counts(watched.monitor) == counts(plain)
    for one, other in zip(model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(one, other)  # the best weights, again


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ZeroDivisionError("no"), "error: ZeroDivisionError: no"),
        (KeyboardInterrupt(), "interrupted"),
    ],
    ids=["error", "interrupt"],
)
def test_what_ends_the_training_ends_the_run(
    error: BaseException, reason: str, tmp_path: Path
) -> None:
    class Fails(transformers.TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            if state.epoch and state.epoch >= 1:
                raise error

    watched = callback()
    with pytest.raises(type(error)):
        trainer(tmp_path, watched, Fails()).train()
    assert watched.monitor.end_reason == reason
    assert watched.monitor.epoch >= 1


def test_evaluations_and_predictions_behind_the_training_are_parts_of_the_run(
    tmp_path: Path,
) -> None:
    watched = callback(tmp_path / "run")
    hugging = trainer(tmp_path, watched)
    hugging.train()
    hugging.evaluate()
    predicted = hugging.predict(samples(10, 5))
    assert predicted.predictions.shape == (10, LABELS)
    watched.monitor.close()
    notes = pm.judge(tmp_path / "run").notes
    assert any("split val, 30 samples" in note for note in notes)
    assert any("split test, 10 samples" in note for note in notes)
    assert not any("end_epoch" in note for note in notes)


def test_predictions_without_labels_count_nothing(tmp_path: Path) -> None:
    watched = callback()
    unlabelled = [{k: v for k, v in s.items() if k != "labels"} for s in samples(10, 5)]
    trainer(tmp_path, watched).predict(unlabelled)
    assert watched.monitor.faults.all() == []
    assert not watched.monitor.scores.splits


def test_an_evaluation_alone_is_a_run_with_its_verdict(tmp_path: Path) -> None:
    watched = callback(tmp_path / "run")
    metrics = trainer(tmp_path, watched).evaluate()
    assert metrics["eval_accuracy"] == watched.monitor.scores["val/accuracy"].value
    watched.monitor.close()
    assert not any("end_epoch" in note for note in pm.judge(tmp_path / "run").notes)


def test_a_training_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    first = callback(tmp_path / "run")
    trainer(tmp_path, first, save_strategy="epoch", num_train_epochs=3).train()
    first.monitor.close()
    again = callback(tmp_path / "run", if_exists="resume")
    earlier = tmp_path / "trainer" / "checkpoint-6"  # behind epoch 2 of the 3 that are recorded
    trainer(tmp_path, again, num_train_epochs=4).train(resume_from_checkpoint=str(earlier))
    assert again.monitor.epoch == 4
    again.monitor.close()
    assert len(pm.read_history(tmp_path / "run")["val/accuracy"]) == 4
    assert counts(again.monitor) == counts(trained(4))


def test_a_callback_that_is_added_later_counts_a_training_and_refuses_an_evaluation(
    tmp_path: Path,
) -> None:
    watched = callback()
    late = trainer(tmp_path)
    late.add_callback(watched)
    late.train()
    assert counts(watched.monitor) == counts(trained(2))
    too_late = trainer(tmp_path)
    too_late.add_callback(callback())
    with pytest.raises(pm.PtmetricsError, match="callbacks="):
        too_late.evaluate()


def test_an_event_that_no_trainer_has_sent_is_refused_as_any_fault(tmp_path: Path) -> None:
    told = "HookError: callback: expected an event of a Trainer, got one that no Trainer has sent. "
    watched = callback()
    watched.on_init_end(None, None, None)
    faults = watched.monitor.faults.all()
    assert [fault.message[: len(told)] for fault in faults] == [told]
    watched.monitor.close()
    with pytest.raises(pm.PtmetricsError, match=r"^callback: expected an event of a Trainer"):
        callback(on_fault="raise").on_init_end(None, None, None)


class Held(transformers.TrainerCallback):
    """Bytes of all tensors that somebody holds behind the last batch of an evaluation."""

    def __init__(self) -> None:
        self.steps = 0
        self.bytes = 0

    def on_prediction_step(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.steps += 1
        if self.steps < len(more["eval_dataloader"]):
            return
        gc.collect()  # what runs before this one left behind
        storages = {}
        for found in gc.get_objects():
            if type(found) is torch.Tensor:
                storage = found.untyped_storage()
                storages[storage.data_ptr()] = storage.nbytes()
        self.bytes = sum(storages.values())


def held(rows: int, folder: Path, *callbacks: Any, **options: Any) -> int:
    look = Held()
    data = samples(rows, 7, tokens=True)
    before = len(data) * LENGTH * 3 * 8  # the data themselves
    model = bert("TokenClassification")
    trainer(folder, look, *callbacks, model=model, eval_dataset=data, **options).evaluate()
    return look.bytes - before


@pytest.mark.slow
def test_memory_is_flat_in_the_samples_where_compute_metrics_grows(tmp_path: Path) -> None:
    few, many = 32, 160
    ours = [held(rows, tmp_path, callback()) for rows in (few, many)]
    theirs = [
        held(rows, tmp_path, compute_metrics=lambda prediction: {"n": 0.0}) for rows in (few, many)
    ]
    logits = (many - few) * LENGTH * LABELS * 4
    assert theirs[1] - theirs[0] >= logits  # that many bytes of logits, and the labels
    assert ours[1] - ours[0] < logits / 10
