"""Counts to named numbers with confidence intervals, as pure tensor functions."""
