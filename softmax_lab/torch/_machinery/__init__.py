"""Losses without whole logits: rows in chunks, and classes spread over processes."""
