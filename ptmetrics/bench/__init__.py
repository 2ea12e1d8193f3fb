"""Benchmarks beside the peers that are installed: ratios carry from one machine to the next, microseconds do not."""
