"""Does the demo's headline hold with other seeds? A line a run, printed as it ends.

python -m tests.studies.demo [--runs 20]: the packaged configuration "digits" with seeds of its own in each run, in a
process of its own. Minutes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from math import isfinite, nan
from pathlib import Path

from ptmetrics.finetune.config import load_config, packaged_config

RUNS = 20


def demo_with(seeds: list[int], folder: Path) -> tuple[dict[str, object], float]:
    """What the demo prints as JSON with these seeds, and the seconds that it took."""
    text = packaged_config("digits").read_text(encoding="utf-8")
    given = f"seeds = {list(load_config(packaged_config('digits')).seeds)}"
    assert given in text
    config = folder / f"digits-{seeds[0]}.toml"
    config.write_text(text.replace(given, f"seeds = {seeds}"), encoding="utf-8")
    run = folder / f"run-{seeds[0]}"
    command = [sys.executable, "-m", "ptmetrics", "finetune", str(config), "--run", str(run)]
    started = time.perf_counter()
    done = subprocess.run([*command, "--json"], check=True, capture_output=True, text=True)
    return json.loads(done.stdout), time.perf_counter() - started


def main() -> None:
    """Run all, and print the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    runs = parser.parse_args().runs
    count = len(load_config(packaged_config("digits")).seeds)
    print("| seeds | time ratio | at least halved | steps | verdict | seconds |")
    print("|---|---|---|---|---|---|")
    bounded = 0
    with tempfile.TemporaryDirectory() as folder:
        for run in range(runs):
            seeds = [run * count + seed for seed in range(count)]
            told, seconds = demo_with(seeds, Path(folder))
            comparison = told["comparison"]
            assert isinstance(comparison, dict)
            ratio = {
                key: nan if value is None else value
                for key, value in comparison["time_ratio"].items()
            }
            steps = comparison["ratios"]["steps"]["value"]
            halved = comparison["criteria"][0]["state"]
            verdict = told["verdict"]
            assert isinstance(verdict, dict)
            finite = all(isfinite(ratio[name]) for name in ("value", "low", "high"))
            bounded += finite
            span = f"{ratio['value']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"
            print(
                f"| {seeds[0]}–{seeds[-1]} | {span} | {halved} | {steps:.2f} | {verdict['status']} | {seconds:.0f} |",
                flush=True,
            )
    print(f"\nA value and two finite bounds: {bounded} of {runs}.")


if __name__ == "__main__":
    main()
