"""The loss family in plain torch: its fields, the formula of a row, rows, and whole losses."""
