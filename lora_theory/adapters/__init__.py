"""The LoRA layer, the labels of its factors, and LoRA+."""
