"""Validation rows that training has seen: found before training by an audit, and in the loop by a callback.

    python examples/leakage.py [RUN_FOLDER]

Scikit-learn's handwritten digits, where somebody made a mistake: 20 pictures of validation stand in
the training set too, and 20 more with a little noise, as a picture that was saved again. `pm.audit`
names the pairs; `pm.LeakageCheck` puts what it found into the run, whose verdict is then "invalid",
with the score without these rows. Then the same training without them. The report lies in
RUN_FOLDER/report.html.
"""

import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ptmetrics as pm

torch.manual_seed(0)
run = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/leakage")
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
labels = torch.tensor(digits.target)
order = torch.randperm(len(labels))
train, val = order[:1300], order[1300:]
val_set = TensorDataset(images[val], labels[val])

copies = images[val[:40]].clone()
copies[20:] += 0.02 * torch.randn_like(copies[20:])
spoilt_set = TensorDataset(
    torch.cat([images[train], copies]), torch.cat([labels[train], labels[val[:40]]])
)
clean_set = TensorDataset(images[train], labels[train])


def fit(name: str, train_set: TensorDataset, *callbacks: pm.Callback) -> pm.Monitor:
    """The monitor of a training of eight epochs."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
    monitor = pm.Monitor(pm.MulticlassMetrics(10), run=run / name, callbacks=callbacks)
    with monitor.attach(model, criterion=criterion, optimizer=optimizer):
        for _epoch in monitor.epochs(8):
            model.train()
            for x, y in monitor.train(train_loader):
                optimizer.zero_grad()
                criterion(model(x), y).backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                for x, y in monitor.validate(DataLoader(val_set, batch_size=256)):
                    criterion(model(x), y)
    return monitor


audit = pm.audit(spoilt_set, val_set)  # before training, both sets without augmentation
print(audit.summary())
spoilt = pm.judge(fit("spoilt", spoilt_set, pm.LeakageCheck(audit)))
print(spoilt)

check = pm.LeakageCheck()  # without an audit it looks at what the loaders serve in the first epoch
verdict = pm.judge(fit("clean", clean_set, check))
print("Without the copies:", verdict)
print("Report:", pm.report([run / "spoilt", run / "clean"], run / "report.html"))
