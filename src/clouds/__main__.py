"""``python -m clouds`` is the command ``clouds``."""

from clouds.cli import main

main()
