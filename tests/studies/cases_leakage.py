"""Cases of rows of validation that training has seen: audits of drawn sets, in the note of a run."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import ptmetrics as pm
from tests.studies.rule_case import Case, Setting
from tests.studies.synthetic import Random, Recorded, loss_run, training_loss

TRAIN, VAL, COLUMNS = 400, 200, 12
Sets = tuple[Tensor, Tensor, list[int], list[int]]  # rows and labels of both
Change = Callable[[Random, Sets], None]


def _audited(change: Change, *, ids: bool = False) -> Callable[[Random], Recorded]:
    """A run whose note is the audit of two drawn sets, in which something was done."""

    def make(rng: Random) -> Recorded:
        x = torch.from_numpy(rng.normal(size=(TRAIN + VAL, COLUMNS)))
        y = [row % 2 for row in range(TRAIN + VAL)]
        sets = x[:TRAIN].clone(), x[TRAIN:].clone(), y[:TRAIN], y[TRAIN:]
        change(rng, sets)
        train = list(zip(sets[0], sets[2], strict=True))
        val = list(zip(sets[1], sets[3], strict=True))
        given: Any = None
        if ids:
            patients = rng.permutation(4 * VAL).tolist()
            given = (patients[:TRAIN], [*patients[:4], *patients[TRAIN : TRAIN + VAL - 4]])
        audit = pm.audit(train, val, groups=given, progress=False)
        run = loss_run(training_loss(20) + 0.1, training_loss(20))
        run.notes.append({"code": "leakage-audit", "message": "", **audit.to_record()})
        return run

    return make


def _nothing(rng: Random, sets: Sets) -> None:
    """The sets share nothing."""


def _copies(number: int, noise: float = 0.0) -> Change:
    def change(rng: Random, sets: Sets) -> None:
        drawn = torch.from_numpy(rng.normal(size=(number, COLUMNS)))
        sets[1][:number] = sets[0][:number] + noise * drawn
        sets[3][:number] = sets[2][:number]

    return change


def _repeats(rng: Random, sets: Sets) -> None:
    sets[1][:6] = sets[1][100:106]
    sets[3][:6] = sets[3][100:106]


def _conflict(rng: Random, sets: Sets) -> None:
    sets[1][0] = sets[0][1]


_CLEAN = Setting("400 and 200 Gaussian rows of 12 numbers", _audited(_nothing), 0.05)

CASES: tuple[Case, ...] = (
    Case(
        "leakage-id",
        (_CLEAN,),
        (Setting("4 of 200 rows are of a patient in training", _audited(_nothing, ids=True), 1.0),),
    ),
    Case(
        "leakage-exact",
        (_CLEAN,),
        (Setting("5 % of 200 rows are copies", _audited(_copies(10)), 1.0),),
    ),
    Case(
        "leakage-near",
        (_CLEAN,),
        (
            Setting(
                "10 % of 200 rows are copies, noise of .05 sd", _audited(_copies(20, 0.05)), 0.95
            ),
        ),
    ),
    Case(
        "val-duplicates",
        (_CLEAN,),
        (Setting("3 % of 200 rows repeat others", _audited(_repeats), 1.0),),
    ),
    Case(
        "label-conflict",
        (_CLEAN,),
        (Setting("one row equals a training row of another label", _audited(_conflict), 1.0),),
    ),
)
