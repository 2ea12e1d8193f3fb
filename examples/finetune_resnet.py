"""Fine-tune a torchvision ResNet by hand: the head first, then all layers; wrappers, callbacks.

    python examples/finetune_resnet.py [RUN_FOLDER] [--weights glyphs|imagenet]

The task is scikit-learn's handwritten digits: 400 to train on, 500 to validate. The default weights
come from a minute or less of training on printed glyphs, so that nothing is downloaded; `--weights
imagenet` takes torchvision's.
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import ResNet, ResNet18_Weights, resnet18

import ptmetrics as pm
from ptmetrics.finetune.glyphs import CLASS_NAMES, render_glyphs


def main() -> None:
    """Pre-train or load, fine-tune in two phases, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "run", nargs="?", default="runs/resnet-by-hand", help="folder for the record"
    )
    parser.add_argument("--weights", choices=["glyphs", "imagenet"], default="glyphs")
    arguments = parser.parse_args()

    torch.manual_seed(0)
    train_loader, val_loader = digits_loaders()
    if arguments.weights == "imagenet":
        model = resnet18(weights=ResNet18_Weights.IMAGENET1K_V1)
    else:
        model = pretrained_on_glyphs()
    model.fc = nn.Linear(model.fc.in_features, 10)
    criterion = nn.CrossEntropyLoss()

    callbacks = [
        pm.Checkpoint("val/accuracy"),
        pm.EarlyStopping("val/loss", patience=3, restore_best=True),
    ]
    with pm.Monitor(pm.MulticlassMetrics(10), run=arguments.run, callbacks=callbacks) as monitor:
        model.requires_grad_(False)
        model.fc.requires_grad_(True)
        optimizer = torch.optim.AdamW(model.fc.parameters(), lr=3e-3)
        attachment = monitor.attach(model, criterion=criterion, optimizer=optimizer)
        for epoch in monitor.epochs(6):
            if epoch == 2:  # the head has settled: now all layers, more carefully
                attachment.detach()
                model.requires_grad_(True)
                optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
                monitor.attach(model, criterion=criterion, optimizer=optimizer)
            model.train()
            for x, y in monitor.train(train_loader):
                optimizer.zero_grad()
                criterion(model(x), y).backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                for x, y in monitor.validate(val_loader):
                    criterion(model(x), y)

    accuracies = ", ".join(f"{value:.3f}" for value in monitor.history["val/accuracy"])
    print(f"validation accuracy by epoch: {accuracies}\n")
    print(pm.judge(arguments.run))


def digits_loaders() -> tuple[DataLoader[tuple[Tensor, ...]], DataLoader[tuple[Tensor, ...]]]:
    """Handwritten digits as (3, 32, 32) images: 400 to train on, the last 500 to validate."""
    digits = load_digits()
    images = to_model(torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16)
    labels = torch.tensor(digits.target)
    train_set, val_set = (
        TensorDataset(images[:400], labels[:400]),
        TensorDataset(images[-500:], labels[-500:]),
    )
    return DataLoader(train_set, 32, shuffle=True), DataLoader(val_set, 250)


def to_model(gray: Tensor) -> Tensor:
    """Gray images in [0, 1] of any size, shape (N, 1, H, W), as the network takes them."""
    return (interpolate(gray, size=(32, 32), mode="bilinear").expand(-1, 3, -1, -1) - 0.5) / 0.5


def pretrained_on_glyphs() -> ResNet:
    """A ResNet-18 trained for two epochs on 1,500 printed glyphs."""
    images, labels = render_glyphs(1500, 32, seed=0)
    loader = DataLoader(TensorDataset(to_model(images / 255), labels), 64, shuffle=True)
    model = resnet18(num_classes=len(CLASS_NAMES))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    criterion = nn.CrossEntropyLoss()
    for _ in range(2):
        for x, y in loader:
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()
    return model


if __name__ == "__main__":
    main()
