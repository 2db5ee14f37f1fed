"""One thin script per figure or table; each runs as `python -m experiments.<name>`."""
