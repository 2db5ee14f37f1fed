"""Synthetic tasks and their losses."""
