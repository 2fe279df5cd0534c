"""CLOUDS: label-free robustness for semantic segmentation."""

__version__ = "0.1.0"
