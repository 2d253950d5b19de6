"""``python -m causalmix.cli``."""

from causalmix.cli import main

main()
