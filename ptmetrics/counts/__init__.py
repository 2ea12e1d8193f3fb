"""Sufficient statistics: fixed-shape 64-bit counts and sums on the device."""
