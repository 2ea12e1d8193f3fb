"""Several ranks train together, and ptmetrics is dropped in: the four lines marked `+`, and two loaders wrapped.

    torchrun --nproc-per-node 2 examples/ddp.py [RUN_FOLDER]

No line of them knows of ranks. The scores are of all ranks: each validates its share, the samples
that the sampler repeats are left out, and rank 0 records the run. `ptmetrics report RUN_FOLDER`
gives the verdict.
"""

import sys

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

import ptmetrics as pm  # +

dist.init_process_group("gloo")
torch.manual_seed(0)
run = sys.argv[1] if len(sys.argv) > 1 else "runs/ddp"
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
dataset = TensorDataset(images, torch.tensor(digits.target))
train_set, val_set = torch.utils.data.random_split(dataset, [796, 1001])  # odd: one row of padding
sampler: DistributedSampler[object] = DistributedSampler(train_set)
train_loader = DataLoader(train_set, batch_size=32, sampler=sampler)
val_loader = DataLoader(val_set, batch_size=250, sampler=DistributedSampler(val_set, shuffle=False))

network = nn.Sequential(
    nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 16, 10)
)  # fmt: skip
model: nn.Module = DistributedDataParallel(network)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
monitor = pm.Monitor(pm.MulticlassMetrics(10), run=run)  # +
monitor.attach(model, criterion=criterion, optimizer=optimizer)  # +

for epoch in range(8):
    sampler.set_epoch(epoch)
    model.train()
    for x, y in monitor.train(train_loader):
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        for x, y in monitor.validate(val_loader):
            criterion(model(x), y)
    scores = monitor.end_epoch()  # +
    if dist.get_rank() == 0:
        print(scores)
dist.destroy_process_group()
