"""Prompts and images as files, made once before training. Start with ``sets``: what a run needs of them.

``prompts`` asks the writer, ``draw`` draws, ``restyle`` changes looks, ``audit`` judges a set.
"""
