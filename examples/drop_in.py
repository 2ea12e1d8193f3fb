"""A plain PyTorch script with ptmetrics dropped in: the four lines marked `+`.

    python examples/drop_in.py [RUN_FOLDER]

It trains a small network on scikit-learn's handwritten digits. Take the four lines out and it is
the same script: same weights, same losses, bit for bit. Afterwards `ptmetrics report RUN_FOLDER`
gives the verdict.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ptmetrics as pm  # +

torch.manual_seed(0)
run = sys.argv[1] if len(sys.argv) > 1 else "runs/drop-in"
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
dataset = TensorDataset(images, torch.tensor(digits.target))
train_set, val_set = torch.utils.data.random_split(dataset, [797, 1000])
train_loader = DataLoader(train_set, batch_size=32, shuffle=True)
val_loader = DataLoader(val_set, batch_size=250)

model = nn.Sequential(
    nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 16, 10)
)  # fmt: skip
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
monitor = pm.Monitor(pm.MulticlassMetrics(10), run=run)  # +
monitor.attach(model, criterion=criterion, optimizer=optimizer)  # +

for _epoch in range(8):
    model.train()
    for x, y in train_loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        for x, y in val_loader:
            criterion(model(x), y)
    print(monitor.end_epoch())  # +
