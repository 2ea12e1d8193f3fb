"""On what a number was measured: versions, settings, the kind of the machine without its name."""

import os
import platform
from pathlib import Path
from typing import Any

import torch

from ptmetrics import __version__
from ptmetrics.bench.peers import installed, peer_versions

CPUINFO = Path("/proc/cpuinfo")


def processor(cpuinfo: Path = CPUINFO) -> str:
    """Model of the processor where the system tells it, else its architecture."""
    text = ""
    if cpuinfo.exists():
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    for line in text.splitlines():
        if line.startswith("model name"):
            return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()


def setting(threads: int | None, device: str, options: str) -> dict[str, Any]:
    """What the numbers hold for; sets the number of torch's threads, if one is given."""
    if threads is not None:
        torch.set_num_threads(threads)
    load = "unknown"
    if hasattr(os, "getloadavg"):
        load = f"{os.getloadavg()[0]:.1f}"
    modules, missing = installed()
    return {
        "command": f"ptmetrics bench{options}",
        "machine": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": load,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "ptmetrics": __version__,
        "device": device,
        "peers": peer_versions(modules),
        "not_installed": missing,
    }
