"""Backbones, each a file: what a frozen (or trained) network makes of an image, at four strides."""
