"""Promptable segmenters, each a file: masks from points, from boxes of a grid or from class names."""
