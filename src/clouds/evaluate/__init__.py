"""Scores: how well a model does on domains, as numbers with an interval, as tables, as examples."""
