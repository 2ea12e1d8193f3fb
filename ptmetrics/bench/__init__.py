"""What a user measures on the own machine: what something costs, beside its peers."""
