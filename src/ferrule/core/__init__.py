"""The records, arrays, recipes and papers that every other folder speaks (standard library and numpy only)."""
