"""Batches for training: in which order, cut and changed how, rare classes oftener, bad files skipped."""
