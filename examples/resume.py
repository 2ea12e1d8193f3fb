"""A training that may be killed at any moment and is started again with the same command.

    python examples/resume.py runs/mine

`if_exists="resume"` goes on with the record; `last.pt`, written whole after every epoch, holds the rest.
An epoch that was cut off is trained again. Data are shuffled by the epoch's number, so that a run which
was killed ends with the weights and scores of one that was not.
"""

import sys
from pathlib import Path

import torch
from torch import nn

import ptmetrics as pm

torch.manual_seed(0)
x = torch.randn(360, 8)
y = (x[:, :3] + 0.5 * torch.randn(360, 3)).argmax(1)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

run = Path(sys.argv[1])
monitor = pm.Monitor(
    pm.MulticlassMetrics(3),
    run=run,
    callbacks=[pm.Checkpoint("val/loss"), pm.EarlyStopping("val/loss", patience=5)],
    if_exists="resume",
)
monitor.attach(model, criterion=criterion, optimizer=optimizer)
last = run / "checkpoints" / "last.pt"
if last.exists():
    stored = torch.load(last, weights_only=True)
    model.load_state_dict(stored["model"])
    optimizer.load_state_dict(stored["optimizer"])
    monitor.load_state_dict(stored["monitor"])

for epoch in monitor.epochs(6):
    model.train()
    order = torch.randperm(300, generator=torch.Generator().manual_seed(epoch))
    for rows in order.view(10, 30):
        optimizer.zero_grad()
        criterion(model(x[rows]), y[rows]).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        criterion(model(x[300:]), y[300:])
