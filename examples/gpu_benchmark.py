"""What ptmetrics costs on a GPU, beside torchmetrics, torcheval and plain PyTorch.

    python examples/gpu_benchmark.py [--quick] [--json] [--out FOLDER]

Update cost over batch sizes, classes and pixels, launches, waits of the host, peak memory, the time
of all scores, curves of ten million scores, the overhead on training steps of a perceptron and of
ResNets with mixed precision, and CUDA graphs: a table, or JSON, and a plot in FOLDER. Each part is
printed when it was measured. It is `ptmetrics bench --device cuda`; without a GPU the CUDA parts are named
as not measured.
"""

import sys

from ptmetrics.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", "--device", "cuda", *sys.argv[1:]]))
