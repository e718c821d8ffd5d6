"""Benchmarks: each writes rows of data that the book reads."""
