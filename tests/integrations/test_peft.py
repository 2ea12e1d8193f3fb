"""Models that PEFT has adapted: in the Trainer, in Lightning and in a plain loop."""

from pathlib import Path
from typing import Any

import pytest
import torch
from plain_loop import ROWS, loader, net
from torch import nn

import ptmetrics as pm

peft = pytest.importorskip("peft")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def adapted() -> nn.Module:
    """A plain model of which two layers are adapted."""
    torch.manual_seed(0)
    return peft.get_peft_model(net(), peft.LoraConfig(r=2, target_modules=["0", "2"]))


def matrix(model: nn.Module, rows: int, seed: int) -> list[list[int]]:
    x, y = loader(rows, seed).dataset.tensors
    with torch.no_grad():
        answers = model.eval()(x).argmax(1)
    found = torch.zeros(3, 3, dtype=torch.int64)
    return found.index_put_((y, answers), torch.tensor(1), accumulate=True).tolist()


def test_an_adapted_model_in_a_plain_loop() -> None:
    model = adapted()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    monitor = pm.Monitor(pm.MulticlassMetrics(3))
    with monitor.attach(model, criterion=criterion, optimizer=optimizer):
        for x, y in loader(ROWS, 1):
            criterion(model.train()(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            for x, y in loader(30, 2):
                criterion(model.eval()(x), y)
        scores = monitor.end_epoch()
    assert monitor.faults.all() == []
    assert scores["train/accuracy"].n == ROWS
    assert scores.splits["val"].confusion.tolist() == matrix(model, 30, 2)


def test_an_adapted_model_in_lightning() -> None:
    lightning = pytest.importorskip("lightning")
    from test_lightning import Module, callback, trainer

    module = Module()
    assert isinstance(module, lightning.LightningModule)
    module.net = adapted()
    watched = callback()
    trainer(watched, epochs=2).fit(module, loader(ROWS, 1), loader(30, 2))
    assert watched.monitor.faults.all() == []
    assert watched.monitor.scores.splits["val"].confusion.tolist() == matrix(module.net, 30, 2)


@pytest.mark.parametrize("kind", ["SEQ_CLS", "TOKEN_CLS"])
def test_an_adapted_model_in_the_trainer(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    import test_transformers as hugging

    tokens = kind == "TOKEN_CLS"
    base = hugging.bert("TokenClassification" if tokens else "SequenceClassification")
    config = peft.LoraConfig(task_type=kind, r=2, target_modules=["query", "value"])
    model = peft.get_peft_model(base, config)
    train, val = hugging.samples(40, 1, tokens), hugging.samples(30, 2, tokens)
    watched = hugging.callback()
    options: dict[str, Any] = {"train_dataset": train, "eval_dataset": val}
    hugging.trainer(tmp_path, watched, model=model, **options).train()
    assert hugging.counts(watched.monitor)["val"] == hugging.matrix(model, val)
    assert watched.monitor.scores.counts["train_steps_cumulative"] == 6


def test_an_adapted_causal_model_is_known_as_one(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    import test_transformers as hugging

    config = transformers.GPT2Config(vocab_size=30, n_positions=8, n_embd=16, n_layer=2, n_head=2)
    adapter = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["c_attn"], fan_in_fan_out=True)
    model = peft.get_peft_model(transformers.GPT2LMHeadModel(config), adapter)
    texts = hugging.samples(20, 3)
    for text in texts:
        text["labels"] = text["input_ids"]
    watched = hugging.MonitorCallback(pm.MulticlassMetrics(30))
    hugging.trainer(tmp_path, watched, model=model, eval_dataset=texts).evaluate()
    scores = watched.monitor.scores
    assert watched.monitor.faults.all() == []
    assert int(scores.splits["val"].confusion.sum()) == 20 * 7
    with torch.no_grad():
        loss = model(**torch.utils.data.default_collate(texts)).loss.item()
    assert scores["val/nll"].value == pytest.approx(loss, rel=1e-5)
