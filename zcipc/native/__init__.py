"""From Python to machine code: how the package compiles, what a processor offers, and Python types in machine code."""
