"""A validation of a script that forgets `model.eval()`: what tells it from training."""

import weakref
from functools import lru_cache
from typing import Any

import torch

from ptmetrics.monitor.answers import LastCounted
from ptmetrics.record.printable import quantity


class ModeWatch:
    """What the modes of the model and of torch have told so far, in a run and in its epoch.

    Attributes:
        matters: Whether the model acts otherwise in training.
        learned: Whether a loss of training had a gradient.
        evaluated: Whether there was a validation that says it is one.
        without_eval: Whether one is under way that does not.
        recomputed: Whether a forward was repeated for its gradients, which hides them.
        without_grad: Training batches of the epoch whose loss no gradient can reach.
        trained_on: The last batch that training stepped behind.
        behind_step: Batches since the optimizer has stepped, that nothing but hooks told of.
        before_step: The most of them that came before a step of the epoch.
        ended_alike: Whether the last epoch ended with as many behind its last step.
        unlearned: What training went on behind without learning from it.
    """

    def __init__(self) -> None:
        self.matters = True
        self.learned = False
        self.evaluated = False
        self.without_eval = False
        self.recomputed = False
        self.without_grad = 0
        self.trained_on: LastCounted | None = None
        self.behind_step = 0
        self.before_step = 0
        self.ended_alike = False
        self.unlearned = Unlearned()

    def trains(self) -> bool:
        """Whether an answer in training mode is of training, as far as that can be told by now."""
        return torch.is_grad_enabled() or self.evaluated or not self.learned

    def may_validate(self) -> bool:
        """Whether a loss without gradients may be one of a validation in training mode.

        What the loop does next tells: what training follows at once is none. Nor is anything where
        the script has validated in evaluation mode, or has only trained without gradients.
        """
        return self.learned and not self.evaluated and not self.recomputed

    def was_trained_on(self, target: object, given: "weakref.ref[torch.Tensor] | None") -> bool:
        """Whether these are the targets of the last batch of training; once they are gone, its inputs."""
        last = self.trained_on
        if last is None:
            return False
        if last.target() is None:
            return given is not None and last.same_inputs(given)
        return last.same_target(target)

    def was_in_vain(self) -> bool:
        """At the end of an epoch: whether it was trained without gradients, and not for a checkpoint."""
        without_grad = self.without_grad
        self.without_grad = 0
        return without_grad > 0 and not self.recomputed

    def stepped_behind_unlearned(self, node: Any) -> None:
        """The optimizer has stepped: what was not learned from is no part of what comes before a step."""
        self.behind_step = max(0, self.behind_step - self.unlearned.stepped(node))

    def left_behind(self) -> str:
        """At the end of an epoch: what came behind its last step and is no training; "" for nothing.

        Of gradients that are accumulated less is left than comes before a step, and waits for the
        next epoch. As many are left where a scaler skips the last step, but not in two epochs.
        """
        left = self.behind_step
        most = self.before_step
        before = self.ended_alike
        self.ended_alike = 0 < most <= left
        if not self.ended_alike:
            return ""
        self.behind_step = 0
        if left == most and not before:
            return ""
        batches = quantity(left, "batch")
        return (
            f"{batches} came after the last step of the optimizer, and at most {most} before a step"
        )


MOST_NODES = 16  # of the graph of a loss, until one is found that keeps a tensor


class Unlearned:
    """Batches of training whose loss no backward pass has reached when the optimizer stepped.

    A backward pass lets go of what the graph of a loss keeps, unless it is told to keep it: then
    nothing is known.

    Attributes:
        batches: Their number in the epoch.
        rows: Their rows.
        waiting: The rows of each since the last step that no backward pass has reached yet.
    """

    def __init__(self) -> None:
        self.batches = 0
        self.rows = 0
        self.waiting: list[list[int]] = []

    def goes_on(self, node: Any, rows: int) -> None:
        """Another batch comes before the optimizer has stepped for this one.

        Args:
            node: Where the graph computed its loss.
            rows: Of the batch.
        """
        if _keeps_its_tensors(node):
            batch = [rows]
            node.register_prehook(lambda gradients: batch.clear())
            self.waiting.append(batch)

    def stepped(self, node: Any) -> int:
        """The optimizer has stepped behind them, and behind a batch whose loss has this node.

        Returns:
            How many there were since the step before.
        """
        waiting = [batch[0] for batch in self.waiting if batch]
        self.waiting = []
        if _keeps_its_tensors(node) is not False:
            return 0
        self.batches += len(waiting)
        self.rows += sum(waiting)
        return len(waiting)


def _keeps_its_tensors(node: Any) -> bool | None:
    """Whether the graph at a node still has what a backward pass lets go of; None if unknown."""
    for _ in range(MOST_NODES):
        if node is None:
            break
        for name in _saved_by(node.__class__):
            try:
                if isinstance(getattr(node, name), torch.Tensor):
                    return True
            except RuntimeError as error:
                return None if "freed" not in str(error) else False
        before = node.next_functions
        node = before[0][0] if before else None
    return None


@lru_cache(maxsize=256)
def _saved_by(kind: type) -> tuple[str, ...]:
    return tuple(name for name in dir(kind) if name.startswith("_saved_"))
