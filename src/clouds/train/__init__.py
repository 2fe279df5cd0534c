"""Training: the loop, and what it stands on (processes, checkpoints, the log, validation)."""
