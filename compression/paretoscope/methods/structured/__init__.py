"""Structured pruning with torch-pruning, which is slow to import: a folder of its own, looked into only when used."""
