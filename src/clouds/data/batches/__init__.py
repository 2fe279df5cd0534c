"""Batches for training: their order, crops and changes, rare classes, bad files. Start with ``batches``."""
