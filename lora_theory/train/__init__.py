"""Training: devices, keys, the sweep engine, the coordinate check."""
