"""Campaigns in which processes are killed, databases vanish, disks fill up and traffic goes on for long, and what must
hold all the same.

The suite runs the short form of each (tests/flow/survival, tests/flow/test_soak.py), `make chaos` the long one.
"""
