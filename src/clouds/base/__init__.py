"""What all rooms stand on: whole files, locks, progress, processes, this machine. Start with ``files``."""
