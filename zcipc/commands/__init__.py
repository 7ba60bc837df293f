"""The commands of `zcipc`, one module each.

A command is called like its module. Its docstring is what `--help` says, `HELP` is its line in the list of all,
`add_arguments(parser)` declares its options, and `run(options)` does it and returns the exit status.
"""
