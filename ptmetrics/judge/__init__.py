"""Rules over records: findings, verdict, and the comparison of runs. No torch."""

import sys
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    """This package, callable: importing any of its modules puts it in the place of the function `ptmetrics.judge`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from ptmetrics.judge.judge import judge

        return judge(*args, **kwargs)


sys.modules[__name__].__class__ = _Room
