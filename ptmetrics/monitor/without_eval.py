"""A validation of a script that forgets `model.eval()`: what tells it from training."""

import torch

from ptmetrics.monitor.answers import LastCounted


class ModeWatch:
    """What the modes of the model and of torch have told so far, in a run and in its epoch.

    Attributes:
        matters: Whether the model acts otherwise in training.
        learned: Whether a loss of training had a gradient.
        evaluated: Whether there was a validation that says it is one.
        without_eval: Whether one is under way that does not.
        recomputed: Whether a forward was repeated for its gradients, which hides them.
        without_grad: Training batches of the epoch whose loss no gradient can reach.
        trained_on: The last batch of training.
    """

    def __init__(self) -> None:
        self.matters = True
        self.learned = False
        self.evaluated = False
        self.without_eval = False
        self.recomputed = False
        self.without_grad = 0
        self.trained_on: LastCounted | None = None

    def trains(self) -> bool:
        """Whether an answer in training mode is of training, as far as that can be told by now."""
        return torch.is_grad_enabled() or self.evaluated or not self.learned

    def may_validate(self, target: object) -> bool:
        """Whether a loss without gradients may be one of a validation in training mode.

        What the loop does next tells: what training follows at once is none. Nor is anything where
        the script has validated in evaluation mode, or has only trained without gradients.
        """
        if self.evaluated or self.recomputed or not self.learned:
            return False
        return self.trained_on is None or not self.trained_on.same_target(target)

    def was_in_vain(self) -> bool:
        """At the end of an epoch: whether it was trained without gradients, and not for a checkpoint."""
        without_grad = self.without_grad
        self.without_grad = 0
        return without_grad > 0 and not self.recomputed
