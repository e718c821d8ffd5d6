"""Experiments of the book: a module a question, run with ``python -m experiments.<module>`` from the root of
the repository.
"""
