"""Numbers in place of classes: the error in the target's unit, R², and what the mean alone would do.

    python examples/regression.py [RUN_FOLDER]

Scikit-learn's diabetes set: 10 measurements of 442 patients, and how far the disease has gone a year
later (25 to 346). Predicting the mean of the training rows is recorded as a run of its own, and the
trained network is held against it. The profile "regression" wants an R² of 50 %; on 221 patients that
can be neither shown nor excluded, and the verdict says so: undetermined, and why. The report lies in
RUN_FOLDER/report.html.
"""

import sys
from pathlib import Path

import torch
from sklearn.datasets import load_diabetes
from torch import nn

import ptmetrics as pm

torch.manual_seed(0)
run = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/regression")
patients = load_diabetes()
x = torch.tensor(patients.data, dtype=torch.float32)
y = torch.tensor(patients.target, dtype=torch.float32)
order = torch.randperm(len(y))
train, val = order[:221], order[221:]
x = (x - x[train].mean(0)) / x[train].std(0)
mean = y[train].mean()

with pm.Monitor(pm.RegressionMetrics(), run=run / "mean") as baseline:
    baseline.update(mean.expand(len(val)), y[val], split="val")
    of_mean = baseline.end_epoch()

unit = nn.Linear(1, 1).requires_grad_(
    False
)  # back into the target's unit, so that scores are in it
unit.weight.fill_(y[train].std())
unit.bias.fill_(mean)
model = nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 1), unit, nn.Flatten(0))
criterion = nn.MSELoss()
optimizer = torch.optim.AdamW([*model[0].parameters(), *model[2].parameters()], lr=5e-3)
monitor = pm.Monitor(pm.RegressionMetrics(), run=run / "network", profile="regression")
with monitor.attach(model, criterion=criterion, optimizer=optimizer):
    for _epoch in monitor.epochs(20):
        model.train()
        for rows in torch.split(train[torch.randperm(len(train))], 32):
            optimizer.zero_grad()
            criterion(model(x[rows]), y[rows]).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            criterion(model(x[val]), y[val])
        scores = monitor.end_epoch()

for name in ("val/mae", "val/rmse", "val/r2"):
    print(f"{name:<9} network {scores[name]}   mean alone {of_mean[name]}")
verdict = pm.judge(monitor, baseline=baseline)
print(verdict)
print("Report:", pm.report(monitor, run / "report.html", baseline=baseline))
