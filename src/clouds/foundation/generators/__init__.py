"""Image generators with weights, each a file."""
