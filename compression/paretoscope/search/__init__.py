"""Searches over recipes: per-layer suggestions, the cliff of a slider, what each step is responsible for."""
