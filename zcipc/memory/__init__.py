"""Memory that several processes share, by name or by descriptor, and who those processes are."""
