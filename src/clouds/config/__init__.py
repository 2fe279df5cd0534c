"""Recipes: every key and its default, how a recipe is read, and the folder of a run that it made."""

from clouds.config.load import load_recipe
from clouds.config.recipe import Recipe

__all__ = ["Recipe", "load_recipe"]
