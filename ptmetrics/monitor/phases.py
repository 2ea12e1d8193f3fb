"""Which phase the loop is in, on the host's clock and the device's, and how long steps and waits for data take."""

from ptmetrics.monitor.clock import DeviceSpans, PhaseClock, StepTimes


class Phases:
    """The time since the last mark belongs to the phase that is named now, such as "train", "val" or "other".

    Args:
        clock: Host time.

    Attributes:
        now: The phase under way on the device; None for none.
        device: Device time; None where the host's clock is all.
        steps: Durations of the training steps of the epoch.
        data_wait_s: Seconds of the epoch that training waited for batches.
        waits: Whether since the last mark the loop only waits for data.
    """

    def __init__(self, clock: PhaseClock) -> None:
        self.clock, self.steps = clock, StepTimes()
        self.device: DeviceSpans | None = None
        self.now: str | None = None
        self.data_wait_s = 0.0
        self.waits = False
        self._step_mark = 0.0  # training time at the end of the last step
        self._started = False

    def lap(self, phase: str) -> float:
        """The time since the last mark was `phase`; returns it in seconds."""
        self.waits = False
        return self.clock.lap(phase)

    def waited(self, split: str) -> None:
        """The time since the last mark was a wait for a batch of `split`."""
        seconds = self.lap(split)
        self.data_wait_s += seconds if split == "train" else 0.0

    def enter(self, phase: str) -> None:
        """From here on the device is in this phase."""
        if self.now == phase:
            return
        if not self._started:  # what came before the first batch of a run is the user's setting up
            self.lap("other")
            self._started = True
        self.now = phase
        if self.device is not None:
            self.device.begin(phase)

    def leave(self) -> None:
        """The device's phase ends here."""
        self.now = None
        if self.device is not None:
            self.device.end()

    def step_done(self) -> None:
        """A training step ends with the last mark."""
        total = self.clock.seconds.get("train", 0.0)
        self.steps.add(total - self._step_mark)
        self._step_mark = total

    def close_epoch(self) -> None:
        """The time since the last mark belongs to no split."""
        self.lap("other")
        self.leave()
        self._step_mark = 0.0

    def take_data_wait_s(self) -> float:
        """Seconds of waiting since the last call."""
        seconds, self.data_wait_s = self.data_wait_s, 0.0
        return seconds
