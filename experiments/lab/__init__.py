"""One skeleton under every experiment; see docs/experiments.md."""
