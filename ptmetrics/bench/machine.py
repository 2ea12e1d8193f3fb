"""On what a number was measured: versions, and the class of the machine without its name."""

import os
import platform
from pathlib import Path

import numpy as np
import torch

from ptmetrics import __version__

CPUINFO = Path("/proc/cpuinfo")


def stamp() -> str:
    """Versions, processor and cores in one sentence part, as it stands beside measured numbers."""
    versions = {"ptmetrics": __version__, "Python": platform.python_version()}
    versions |= {"torch": torch.__version__, "NumPy": np.__version__}
    threads = torch.get_num_threads()
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{named}, {os.cpu_count()} cores of {processor()}, {threads} thread{'s' * (threads != 1)}"
    )


def processor(cpuinfo: Path = CPUINFO) -> str:
    """Model of the processor where the system tells it, else its architecture."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return " ".join(next(models, "").split()) or platform.processor() or platform.machine()
