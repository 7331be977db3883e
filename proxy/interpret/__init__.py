"""A lens, from stored bytes to meaning: pure functions, without I/O, tables or clock."""
