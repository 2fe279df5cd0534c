"""What the rest stands on: whole files, locks, progress, processes, this machine. Knows nothing of recipes."""
