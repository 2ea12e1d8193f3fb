"""Lightning with one callback: handwritten digits, early stopping, a test, and the verdict.

    pip install 'ptmetrics[demo]' lightning
    python examples/lightning_example.py [RUN_FOLDER]

The module is one as it stands in many scripts; the callback counts what it answers.
"""

import sys
from typing import Any

import lightning
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

import ptmetrics as pm
from ptmetrics.integrations.lightning import MonitorCallback


class Digits(lightning.LightningModule):
    """A small convolutional network that tells ten digits apart."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 16, 10),
        )
        self.criterion = nn.CrossEntropyLoss()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """The loss of a batch."""
        images, digits = batch
        return self.criterion(self.model(images), digits)

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        """Likewise."""
        return self.training_step(batch, batch_idx)

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        """Likewise."""
        return self.training_step(batch, batch_idx)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


run = "runs/lightning"
if len(sys.argv) > 1:
    run = sys.argv[1]
torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
dataset = TensorDataset(images, torch.tensor(digits.target))
train_set, val_set, test_set = random_split(dataset, [797, 700, 300])

stopping = pm.EarlyStopping("val/accuracy", patience=3, restore_best=True)
watched = MonitorCallback(pm.MulticlassMetrics(10), run=run, callbacks=[stopping])
trainer = lightning.Trainer(
    max_epochs=8,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    callbacks=[watched],
)
module = Digits()
trainer.fit(
    module, DataLoader(train_set, batch_size=32, shuffle=True), DataLoader(val_set, batch_size=250)
)
trainer.test(module, DataLoader(test_set, batch_size=250), verbose=False)
watched.monitor.close()
print(pm.judge(run))
