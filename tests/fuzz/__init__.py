"""Coverage-guided fuzzing of what reads bytes of strangers; by hand, it is not part of the suite: `make fuzz`."""
