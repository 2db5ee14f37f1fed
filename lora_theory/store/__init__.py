"""Files, pieces, data sets, provenance."""
