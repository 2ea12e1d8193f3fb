"""The error tree, and the one shape every message has: `name: expected RULE, got FACT. CURE`."""


class PtmetricsError(Exception):
    """Root of every error that ptmetrics raises on purpose.

    Args:
        name: The argument, key or file that is wrong.
        expected: The rule, in words.
        got: The fact that breaks it.
        cure: What to do, one or two full sentences.

    Example:
        >>> print(PtmetricsError("epochs", "a whole number of 1 or more", "0", "Pass epochs=3."))
        epochs: expected a whole number of 1 or more, got 0. Pass epochs=3.
    """

    def __init__(self, name: str, expected: str, got: str, cure: str) -> None:
        super().__init__(name, expected, got, cure)
        self.name, self.expected, self.got, self.cure = name, expected, got, cure

    def __str__(self) -> str:
        return f"{self.name}: expected {self.expected}, got {self.got}. {self.cure}"


class ShapeError(PtmetricsError, ValueError):
    """A tensor has the wrong number or length of dimensions."""


class DtypeError(PtmetricsError, TypeError):
    """A tensor or argument has the wrong type."""


class DeviceError(PtmetricsError, RuntimeError):
    """Tensors that must lie together lie on different devices."""


class ConfigError(PtmetricsError, ValueError):
    """An argument or a configuration key has a value that cannot work."""


class StateError(PtmetricsError, ValueError):
    """A stored state does not fit the object that loads it."""


class DataError(PtmetricsError, ValueError):
    """A data set is missing, empty or does not fit the model."""


class RecordError(PtmetricsError, ValueError):
    """A run folder or journal cannot be written or read."""


class HookError(PtmetricsError, RuntimeError):
    """A hook was attached twice, or fired outside the phase that it belongs to."""


class FaultError(PtmetricsError, RuntimeError):
    """A fault inside a metric that `on_fault="raise"` turned into an exception."""


class RanksError(PtmetricsError, RuntimeError):
    """Ranks that count together did not come together, or do not count the same."""


class DependencyError(PtmetricsError, RuntimeError):
    """An optional library is not installed."""
