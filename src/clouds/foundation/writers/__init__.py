"""Prompt writers, each a file: scenes as sentences."""
