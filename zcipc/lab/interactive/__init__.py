"""What stands behind the notebooks that a reader plays with."""
