"""A model taken out of its run: ``export`` to one file, ``serve`` over HTTP, ``push`` to the hub.

``refine`` is the segmenter taken out: it sharpens anybody's label files.
"""
