"""One end of a connection: its seat and life, its methods, and messages in place."""
