"""The records, arrays and recipes that every other folder uses (standard library and numpy only)."""
