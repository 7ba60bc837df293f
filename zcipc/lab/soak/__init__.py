"""Soak: hours of traffic between two processes, every byte checked, and the question whether memory and latency stay flat.

`work` has the loops of the two, `judge` the rule, `run` what the command does with them.
"""
