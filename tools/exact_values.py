"""Compute the audit's exact values afresh and store them in the package: `python tools/exact_values.py`."""

from softmax_lab.audit import run, values

if __name__ == "__main__":
    with values.storing():
        run(["softmax_lab"])
