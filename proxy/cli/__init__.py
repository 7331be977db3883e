"""The program: thin commands (flags in, calls to the parts below, words out), and what starts the roles.

`app.py` has all commands; `process.py` is what each process of a role begins with, without any of them.
"""
