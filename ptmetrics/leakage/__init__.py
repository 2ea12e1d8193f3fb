"""Faults of data and loop that make every number look better, or worse, than it is: on the public face alone."""
