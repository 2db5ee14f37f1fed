"""Statistics of arrays: intervals, slopes, equivalence, landscapes. Saves nothing."""
