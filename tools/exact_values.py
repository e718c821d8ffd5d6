"""Compute the audit's exact values afresh and store them in the package: `python tools/exact_values.py`."""

from softmax_lab.audit import values

if __name__ == "__main__":
    values.write()
