"""Logs that real libraries write, read and judged: `real_logs.py FOLDER [LIBRARY…]`.

What is expected was written down before the runs. Validation has 200 rows. "easy" labels follow the
sign of a sum, so that a linear model is right in nearly all; "random" ones follow nothing, so that
0.85 is out of reach.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import ptmetrics as pm
from ptmetrics.record.reader import read_run

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["KERAS_BACKEND"] = "torch"
N = 200


class Expected(NamedTuple):
    """What a log must be read as.

    Attributes:
        epochs: The epoch of each row that counts, from 0.
        score: The score that is looked at.
        rows: In how many rows it is a number.
        accuracy: The state of the criterion of accuracy when n is given: "met", "failed"; empty
            where there is none.
        status: The verdict when n is given.
        note: Words that the notes hold.
    """

    epochs: list[int]
    score: str
    rows: int
    accuracy: str
    status: str
    note: str = ""


def each(epochs: int, times: int = 1) -> list[int]:
    """Each epoch, as often as it was validated."""
    return [epoch for epoch in range(epochs) for _ in range(times)]


OPEN = "undetermined"  # precision and recall are in none of these logs
BAD = "not ready"
ACC = "val/accuracy"
EXPECTED = {
    "transformers": {
        "epochs_easy": Expected(each(3), ACC, 3, "met", OPEN),
        "epochs_random": Expected(each(3), ACC, 3, "failed", BAD),
        "twice_an_epoch": Expected(each(3, 2), ACC, 6, "met", OPEN, "(evaluation 6 of 6)"),
        "best_at_end": Expected(each(4), ACC, 4, "met", OPEN, "the best by its own checkpoint"),
        "before_training": Expected(each(3), ACC, 3, "met", OPEN, "before training stands apart"),
        "two_sets": Expected(each(2), "val/first_accuracy", 2, "", OPEN),
        "training_only": Expected(each(2), "train/loss", 2, "", "invalid"),
        "tensorboard": Expected(each(3), ACC, 3, "met", OPEN),
    },
    "lightning": {
        "epochs_easy": Expected(each(3), ACC, 3, "met", OPEN),
        "epochs_random": Expected(each(3), ACC, 3, "failed", BAD),
        "twice_an_epoch": Expected(each(3, 2), ACC, 6, "met", OPEN, "(evaluation 6 of 6)"),
        "every_second_epoch": Expected(each(5), ACC, 2, "met", OPEN, "trained on after the last"),
    },
    "keras": {
        "csv_easy": Expected(each(4), ACC, 4, "met", OPEN),
        "csv_random": Expected(each(4), ACC, 4, "failed", BAD),
        "csv_appended": Expected(each(3), ACC, 3, "met", OPEN, "The file holds 2 runs"),
        "csv_every_second_epoch": Expected(each(4), ACC, 2, "met", OPEN),
        "history": Expected(each(4), ACC, 4, "met", OPEN),
    },
    "fastai": {
        "csv_easy": Expected(each(3), ACC, 3, "met", OPEN, "Taken as val's"),
    },
    "timm": {
        "summary": Expected(each(3), ACC, 3, "met", OPEN, "Taken as percentages"),
    },
    "sentence_transformers": {
        # Expected beforehand was the name "cosine_accuracy"; the library writes "accuracy_cosine".
        "evaluator": Expected(each(2, 2), "val/accuracy_cosine", 4, "", OPEN),
    },
    "torch": {
        "tensorboard": Expected(each(3), ACC, 3, "met", OPEN),
    },
}


def points(n: int, labels: str, seed: int) -> tuple[Any, Any]:
    """Rows and their labels."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)).astype(np.float32)
    y = (x.sum(1) > 0).astype(np.int64)
    if labels == "random":
        y = rng.integers(0, 2, n)
    return x, y


TRAIN_ROWS = 512


