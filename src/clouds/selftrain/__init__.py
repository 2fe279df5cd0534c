"""Labels for drawn images, by a teacher and a promptable segmenter. Start with ``pseudo``, the order of it all.

``points``, ``refine`` and ``regions`` are pure functions on arrays; ``find_regions`` finds the regions of an
image, ``region_files`` those of a set ahead of training.
"""
