"""The accuracy paradox: 98 % accuracy, hardly a fraud found; and the verdict once it is mended.

    python examples/fraud_imbalanced.py [RUN_FOLDER]

Frauds are rare and look much like the rest. Real ones cannot be shipped, so real photographs stand in:
rows are patches of 4 × 4 pixels, 48 numbers each, of scikit-learn's picture of a temple, and one row in
fifty is a patch of its picture of a flower. First a small network is trained until the accuracy looks
splendid: 98 %, at a recall between 10 and 20 %. Then what the findings advise: a larger network, longer,
the loss weighted by class, and a threshold chosen on rows of its own (largest F1). On rows that chose
nothing no finding fails any more; what is left open is how many more frauds it takes to be sure. The
report lies in RUN_FOLDER/report.html.
"""

import sys
from pathlib import Path

import torch
from sklearn.datasets import load_sample_images
from torch import Tensor, nn

import ptmetrics as pm

torch.manual_seed(0)
run = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/fraud")
names = ("usual", "fraud")


def patches(picture: Tensor) -> Tensor:
    """All patches of 4 × 4 pixels, side by side, as rows of 48 numbers."""
    tiles = (picture / 255).unfold(0, 4, 4).unfold(1, 4, 4)
    return tiles.reshape(-1, 48)


temple, flower = (patches(torch.tensor(image)) for image in load_sample_images().images)
frauds = flower[torch.randperm(len(flower))[: len(temple) // 50]]
x = torch.cat([temple, frauds])
y = torch.cat([torch.zeros(len(temple)), torch.ones(len(frauds))])
train, val, test = torch.split(torch.randperm(len(y)), [len(y) - 2 * 5200, 5200, 5200])
x = (x - x[train].mean(0)) / x[train].std(0)


def fit(
    name: str, model: nn.Module, *, epochs: int, lr: float, fraud_weight: float = 1.0
) -> pm.Monitor:
    """Train; the monitor of it."""
    criterion = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(fraud_weight))
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    steps = epochs * len(torch.split(train, 128))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    monitor = pm.Monitor(pm.BinaryMetrics(class_names=names), run=run / name)
    with monitor.attach(model, criterion=criterion, optimizer=optimizer):
        for _epoch in monitor.epochs(epochs):
            model.train()
            for rows in torch.split(train[torch.randperm(len(train))], 128):
                optimizer.zero_grad()
                criterion(model(x[rows]), y[rows]).backward()
                optimizer.step()
                schedule.step()
            model.eval()
            with torch.no_grad():
                criterion(model(x[val]), y[val])
    return monitor


small = nn.Sequential(nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 1), nn.Flatten(0))
quick = fit("quick", small, epochs=10, lr=2e-3)
paradox = pm.judge(quick)
print("Quick:", paradox)

hidden = [nn.Linear(48, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU()]
model = nn.Sequential(*hidden, nn.Linear(128, 1), nn.Flatten(0))
mended = fit("mended", model, epochs=30, lr=3e-3, fraud_weight=10.0)
at_half = pm.judge(mended)
print("Longer and weighted:", at_half)

advice = pm.advise_threshold(mended, beta=1)
decided = pm.BinaryMetrics(threshold=advice.probability, class_names=names)
with pm.Monitor(decided, run=run / "decided") as final, torch.no_grad():
    final.update(model(x[test]), y[test], split="test")
    final.end_epoch()
verdict = pm.judge(final, split="test")
print(f"From a probability of {advice.probability:.2f} on, on new rows:", verdict)
print("Report:", pm.report([run / "quick", run / "mended"], run / "report.html"))
