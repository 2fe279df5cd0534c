"""A stage of training. Start with ``loop``; ``engine``, ``state``, ``log`` and ``validate`` are what it stands on."""
