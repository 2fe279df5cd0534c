"""Labels for drawn images, by a teacher and a promptable segmenter. Start with ``pseudo``, the order of it all.

``points``, ``refine`` and ``regions`` are pure functions on arrays; ``find_regions`` works ahead of training.
"""
