"""The Trainer of Hugging Face with one callback: is a line Python, or English about Python?

    pip install ptmetrics transformers accelerate
    python examples/huggingface_example.py [RUN_FOLDER]

The lines are those of Python's own library, of code (0) and of documentation (1). A small BERT with
random weights reads their bytes. Lines of one module are all for training or all for validation.
"""

import ast
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

import ptmetrics as pm
from ptmetrics.integrations.transformers import MonitorCallback

LONGEST = 32  # bytes of a line that are read
TRAIN = ("argparse", "difflib", "inspect", "mailbox")
VAL = ("optparse", "statistics", "textwrap", "zipfile")


def lines_of(module: str) -> list[tuple[str, int]]:
    """Lines of a module of Python's library, and whether they are documentation; each once."""
    path = Path(sysconfig.get_path("stdlib")) / f"{module}.py"
    if not path.exists():  # in some versions it is a package
        path = path.with_suffix("") / "__init__.py"
    source = path.read_text(encoding="utf-8")
    documented: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            documented.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    found = {}
    for number, line in enumerate(source.splitlines(), 1):
        text = line.strip().strip('"').strip()
        if len(text) >= 12 and not text.startswith(("#", ">>>")):
            found[text] = int(number in documented)
    return list(found.items())


def samples(modules: tuple[str, ...]) -> list[dict[str, Any]]:
    """The bytes of each line, and its label."""
    found = []
    for module in modules:
        for text, label in lines_of(module):
            found.append({"input_ids": list(text.encode())[:LONGEST], "labels": label})
    return found


def collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Fill up a batch to its longest line."""
    rows = [torch.tensor(sample["input_ids"]) for sample in batch]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    labels = torch.tensor([sample["labels"] for sample in batch])
    return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": labels}


run = "runs/huggingface"
if len(sys.argv) > 1:
    run = sys.argv[1]
torch.manual_seed(0)
model = BertForSequenceClassification(
    BertConfig(
        vocab_size=256,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=LONGEST,
    )
)
watched = MonitorCallback(pm.MulticlassMetrics(2, class_names=["code", "text"]), run=run)
with tempfile.TemporaryDirectory() as folder:
    trainer = Trainer(
        model,
        TrainingArguments(
            folder,
            num_train_epochs=3,
            learning_rate=3e-3,
            per_device_train_batch_size=64,
            per_device_eval_batch_size=256,
            eval_strategy="epoch",
            save_strategy="epoch",
            load_best_model_at_end=True,
            metric_for_best_model="f1/macro",  # by the callback: there is no compute_metrics
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        ),
        data_collator=collate,
        train_dataset=samples(TRAIN),
        eval_dataset=samples(VAL),
        callbacks=[watched],
    )
    trainer.train()
watched.monitor.close()
print(pm.judge(run))
