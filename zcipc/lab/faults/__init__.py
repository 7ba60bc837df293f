"""What happens to the other side when a process is killed, stopped or forked: zcipc and other libraries, side by side.

`pair` has the two processes, `cases` what is done to them, `left` what remains of them, `run` the repetitions and the table.
"""