OPTIONS: dict[str, dict[str, Any]] = {
    "twice_an_epoch": {"eval_strategy": "steps", "eval_steps": TRAIN_ROWS // 16 // 2},
    "best_at_end": {
        "save_strategy": "epoch",
        "load_best_model_at_end": True,
        "metric_for_best_model": "accuracy",
    },
    "before_training": {"eval_on_start": True},
    "training_only": {"eval_strategy": "no"},
    "tensorboard": {"report_to": ["tensorboard"]},
}


def transformers(folder: Path, name: str) -> Path:
    """A run of the Trainer."""
    import torch
    from transformers import Trainer, TrainingArguments

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = torch.nn.Linear(4, 2)

        def forward(self, inputs: Any, labels: Any) -> dict[str, Any]:
            preds = self.net(inputs)
            return {"loss": torch.nn.functional.cross_entropy(preds, labels), "logits": preds}

    def dataset(n: int, seed: int) -> list[dict[str, Any]]:
        x, y = points(n, "random" if name.endswith("random") else "easy", seed)
        return [{"inputs": a, "labels": b} for a, b in zip(x, y, strict=True)]

    epochs = {"best_at_end": 4, "two_sets": 2, "training_only": 2}.get(name, 3)
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / name / "events")
    options = {"eval_strategy": "epoch", "save_strategy": "no", **OPTIONS.get(name, {})}
    evaluated: Any = dataset(N, 2)
    if name == "two_sets":
        evaluated = {"first": dataset(N, 2), "second": dataset(N, 3)}
    arguments = TrainingArguments(
        output_dir=str(folder / name),
        num_train_epochs=epochs,
        per_device_train_batch_size=16,
        learning_rate=0.05,
        logging_steps=8,
        use_cpu=True,
        disable_tqdm=True,
        **{"report_to": [], **options},
    )
    trainer = Trainer(
        Model(),
        arguments,
        train_dataset=dataset(TRAIN_ROWS, 1),
        eval_dataset=evaluated,
        compute_metrics=lambda e: {
            "accuracy": float((e.predictions.argmax(1) == e.label_ids).mean())
        },
    )
    trainer.train()
    if name == "tensorboard":
        return folder / name / "events"
    trainer.state.save_to_json(str(folder / name / "trainer_state.json"))
    return folder / name / "trainer_state.json"


def lightning(folder: Path, name: str) -> Path:
    """A run of Lightning with its CSVLogger."""
    import lightning as pl
    import torch
    from lightning.pytorch.loggers import CSVLogger

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = torch.nn.Linear(4, 2)

        def step(self, batch: Any, split: str) -> Any:
            preds = self.net(batch[0])
            loss = torch.nn.functional.cross_entropy(preds, batch[1])
            self.log(f"{split}_loss", loss, on_step=split == "train", on_epoch=True)
            hits = (preds.argmax(1) == batch[1]).float().mean()
            self.log(f"{split}_acc", hits, on_step=False, on_epoch=True)
            return loss

        def training_step(self, batch: Any, index: int) -> Any:
            return self.step(batch, "train")

        def validation_step(self, batch: Any, index: int) -> None:
            self.step(batch, "val")

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=0.05)

    def loader(n: int, seed: int) -> Any:
        x, y = points(n, "random" if name.endswith("random") else "easy", seed)
        rows = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y))
        return torch.utils.data.DataLoader(rows, 16)

    options: dict[str, Any] = {"max_epochs": 3}
    if name == "twice_an_epoch":
        options.update(val_check_interval=0.5)
    if name == "every_second_epoch":
        options.update(max_epochs=5, check_val_every_n_epoch=2)
    trainer = pl.Trainer(
        logger=CSVLogger(folder, name=name, version=""),
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=8,
        num_sanity_val_steps=0,
        **options,
    )
    trainer.fit(Module(), loader(TRAIN_ROWS, 1), loader(N, 2))
    return folder / name / "metrics.csv"


def keras(folder: Path, name: str) -> Path:
    """A run of Keras with its CSVLogger, or its History as JSON."""
    import keras as k

    labels = "random" if name.endswith("random") else "easy"
    path = folder / f"{name}.csv"
    history: Any = None
    runs = [4]
    if name == "csv_appended":
        runs = [4, 3]
    for epochs in runs:
        k.utils.set_random_seed(0)
        model = k.Sequential([k.layers.Input((4,)), k.layers.Dense(2, activation="softmax")])
        model.compile(
            k.optimizers.Adam(0.05), "sparse_categorical_crossentropy", metrics=["accuracy"]
        )
        history = model.fit(
            *points(TRAIN_ROWS, labels, 1),
            epochs=epochs,
            batch_size=16,
            validation_data=points(N, labels, 2),
            validation_freq=2 if name == "csv_every_second_epoch" else 1,
            callbacks=[k.callbacks.CSVLogger(str(path), append=epochs != runs[0])],
            verbose=0,
        )
    if name == "history":
        path = folder / "history.json"
        path.write_text(json.dumps(history.history))
    return path


def fastai(folder: Path, name: str) -> Path:
    """A run of fastai with its CSVLogger."""
    import torch
    from fastai.callback.progress import CSVLogger
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.learner import Learner
    from fastai.metrics import accuracy, error_rate

    def loader(n: int, seed: int) -> Any:
        x, y = points(n, "easy", seed)
        rows = list(zip(torch.tensor(x), torch.tensor(y), strict=True))
        return DataLoader(rows, bs=16)

    loaders = DataLoaders(loader(TRAIN_ROWS, 1), loader(N, 2))
    learner = Learner(
        loaders,
        torch.nn.Linear(4, 2),
        loss_func=torch.nn.functional.cross_entropy,
        metrics=[accuracy, error_rate],
        path=folder,
        cbs=CSVLogger(fname=f"{name}.csv"),
    )
    with learner.no_bar(), learner.no_logging():
        learner.fit(3, lr=0.05)
    return folder / f"{name}.csv"


