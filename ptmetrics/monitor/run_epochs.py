"""The epochs of a run: what was counted is computed, recorded and told, and counting begins anew."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ptmetrics.errors import ConfigError, RanksError, StateError
from ptmetrics.metrics.score import Score, Scores
from ptmetrics.monitor.callbacks import CallbackList, MonitoredRun
from ptmetrics.monitor.clock import RunTotals
from ptmetrics.monitor.console import Console
from ptmetrics.monitor.epoch import EpochScores
from ptmetrics.monitor.faults import LOGGER, NOTHING_SEEN, FaultLog, say
from ptmetrics.monitor.hooks import several_attached
from ptmetrics.monitor.ranks import RankSync
from ptmetrics.monitor.recorder import BatchRecorder
from ptmetrics.monitor.run import RunRecorder, is_epoch
from ptmetrics.monitor.split import ByOutput, SplitCounts, compute_each, compute_splits, described
from ptmetrics.record.printable import agreeing, quantity

MAX_EVALUATIONS = 100  # of an epoch that are recorded


class RunEpochs:
    """Closes the epochs of a run, and evaluations within them.

    Args:
        monitor: What callbacks are given.
        metrics: Metrics of each output, as a record describes them.
        faults: Contains what goes wrong.
        run: Keeps the record, and knows where the run is.
        callbacks: Told of what is closed.
        console: Likewise.
        ranks: Merges what several ranks have counted.

    Attributes:
        recorder: Counts the batches; it is made behind this, as it tells of validations here.
        scores: Those of the last epoch that was closed; None before.
        unattended: Whether nobody closes the run: then no callback is told.
    """

    recorder: BatchRecorder

    def __init__(
        self,
        monitor: MonitoredRun,
        metrics: ByOutput,
        faults: FaultLog,
        run: RunRecorder,
        callbacks: CallbackList,
        console: Console,
        ranks: RankSync,
    ) -> None:
        self._monitor = monitor
        self._metrics = metrics
        self._faults = faults
        self._run = run
        self._status = run.status
        self._callbacks = callbacks
        self._console = console
        self._ranks = ranks
        self._totals = RunTotals()
        self._said: set[str] = set()
        self._evaluations = 0  # of the epoch under way
        self._stopped_before = 0  # the epoch that there should not have been
        self.scores: EpochScores | None = None
        self.unattended = False

    def close(self) -> EpochScores:
        """Compute the epoch under way, record it, begin the next one, and tell of it."""
        number = self._status.epochs
        recorded = False
        if self._status.stopping is not None and number >= self._stopped_before:
            self._tell_going_on(number)
        try:
            scores = self._compute(number)
            with self._faults.containing("record"):
                self._run.record_epoch(scores, self.recorder.clock.oddities())
                recorded = True
        except Exception:
            if self._faults.on_fault != "raise":  # the loop goes on with the next epoch
                self._start(number + 1)
            raise
        self.scores = scores
        self._start(number + 1, scores)
        with self._faults.containing("progress"):
            self._console.epoch(self._monitor, scores)
        if recorded:  # what a callback does can no longer lose the epoch
            with self.recorder.pause():
                if self._callbacks.each_validation:
                    self._tell_validations(scores)
                self._callbacks.epoch_end(self._monitor, scores)
        self.recorder.clock.lap("other")
        return scores

    def _compute(self, number: int, unfinished: bool = False) -> EpochScores:
        """Scores of every split that saw a batch; what fails is a fault. Forgets nothing."""
        self.recorder.end_epoch()
        if self.recorder.other_model.heard:
            self._tell_other_model()
        seen = {
            name: counts
            for name, counts in self.recorder.splits.items()
            if counts.batches or counts.loss.seen
        }
        whole = self._of_all_ranks(seen, "epoch", f"epoch {number + 1}", unfinished)
        if not whole and not any(line.said for line in self.recorder.seen.values()):
            self._faults.warn(NOTHING_SEEN)
        splits: dict[str, Scores] = {}
        losses: dict[str, Score] = {}
        try:
            samples = compute_splits(whole, splits, losses)
        except Exception:
            samples = compute_each(whole, splits, losses, self._faults)
        for name, each in splits.items():
            if each.faults:
                self._tell_refused(name, each)
        steps = {name: counts.batches for name, counts in whole.items()}
        if "train" in whole:
            steps["train"] = whole["train"].steps
        counted = self._totals.counts({name: whole[name].samples for name in whole}, steps)
        time_of_phases = self._totals.time(self.recorder.clock)
        went_by = self.recorder.went_by()
        if whole is not seen:
            self._ranks.tell(splits, went_by)
        scores = EpochScores(number, splits, losses, time_of_phases, counted, samples, went_by)
        if self._callbacks.each_numbers:
            with self.recorder.pause():
                self._callbacks.numbers(self._monitor, scores)
        return scores

    def _of_all_ranks(
        self, own: dict[str, SplitCounts], name: str, about: str, unfinished: bool = False
    ) -> dict[str, SplitCounts]:
        """What all ranks counted; what this one did, itself, where there is no other or one is missing."""
        ranks = self._ranks
        if not ranks.due:
            if self._run.ranks > 1:
                self._run.tell_share()
            return own
        recorder = self.recorder
        try:
            merged = ranks.merge(
                own,
                recorder.splits,
                recorder.seen,
                name,
                about,
                self._run.number,
                self._faults,
                unfinished,
            )
        except RanksError as error:
            if self._faults.on_fault == "raise":
                raise
            self._faults.note("sync", error)
            self._run.tell_share()
            return own
        with self._faults.containing("record"):
            self._run.join(ranks.run)
        for rank, number in enumerate(ranks.faults):
            if number and rank != self._run.rank:
                contained = agreeing(number, "were contained")
                line = f"{quantity(number, 'fault')} {contained} on rank {rank} by {about}"
                self.say(f"rank-faults {rank}", f"{line}; its journal and its log list them.")
        for rank in ranks.left:
            line = (
                f"rank {rank} ended its run within {about}: of its share only a part was counted."
            )
            self.say(f"rank-left {rank}", line)
        return merged

    def _start(self, number: int, closed: EpochScores | None = None) -> None:
        """The epoch before is over: only now is anything of it forgotten."""
        self._status.epochs = number
        self._status.half_done = False
        self._evaluations = 0
        self._status.restored = None
        self._faults.epoch = number
        if closed is not None:
            self._totals.commit(closed.time, closed.counts)
        self.recorder.start_epoch()
        self.recorder.clock.start_epoch()

    def _tell_validations(self, scores: EpochScores) -> None:
        """Of what splits there are scores beside those of training."""
        for split in dict.fromkeys(name.partition("/")[0] for name in scores.splits):
            if split != "train":
                self._callbacks.validation_end(self._monitor, split, scores)

    def _tell_going_on(self, number: int) -> None:
        """Nobody asked `should_stop`."""
        cure = "Write 'if monitor.should_stop: break' behind end_epoch(), or loop by epochs(…)."
        line = f"stopping was decided behind epoch {self._stopped_before}"
        went_on = f"and the loop went on to epoch {number + 1}"
        self.say("goes-on", f"{line} ({self._status.stopping}), {went_on}. {cure}")

    def _tell_refused(self, split: str, scores: Scores) -> None:
        """Values that a metric has refused; the record and the verdict have them by epoch."""
        for kind, fault in scores.faults.items():
            code = f"refused {split} {kind}"
            if code not in self._said:
                self._said.add(code)
                say(f"{split}: {fault['message']}")

    def _tell_other_model(self) -> None:
        recorder = self.recorder
        other = recorder.other_model
        train = recorder.splits.get("train")
        past = False  # the attached model
        if train is not None and not recorder.seen["train"].answers and not several_attached():
            line = other.told_of_training(train.steps)
            past = line != "" and not train.batches
            if past:
                self._tell_past("train", other.learned_calls, line)
        rows = 0
        if "val" in recorder.splits:
            val = recorder.splits["val"]
            rows = val.samples
            if val.batches > 1 and not val.loss.seen and other.most_rows == rows:
                line = (
                    f"val: the criterion was called once for all {rows} rows, behind their batches"
                )
                cure = "Hand it over with monitor.update_loss(loss, split='val')."
                self.say("loss-behind val", f"{line}: that loss is not counted. {cure}")
        line = other.told(rows)
        if line and past and not rows:
            self._tell_past("val", other.calls, other.told_of_validation())
        elif line and not several_attached():
            self.say("other-model", line)

    def _tell_past(self, split: str, calls: int, line: str) -> None:
        """The criterion was called in a split, and the attached model was not."""
        seen = self.recorder.seen[split]
        seen.criterion_calls = calls
        seen.said = line
        self.say(f"other-model {split}", line)

    def say(self, code: str, message: str) -> None:
        """Tell something of the loop, on the console and in the record, once for each `code`.

        Args:
            code: Names what is told, in the record's note.
            message: One sentence.
        """
        if code not in self._said:
            self._said.add(code)
            say(message)
            note: Any = {"code": code, "message": message}
            with self._faults.containing("record"):
                self._run.append("note", note)
            if not self._monitor.records:
                self._monitor.history.notes.append(note)

    def close_validation(self, split: str) -> None:
        """A split is validated again in this epoch: record what it was, and count anew."""
        counts = self.recorder.splits[split]
        why = "several"
        if not self._totals.steps + self._totals.samples and not self._trained_in_epoch():
            why = "before-training"
        self._record_evaluation(split, counts, why)
        counts.reset()
        self.recorder.seen.pop(split, None)

    def _record_evaluation(self, split: str, counts: SplitCounts, why: str) -> None:
        self._evaluations += 1
        if self._evaluations > MAX_EVALUATIONS:
            self.say(
                "evaluations",
                f"{split}: more than {MAX_EVALUATIONS} evaluations of one epoch; of further ones "
                "only the last is recorded",
            )
            return
        with self._faults.containing(f"compute {split}"):
            splits: dict[str, Scores] = {}
            losses: dict[str, Score] = {}
            about = f"evaluation {self._evaluations} of {split} in epoch {self._status.epochs + 1}"
            own = {split: counts}
            whole = self._of_all_ranks(own, f"evaluation {split}", about)
            try:
                compute_splits(whole, splits, losses)
            except Exception:
                compute_each(whole, splits, losses, self._faults)
            if not splits and not losses:
                return
            if whole is not own:
                self._ranks.tell(splits, {})
                counts = whole[split]
            steps = self._totals.steps + counts.trained_steps
            counted = {f"{split}_samples": counts.samples, f"{split}_steps": counts.batches}
            counted["train_steps_cumulative"] = steps
            scores = EpochScores(self._status.epochs, splits, losses, {}, counted)
            self._run.record_evaluation(
                {**scores.to_record(), "split": split, "step": steps, "why": why}
            )
            if not self.unattended:
                with self.recorder.pause():
                    self._callbacks.validation_end(self._monitor, split, scores)

    def _trained_in_epoch(self) -> bool:
        train = self.recorder.splits.get("train")
        return train is not None and bool(train.batches or train.steps)

    def close_half_done(self) -> None:
        """Write what was counted since the last `end_epoch()` as an epoch, and say so."""
        counted = [name for name, split in self.recorder.splits.items() if split.batches]
        if not self._status.half_done or not counted:
            return
        number = self._status.epochs
        if self.is_last_evaluation():
            for name in counted:
                why = "after-training"
                if name == "test":
                    why = "test"
                self._record_evaluation(name, self.recorder.splits[name], why)
            self._status.half_done = False
            return
        batches = {name: self.recorder.splits[name].batches for name in counted}
        with self._faults.containing("close"):
            scores = self._compute(number, unfinished=True)
            self._run.record_epoch(scores, unfinished=number > 0 and not self.recorder.every)
            self._start(number + 1, scores)
            if self.recorder.every:  # then this is how the last one ends
                return
            listed = ", ".join(f"{count} of {name}" for name, count in batches.items())
            message = (
                f"{listed} batches were counted since the last end_epoch() and are written as "
                f"epoch {number + 1}. Call monitor.end_epoch() at the end of each epoch."
            )
            self._run.append("note", {"code": "end-epoch-missing", "message": message})
            LOGGER.warning("%s", message)

    def is_last_evaluation(self) -> bool:
        """Whether nothing was trained since the last epoch: what was evaluated is a last part."""
        trained = self._totals.steps + self._totals.samples > 0
        return self._status.epochs > 0 and trained and not self._trained_in_epoch()

    def stop(self, reason: str) -> None:
        """The run is to stop after the epoch under way, or where it has not begun, before it."""
        self._status.stopping = reason
        self._stopped_before = self._status.epochs + self._status.half_done

    def go_on(self, number: int) -> None:
        """Take up what the record tells of the epochs before this one.

        Raises:
            PtmetricsError: If the run counted other metrics, or a callback cannot go on.
        """
        before = self._run.before
        if before is None:
            return
        before = replace(before, epochs=[e for e in before.epochs if e["epoch"] < number])
        try:
            self._run.check_same(described(self._metrics))
            self._status.stopping = None
            self._callbacks.resume(self._monitor, before)
        except BaseException:
            self._run.end("")
            raise
        if before.epochs:
            last = before.epochs[-1]
            with suppress(KeyError, TypeError):
                self._totals.commit(last["time"], last["counts"])
        self._faults.epoch = number

    def count_from(self, epoch: int) -> None:
        """The loop counts its own epochs; what cannot be a number is a fault and is passed over."""
        with self._faults.containing("end_epoch"):
            if not is_epoch(epoch):
                cure = "Pass the number of the epoch that ends, from 0."
                raise ConfigError("epoch", "a whole number of 0 or more", repr(epoch), cure)
            if epoch < self._status.epochs:
                self.go_on(epoch)
            self._status.epochs = epoch
            self._faults.epoch = epoch

    def state_dict(self) -> dict[str, Any]:
        """Where the run is, what was counted since, and the state of callbacks."""
        return {
            "status": self._status.state_dict(),
            "splits": self.recorder.state_dict(),
            "totals": self._totals.state_dict(),
            "callbacks": self._callbacks.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave.

        Raises:
            StateError: If the state does not fit; the current one is kept.
        """
        before = self.state_dict()
        if not isinstance(state, Mapping) or not set(before) <= set(state):
            got = type(state).__name__
            if isinstance(state, Mapping):
                got = f"keys {sorted(map(str, state))}"
            cure = 'Pass what monitor.state_dict() gave; in a checkpoint it is under "monitor".'
            rule = f"a mapping with {', '.join(sorted(before))}"
            raise StateError("state_dict", rule, got, cure)
        try:
            self._restore(state)
        except StateError:
            self._restore(before)
            raise
        except Exception as error:
            self._restore(before)
            rule = "a state of this run"
            got = f"{type(error).__name__}: {error}"
            cure = (
                "It is damaged, or of another version or other callbacks: use another checkpoint."
            )
            raise StateError("state_dict", rule, got, cure) from error

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.recorder.load_state_dict(state["splits"])
        self._totals.load_state_dict(state["totals"])
        self._callbacks.load_state_dict(state["callbacks"])
        self._status.load_state_dict(state["status"])
        self._stopped_before = self._status.epochs
        stopping = self._status.stopping
        if stopping is not None and self._callbacks.goes_on(stopping):
            self._status.stopping = None
        self._faults.epoch = self._status.epochs
