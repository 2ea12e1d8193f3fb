"""A language model: the next character, perplexity, intervals by text.

    python examples/causal_lm.py [RUN_FOLDER]

A small causal transformer reads the help topics that Python brings along, 48 characters at a time.
Called as Hugging Face's models are, it takes the labels and returns logits and loss, so `attach` needs no
criterion; `shift=True` says that each answer is about the next character. Topics of validation are other
topics. Characters of one piece of text are alike, so the piece is the unit of every interval. The profile
"tokens" wants a perplexity of at most 50, which says little of 96 characters: here it is 20. The report
lies in RUN_FOLDER/report.html.
"""

import sys
from pathlib import Path
from pydoc_data.topics import topics

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import ptmetrics as pm

torch.manual_seed(0)
run = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/causal")
LENGTH, CHARACTERS = 48, 96  # printable ASCII, and one for all others


def pieces(texts: list[str]) -> Tensor:
    """Rows of 48 numbers of characters."""
    numbers: list[Tensor] = []
    for text in texts:
        ids = torch.tensor([min(max(ord(letter) - 32, 0), CHARACTERS - 1) for letter in text])
        numbers.extend(torch.split(ids, LENGTH)[:-1])
    return torch.stack(numbers)


class CharacterModel(nn.Module):
    """Two layers that look back only."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Embedding(CHARACTERS, width)
        self.place = nn.Embedding(LENGTH, width)
        layers = [nn.TransformerEncoderLayer(width, 4, 64, 0.0, batch_first=True) for _ in range(2)]
        self.layers = nn.ModuleList(layers)
        self.head = nn.Linear(width, CHARACTERS)

    def forward(self, ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Logits of shape (N, T, characters), and the mean loss of the next ones."""
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
        hidden = self.embed(ids) + self.place.weight
        for layer in self.layers:
            hidden = layer(hidden, src_mask=mask, is_causal=True)
        logits = self.head(hidden)
        loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return {"logits": logits, "loss": loss}


texts = list(topics.values())
train_loader = DataLoader(TensorDataset(pieces(texts[::2])[:1600]), batch_size=32, shuffle=True)
val_loader = DataLoader(TensorDataset(pieces(texts[1::2])[:320]), batch_size=64)
model = CharacterModel()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
wanted = {"extends": "tokens", "perplexity": 20.0}
monitor = pm.Monitor(pm.MulticlassMetrics(CHARACTERS), run=run, profile=wanted)
with monitor.attach(model, optimizer=optimizer, shift=True):
    for _epoch in monitor.epochs(3):
        model.train()
        for (ids,) in monitor.train(train_loader):
            optimizer.zero_grad()
            model(ids, labels=ids)["loss"].backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            for (ids,) in monitor.validate(val_loader):
                model(ids, labels=ids)
        scores = monitor.end_epoch()

verdict = pm.judge(monitor)
print(verdict)
print("Perplexity of a character:", scores["val/perplexity"])
print("Report:", pm.report(monitor, run / "report.html"))
