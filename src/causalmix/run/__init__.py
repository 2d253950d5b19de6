"""One proxy run: its identity, its record, and the way from config to record."""
