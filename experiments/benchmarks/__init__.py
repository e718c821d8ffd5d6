"""Benchmarks: each appends rows to a table in ``results``, which the book reads.

``python -m experiments.benchmarks.NAME`` runs one; ``--help`` lists what can be chosen.
"""
