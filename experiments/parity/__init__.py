"""LoRA+ beside the official optimizer as PEFT ships it: the same model, weights and batches."""
