"""How the documentation site is made: pages written from the source, and links that leave it."""
