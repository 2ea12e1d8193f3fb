"""Rows of validation that training has seen: found before training, or from inside the run."""
