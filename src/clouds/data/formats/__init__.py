"""Exports of annotation tools, read where they lie: ``table`` lists the formats, each has a file of its own.

A reader takes a ``tree`` of files and gives what it ``found``: classes, splits and pairs. Polygons and run lengths are
``drawn`` when a label is asked for; label images go the way of all other datasets.
"""
