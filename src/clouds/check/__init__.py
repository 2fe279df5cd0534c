"""What is looked at before hours are spent: the data, this machine, a generated set, a recipe as a whole.

``training`` is what ``clouds train`` asks first; ``data`` is ``clouds check``, ``doctor`` and ``audit``
are called as their verbs, ``dry_run`` is ``clouds train --dry-run``.
"""
