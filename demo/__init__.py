"""A small company in a box (Velora, e-bike subscriptions): it meets the loop only by log files and answer files."""
