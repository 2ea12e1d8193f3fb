"""A run begins once and ends once, whichever way its loop and the `with` blocks around it are left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ptmetrics.errors import HookError
from ptmetrics.monitor.diary import Standing, end_reason


class Lifetime:
    """Begins and ends a run, and knows why it ended.

    Args:
        standing: Tells whether the run is asked to stop.
        on_begin: What to do at the beginning; if it raises, the run has not begun.
        on_end: What to do at the end of a run that has begun or not, with the reason.
    """

    def __init__(
        self, standing: Standing, on_begin: Callable[[], None], on_end: Callable[[str], None]
    ) -> None:
        self._standing, self._on_begin, self._on_end = standing, on_begin, on_end
        self.begun = self._closed = False
        self._inside = 0  # `with` blocks that the loop runs in
        self._left_for: str | None = None  # why the body of the epochs was left

    def begin(self) -> None:
        """Begin, unless that is done.

        Raises:
            HookError: If the run has ended.
        """
        if self._closed:
            cure = "Make a new Monitor; pass resume=True to go on in the same run folder."
            raise HookError("monitor", "an open monitor", "one that was closed", cure)
        if not self.begun:
            self.begun = True
            try:
                self._on_begin()
            except BaseException:
                self.begun = False
                raise

    def end(self, reason: str) -> None:
        """End, unless that is done."""
        if not self._closed:
            self._closed = True
            self._on_end(reason)

    @contextmanager
    def epochs(self) -> Iterator[None]:
        """Around the loop over the epochs, in a generator: its body's exceptions do not come through."""
        try:
            yield
        except (
            GeneratorExit
        ):  # the body broke out or raised: which one, only a `with` around it can tell
            self._left_for = "early stopping" if self._standing.stopping else "interrupted"
            if not self._inside:
                self.end(self._left_for)
            raise
        except BaseException as error:
            self.end(end_reason(error))
            raise
        self.end(end_reason(None, self._standing.stopping))

    def enter(self) -> None:
        """A `with` block begins."""
        self._inside += 1

    def leave(self, error: BaseException | None) -> None:
        """A `with` block is left: the run ends if an error came, or if the loop in it was broken out of."""
        self._inside -= 1
        if error is not None:
            self._left_for = end_reason(error)
        if self._left_for is not None:
            self.end(self._left_for)
