"""The network, its losses and its folder. Start with ``segmenter``, which reads from top to bottom."""
