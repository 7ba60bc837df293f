"""A run: its steps, its data, its machine, and where each came from."""
