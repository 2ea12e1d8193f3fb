"""Medicine: missing a case costs most, so the threshold is advised for recall, not left at one half.

    python examples/medical_recall.py [RUN_FOLDER]

Scikit-learn's breast-cancer set: 30 measurements of the cell nuclei of 569 tumours, of which 212 are
malignant. A small network is trained and judged by the profile "recall-first", which wants a recall of
90 %. `pm.advise_threshold` finds the highest threshold that keeps 95 % on new patients, with 95 %
confidence: a promise of just 90 could not be shown on so few. At this threshold the model is judged
again, on tumours that neither the weights nor the threshold have seen. The report lies in
RUN_FOLDER/report.html.
"""

import sys
from pathlib import Path

import torch
from sklearn.datasets import load_breast_cancer
from torch import nn

import ptmetrics as pm

torch.manual_seed(0)
run = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/medical")
tumours = load_breast_cancer()
x = torch.tensor(tumours.data, dtype=torch.float32)
y = torch.tensor(tumours.target == 0, dtype=torch.float32)  # 1: malignant, the case to find
order = torch.randperm(len(y))
train, val, test = order[:129], order[129:329], order[329:]
x = (x - x[train].mean(0)) / x[train].std(0)  # statistics of the training rows alone
names = ("benign", "malignant")

model = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 1))
criterion = nn.BCEWithLogitsLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
monitor = pm.Monitor(
    pm.BinaryMetrics(class_names=names), run=run / "training", profile="recall-first"
)
with monitor.attach(model, criterion=criterion, optimizer=optimizer):
    for _epoch in monitor.epochs(15):
        model.train()
        for rows in torch.split(train[torch.randperm(len(train))], 32):
            optimizer.zero_grad()
            criterion(model(x[rows]).squeeze(1), y[rows]).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            criterion(model(x[val]).squeeze(1), y[val])
at_half = pm.judge(monitor)

advice = pm.advise_threshold(monitor, recall_at_least=0.95)
print(advice)

decided = pm.BinaryMetrics(threshold=advice.probability, class_names=names)
with pm.Monitor(decided, run=run / "decided", profile="recall-first") as last:
    with torch.no_grad():
        last.update(model(x[test]).squeeze(1), y[test], split="test")
    last.end_epoch()
verdict = pm.judge(last, split="test")

print(f"Verdict on validation at a probability of 0.5: {at_half.status}")
print(verdict)
print("Report:", pm.report(last, run / "report.html", split="test"))
