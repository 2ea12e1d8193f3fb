"""Segmentation: which pixels are ink? Overlap by the profile "pixels", intervals by picture.

    python examples/segmentation.py [RUN_FOLDER]

Scikit-learn's handwritten digits are written on its two photographs: a training picture is a piece of
the temple, a validation picture a piece of the flower, and the digits are others too. So the mask is
known exactly: the pixels where ink covers more than half. A small U-Net finds them. The pixels of a
picture are alike, so the picture is the unit of every interval. The report lies in
RUN_FOLDER/report.html.
"""

import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits, load_sample_images
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import ptmetrics as pm

torch.manual_seed(0)
run = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/segmentation")
digits = torch.tensor(load_digits().images, dtype=torch.float32).unsqueeze(1) / 16
digits = digits[torch.randperm(len(digits))]
photographs = [torch.tensor(image).permute(2, 0, 1) / 255 for image in load_sample_images().images]


def written_on(photograph: Tensor, digits: Tensor) -> TensorDataset:
    """Pictures of 32 × 32 pixels, a digit written in white on each, and their masks."""
    pieces = []
    for _digit in digits:
        top, left = int(torch.randint(390, ())), int(torch.randint(600, ()))
        pieces.append(photograph[:, top : top + 32, left : left + 32])
    ink = nn.functional.interpolate(digits, size=(32, 32), mode="bilinear")
    pictures = torch.stack(pieces) * (1 - 0.7 * ink) + 0.7 * ink
    return TensorDataset(pictures, (ink[:, 0] > 0.5).long())


train_loader = DataLoader(written_on(photographs[0], digits[:300]), batch_size=32, shuffle=True)
val_loader = DataLoader(written_on(photographs[1], digits[300:450]), batch_size=100)


class SmallUNet(nn.Module):
    """One step down, one step up, and what the step down left out."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.coarse = nn.Sequential(
            nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2)
        )
        self.head = nn.Conv2d(24, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of shape (N, 2, height, width)."""
        fine = self.fine(x)
        logits: Tensor = self.head(torch.cat([fine, self.coarse(fine)], dim=1))
        return logits


model = SmallUNet()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
metrics = pm.MulticlassMetrics(2, class_names=("photograph", "ink"), scores=["dice/image"])
monitor = pm.Monitor(metrics, run=run, profile="pixels")
with monitor.attach(model, criterion=criterion, optimizer=optimizer):
    for _epoch in monitor.epochs(6):
        model.train()
        for x, y in monitor.train(train_loader):
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            for x, y in monitor.validate(val_loader):
                criterion(model(x), y)
        scores = monitor.end_epoch()

for name in ("val/mean_iou", "val/f1/macro", "val/dice/image"):
    print(f"{name:<14} {scores[name]}")
verdict = pm.judge(monitor)
print(verdict)
print("Report:", pm.report(monitor, run / "report.html"))
