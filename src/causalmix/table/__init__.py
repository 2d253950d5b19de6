"""The runs table: one schema, checked on writing and on reading; loaders; a content fingerprint."""
