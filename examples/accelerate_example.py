"""A loop of Hugging Face's Accelerate, and ptmetrics is dropped in: the lines marked `+`, and two loaders wrapped.

    python examples/accelerate_example.py [RUN_FOLDER]
    torchrun --nproc-per-node 2 examples/accelerate_example.py [RUN_FOLDER]

Needs `pip install accelerate`. Accelerate repeats samples, so that all processes have as many: these
are left out, so that both ways count each of the 1001 rows of validation once.
"""

import sys

import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ptmetrics as pm  # +

accelerator = Accelerator(cpu=not torch.cuda.is_available())
torch.manual_seed(0)
run = sys.argv[1] if len(sys.argv) > 1 else "runs/accelerate"
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
dataset = TensorDataset(images, torch.tensor(digits.target))
train_set, val_set = torch.utils.data.random_split(dataset, [796, 1001])  # no multiple of a batch

model = nn.Sequential(
    nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 16, 10)
)  # fmt: skip
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
model, optimizer, train_loader, val_loader = accelerator.prepare(
    model,
    optimizer,
    DataLoader(train_set, batch_size=32, shuffle=True),
    DataLoader(val_set, batch_size=100),
)
monitor = pm.Monitor(pm.MulticlassMetrics(10), run=run)  # + behind prepare, on every process
monitor.attach(model, criterion=criterion, optimizer=optimizer)  # +

for _ in range(8):
    model.train()
    for x, y in monitor.train(train_loader):
        optimizer.zero_grad()
        accelerator.backward(criterion(model(x), y))
        optimizer.step()
    model.eval()
    with torch.no_grad():
        for x, y in monitor.validate(val_loader):
            criterion(model(x), y)
    scores = monitor.end_epoch()  # +
    if accelerator.is_main_process:
        print(scores)
monitor.close()
accelerator.end_training()
