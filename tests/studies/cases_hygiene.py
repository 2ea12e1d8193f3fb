"""Cases of faults of the loop itself: each run is a small fine-tune that was watched."""

from collections.abc import Callable
from functools import cache

from torch import Tensor

import ptmetrics as pm
from ptmetrics.record.history import History
from tests.leakage import hygiene_scripts as scripts
from tests.studies.rule_case import Case, Setting
from tests.studies.synthetic import Random

Script = Callable[[str, int], scripts.Healthy]


def _hit(preds: Tensor, target: Tensor) -> Tensor:
    return (preds.argmax(1) == target).float()


@cache  # several codes are measured on the same runs
def _run(script: Script, seed: int, *, epochs: int, classes: bool) -> History:
    """A watched run; its classes are counted where a code asks for them."""
    metrics: pm.Metrics = pm.Mean("hit", _hit, higher_is_better=True)
    if classes:
        metrics = pm.MulticlassMetrics(scripts.CLASSES, curves=False)
    monitor = pm.Monitor(metrics, progress=False)
    script("loaders", seed).run(monitor, epochs)
    return monitor.history


def _setting(
    script: Script, words: str, bar: float, *, epochs: int = 1, classes: bool = False
) -> Setting:
    """A script, with data and all else of another seed each time."""

    def make(rng: Random) -> History:
        return _run(script, int(rng.integers(2**31)), epochs=epochs, classes=classes)

    return Setting(words, make, bar)


HEALTHY = _setting(scripts.Healthy, "a loop as it should be", 0.0)
FROZEN = _setting(scripts.Frozen, "a frozen layer and its statistics in evaluation mode", 0.0)


CASES = (
    Case(
        "eval-in-train-mode",
        (HEALTHY,),
        (_setting(scripts.InTrainMode, "no model.eval(), dropout and BatchNorm", 1.0),),
    ),
    Case(
        "batchnorm-updated",
        (HEALTHY, FROZEN),
        (
            _setting(scripts.InTrainMode, "no model.eval()", 1.0),
            _setting(
                scripts.BatchNormInTrainMode, "BatchNorm in training mode behind model.eval()", 1.0
            ),
        ),
    ),
    Case(
        "grad-in-eval",
        (HEALTHY,),
        (_setting(scripts.WithGrad, "no torch.no_grad()", 1.0),),
        info=True,
    ),
    Case(
        "val-shuffled-or-augmented",
        (_setting(scripts.Healthy, "two epochs of a loop as it should be", 0.0, epochs=2),),
        (
            _setting(scripts.ShuffledValidation, "102 rows of validation, shuffled", 1.0, epochs=2),
            _setting(scripts.AugmentedValidation, "102 rows with noise", 1.0, epochs=2),
        ),
        info=True,
    ),
    Case(
        "inputs-not-normalised-alike",
        (
            HEALTHY,
            _setting(
                scripts.WiderValidation, "validation values that spread 1.6 times as much", 0.05
            ),
        ),
        (_setting(scripts.HalfNormalized, "Normalize(0.5, 0.5) in training alone", 0.95),),
    ),
    Case(
        "frozen-not-frozen",
        (FROZEN,),
        (_setting(scripts.FrozenStatisticsFollow, "BatchNorm frozen, but in training mode", 1.0),),
        info=True,
    ),
    Case(
        "nothing-trains",
        (HEALTHY,),
        (_setting(scripts.NeverSteps, "no optimizer.step()", 1.0),),
    ),
    Case(
        "optimizer-misses-parameters",
        (HEALTHY,),
        (_setting(scripts.OptimizerOfTheHead, "an optimizer of the head alone", 1.0),),
    ),
    Case(
        "lr-zero",
        (HEALTHY,),
        (_setting(scripts.RateOfZero, "a learning rate of 0", 1.0),),
    ),
    Case(
        "dropped-last-batch",
        (HEALTHY,),
        (_setting(scripts.DroppedLastBatch, "102 rows in batches of 64, drop_last=True", 1.0),),
    ),
    Case(
        "labels-unseen",
        (_setting(scripts.RarelyDrawn, "a class of 1 in 11 rows, drawn", 0.01, classes=True),),
        (
            _setting(
                scripts.UnseenLabel,
                "a third of the rows of a class that training lacks",
                1.0,
                classes=True,
            ),
        ),
    ),
)
