"""Figures: they draw and compute nothing (needs matplotlib)."""
