"""Measurements that a person starts: what something costs, and whether it keeps what it promises."""
