"""Train a tiny model with a real library and leave its own log: `write_logs.py FOLDER lightning|transformers|keras`."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["KERAS_BACKEND"] = "torch"


def points() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    x = torch.randn(64, 4)
    return x, (x.sum(1) > 0).long()


def lightning(folder: Path) -> None:
    import lightning
    from lightning.pytorch.loggers import CSVLogger

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(4, 2)

        def step(self, batch: Any, split: str) -> torch.Tensor:
            preds = self.net(batch[0])
            loss = nn.functional.cross_entropy(preds, batch[1])
            self.log(f"{split}_loss", loss, on_step=split == "train", on_epoch=True)
            hits = (preds.argmax(1) == batch[1]).float().mean()
            self.log(f"{split}_acc", hits, on_step=False, on_epoch=True)
            return loss

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            return self.step(batch, "train")

        def validation_step(self, batch: Any, index: int) -> None:
            self.step(batch, "val")

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*points()), 16)
    trainer = lightning.Trainer(
        max_epochs=3,
        logger=CSVLogger(folder, name="", version=""),
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=2,
    )
    trainer.fit(Module(), loader, loader)
    (folder / "metrics.csv").rename(folder / "lightning_metrics.csv")


def transformers(folder: Path) -> None:
    from transformers import Trainer, TrainingArguments

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(4, 2)

        def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            preds = self.net(inputs)
            return {"loss": nn.functional.cross_entropy(preds, labels), "logits": preds}

    data = [{"inputs": a, "labels": b} for a, b in zip(*points(), strict=True)]
    options = TrainingArguments(
        output_dir=str(folder / "checkpoints"),
        num_train_epochs=3,
        per_device_train_batch_size=16,
        eval_strategy="epoch",
        save_strategy="no",
        logging_steps=2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(
        Model(),
        options,
        train_dataset=data,
        eval_dataset=data,
        compute_metrics=lambda e: {
            "accuracy": float((e.predictions.argmax(1) == e.label_ids).mean())
        },
    )
    trainer.train()
    trainer.state.save_to_json(str(folder / "hf_trainer_state.json"))


def keras(folder: Path) -> None:
    import keras

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.layers.Input((4,)), keras.layers.Dense(2, activation="softmax")]
    )
    model.compile(
        keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    x, y = (tensor.numpy() for tensor in points())
    logger = keras.callbacks.CSVLogger(str(folder / "keras_log.csv"))
    history = model.fit(
        x, y, epochs=3, batch_size=16, validation_data=(x, y), callbacks=[logger], verbose=0
    )
    (folder / "keras_history.json").write_text(json.dumps(history.history) + "\n")


if __name__ == "__main__":
    write = {"lightning": lightning, "transformers": transformers, "keras": keras}[sys.argv[2]]
    write(Path(sys.argv[1]))
