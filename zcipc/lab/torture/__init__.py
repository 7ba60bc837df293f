"""Torture: real processes that are killed, stopped, corrupted and starved, and a count of what that did to the others.

A *round* is one function of a source of randomness that returns a `Tally`; `run.ROUNDS` has them all. In every round one
process suffers, the *victim*, and another one, the *survivor*, must get whole messages or a clear error, in time.
"""
