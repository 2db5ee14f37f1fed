"""The paper's toy models."""
