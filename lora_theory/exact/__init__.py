"""Models that are solved rather than trained. Never imports what predicts."""
