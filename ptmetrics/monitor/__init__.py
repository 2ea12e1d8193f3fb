"""What touches the user's loop: hooks, loader wrappers, clock, callbacks and the Monitor."""