def fitted(epochs: int) -> list[tuple[float, float, float]]:
    """Losses of training and validation, and accuracy, of a plain loop."""
    import torch

    torch.manual_seed(0)
    net = torch.nn.Linear(4, 2)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    x, y = map(torch.tensor, points(TRAIN_ROWS, "easy", 1))
    val_x, val_y = map(torch.tensor, points(N, "easy", 2))
    told = []
    for _ in range(epochs):
        losses = []
        for start in range(0, TRAIN_ROWS, 16):
            loss = torch.nn.functional.cross_entropy(
                net(x[start : start + 16]), y[start : start + 16]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        with torch.no_grad():
            preds = net(val_x)
            val_loss = torch.nn.functional.cross_entropy(preds, val_y).item()
            right = (preds.argmax(1) == val_y).double().mean().item()
        told.append((float(np.mean(losses)), val_loss, right))
    return told


def timm(folder: Path, name: str) -> Path:
    """The summary that timm's train.py writes."""
    from timm.utils import update_summary

    path = folder / f"{name}.csv"
    for epoch, (loss, val_loss, right) in enumerate(fitted(3)):
        update_summary(
            epoch,
            {"loss": loss},
            {"loss": val_loss, "top1": 100 * right, "top5": 100.0},
            path,
            lr=0.05,
            write_header=epoch == 0,
        )
    return path


def sentence_transformers(folder: Path, name: str) -> Path:
    """What an evaluator writes, of a model that embeds numbers as they are."""
    from sentence_transformers.evaluation import TripletEvaluator

    rng = np.random.default_rng(0)
    vectors = {str(i): rng.normal(size=8) for i in range(3 * N)}

    class Card:
        @staticmethod
        def set_evaluation_metrics(*_: Any) -> None:
            """Not kept."""

    class Model:
        model_card_data = Card
        similarity_fn_name = "cosine"
        truncate_dim = None

        def encode(self, sentences: list[str], **_: Any) -> Any:
            return np.array([vectors[text] for text in sentences], dtype=np.float32)

        encode_document = encode
        encode_query = encode

        @staticmethod
        def similarity(*_: Any) -> None:
            """Not asked for."""

    names = [str(i) for i in range(3 * N)]
    evaluator = TripletEvaluator(
        names[:N], names[N : 2 * N], names[2 * N :], name=name, main_similarity_function="cosine"
    )
    (folder / name).mkdir()
    for epoch in range(2):
        for steps in (50, -1):
            evaluator(Model(), output_path=str(folder / name), epoch=epoch, steps=steps)
    (path,) = (folder / name).glob("*.csv")
    return path


def torch(folder: Path, name: str) -> Path:
    """A plain loop with PyTorch's SummaryWriter."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / name)) as writer:
        for epoch, (loss, val_loss, right) in enumerate(fitted(3)):
            writer.add_scalar("Loss/train", loss, epoch)
            writer.add_scalar("Loss/val", val_loss, epoch)
            writer.add_scalar("Accuracy/val", right, epoch)
    return folder / name


LIBRARIES: dict[str, Callable[[Path, str], Path]] = {
    "transformers": transformers,
    "lightning": lightning,
    "keras": keras,
    "fastai": fastai,
    "timm": timm,
    "sentence_transformers": sentence_transformers,
    "torch": torch,
}


def wrong(path: Path, expected: Expected) -> list[str]:
    """What of a log is not as expected; nothing where all is."""
    history = pm.read_history(path)
    verdict = pm.judge(path, n=N)
    values = [value for value in history[expected.score] if not np.isnan(value)]
    states = {item.name: item.state for item in verdict.criteria}
    notes = "\n".join(verdict.notes)
    told = {
        "epochs": (history.epoch, expected.epochs),
        "rows": (len(values), expected.rows),
        "status": (verdict.status, expected.status),
    }
    if expected.accuracy:
        told["accuracy"] = (states.get("accuracy"), expected.accuracy)
    if expected.note:
        told["note"] = (expected.note in notes, True)
    found = read_run(path).header["logged"].get("sizes", {}).get("val")
    if found is not None:
        told["n divides"] = (N % found, 0)
    return [
        f"{what}: expected {right}, got {got}"
        for what, (got, right) in told.items()
        if got != right
    ]


def main(folder: Path, libraries: list[str]) -> int:
    """Run the libraries, and print which of their logs are as expected."""
    fallen = 0
    for library in libraries or list(LIBRARIES):
        for name, expected in EXPECTED[library].items():
            (folder / library).mkdir(parents=True, exist_ok=True)
            path = LIBRARIES[library](folder / library, name)
            found = wrong(path, expected)
            fallen += bool(found)
            n = read_run(path).header["logged"].get("sizes", {}).get("val", "not told")
            told = "; ".join(found) or "as expected"
            sys.stdout.write(f"{library}/{name}: n {n}; {told}\n")
            sys.stdout.flush()
    return fallen


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
