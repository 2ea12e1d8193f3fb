"""What ptmetrics costs on a GPU, beside torchmetrics, torcheval and plain PyTorch.

    python examples/gpu_benchmark.py [--quick] [--json] [--out FOLDER]

Update cost over batch sizes and classes, launches, waits of the host, peak memory, CUDA graphs, and
the overhead on training steps of ResNet-18 and ResNet-50 with mixed precision: a table, or JSON,
and a plot in FOLDER. It is `ptmetrics bench --device cuda`; without a GPU the CUDA parts are named
as not measured.
"""

import sys

from ptmetrics.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", "--device", "cuda", *sys.argv[1:]]))
