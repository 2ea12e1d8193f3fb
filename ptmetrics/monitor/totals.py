"""Running totals of a run: training time, samples and steps so far."""

from collections.abc import Iterator
from typing import Any

from ptmetrics.monitor.clock import DeviceSpans, PhaseClock
from ptmetrics.monitor.phases import Phases
from ptmetrics.monitor.split import SplitCounts


class Totals:
    """Turns the clock's laps of an epoch into the record's `time` and `counts`.

    The cumulative training time leaves out validation, callbacks and checkpoints, counts the first step of the
    run as a usual one, and follows the device's clock where there is one.

    Args:
        clock: Host time.
    """

    def __init__(self, clock: PhaseClock) -> None:
        self.clock = clock
        self.train_s = self.wall_s = 0.0
        self.samples = self.steps = 0
        self._noted: dict[str, int] = {}

    def counts(self, splits: dict[str, SplitCounts]) -> dict[str, int]:
        """Samples and steps of the epoch by split, and of training so far."""
        counts: dict[str, int] = {}
        for name, split in splits.items():
            steps = split.steps if name == "train" else split.batches
            counts |= {f"{name}_samples": split.samples, f"{name}_steps": steps}
        self.samples += counts.get("train_samples", 0)
        self.steps += counts.get("train_steps", 0)
        return counts | {
            "train_samples_cumulative": self.samples,
            "train_steps_cumulative": self.steps,
        }

    def time(self, spent: Phases) -> dict[str, Any]:
        """Seconds of the epoch by phase, and so far; starts the next epoch."""
        phases, steps = self.clock.take(), spent.steps
        spans = spent.device.read() if spent.device is not None else None
        on_device = spans.get("train") if spans is not None else None
        train_s = phases.get("train", 0.0)
        self.train_s += train_s if on_device is None else on_device
        self.train_s -= steps.warm_up_s()
        self.wall_s += sum(phases.values())
        return {
            "train_s": train_s,
            "val_s": phases.get("val", 0.0),
            "data_wait_s": spent.take_data_wait_s(),
            "other_s": sum(s for phase, s in phases.items() if phase not in ("train", "val")),
            "train_device_s": on_device,
            "train_cumulative_s": self.train_s,
            "wall_cumulative_s": self.wall_s,
            "step_ms": steps.take(),
        }

    def oddities(self, device: DeviceSpans | None) -> Iterator[dict[str, Any]]:
        """Notes for the record on clocks that did not behave since the last call."""
        odd = {
            ("clock-went-back", "laps of the host clock went back and were left out"): self.clock.went_back,
            ("device-spans-dropped", "spans were too many for the ring of device events, so the host clock "
             "stands for the device"): device.dropped if device is not None else 0,
        }  # fmt: skip
        for (code, words), count in odd.items():
            if new := count - self._noted.get(code, 0):
                self._noted[code] = count
                yield {"code": code, "message": f"{new} {words}", "count": new}

    def state_dict(self) -> dict[str, float]:
        """Totals so far."""
        return {
            "train_s": self.train_s,
            "wall_s": self.wall_s,
            "samples": self.samples,
            "steps": self.steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from stored totals; the time in between does not count."""
        self.train_s, self.wall_s = float(state["train_s"]), float(state["wall_s"])
        self.samples, self.steps = int(state["samples"]), int(state["steps"])
