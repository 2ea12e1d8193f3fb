"""The journal of a run: typed events, one JSON line each, and reading them back without torch."""
