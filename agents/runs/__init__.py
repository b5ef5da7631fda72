"""One run: its folder, its checkpoints, the training loop with progress, the closing table."""
