"""Precision first: what is thrown away unread must be spam, and half of it may slip through.

    python examples/spam_precision.py [RUN_FOLDER]

Mail cannot be shipped, so real English that Python brings along stands in: "spam" are the openings of
docstrings of its library, "mail" those of paragraphs of its language reference. Twelve words must do. A
linear model of a bag of words is trained and judged by the profile "precision-first"; then the lowest
threshold that keeps a precision of 95 % with 95 % confidence is advised, and judged on texts that neither
the weights nor the threshold have seen. The report lies in RUN_FOLDER/report.html.
"""

import re
import sys
from importlib import import_module
from inspect import getdoc
from pathlib import Path
from pydoc_data.topics import topics
from zlib import crc32

import torch
from torch import nn

import ptmetrics as pm

torch.manual_seed(0)
run = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/spam")
MODULES = """argparse asyncio calendar collections configparser csv datetime decimal difflib email.message
fractions functools heapq http.client inspect itertools json logging mailbox os pathlib pickle random
shutil smtplib socket sqlite3 statistics string subprocess tarfile threading unittest zipfile"""
WORDS = 4096  # words share so many columns, by a hash


def openings(texts: list[str]) -> list[tuple[str, ...]]:
    """The first twelve words of each, those of four words or more, without repetition."""
    starts = [tuple(re.findall(r"[a-z]+", text.lower())[:12]) for text in texts]
    return sorted({words for words in starts if len(words) > 3})


docstrings: list[str] = []
for name in MODULES.split():
    for thing in vars(import_module(name)).values():
        members = [thing]
        if isinstance(thing, type):
            members.extend(vars(thing).values())
        docstrings.extend(getdoc(member) or "" for member in members if callable(member))
paragraphs = [part for topic in topics.values() for part in topic.split("\n\n")]
spam, mail = openings(docstrings), openings(paragraphs)

texts = spam + mail
y = torch.tensor([1.0] * len(spam) + [0.0] * len(mail))
x = torch.zeros(len(texts), WORDS)
for row, words in enumerate(texts):
    for word in words:
        x[row, crc32(word.encode()) % WORDS] += 1
train, val, test = torch.randperm(len(y)).tensor_split(3)
names = ("mail", "spam")

model = nn.Sequential(nn.Linear(WORDS, 1), nn.Flatten(0))
criterion = nn.BCEWithLogitsLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
metrics = pm.BinaryMetrics(class_names=names)
monitor = pm.Monitor(metrics, run=run / "training", profile="precision-first")
with monitor.attach(model, criterion=criterion, optimizer=optimizer):
    for _epoch in monitor.epochs(6):
        model.train()
        for rows in torch.split(train[torch.randperm(len(train))], 64):
            optimizer.zero_grad()
            criterion(model(x[rows]), y[rows]).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            criterion(model(x[val]), y[val])
at_half = pm.judge(monitor)

advice = pm.advise_threshold(monitor, precision_at_least=0.95)
print(advice)
decided = pm.BinaryMetrics(threshold=advice.probability, class_names=names)
with pm.Monitor(decided, run=run / "decided", profile="precision-first") as last, torch.no_grad():
    last.update(model(x[test]), y[test], split="test")
    last.end_epoch()
verdict = pm.judge(last, split="test")
print(f"Of {len(spam)} and {len(mail)} texts; at a probability of 0.5: {at_half.status}")
print(verdict)
print("Report:", pm.report(last, run / "report.html", split="test"))
