"""Experiments of the book: a folder a question, run from the root of the repository.

- ``long_tail``: which loss for a long tail? The grid of chapters 7 and 9.
- ``speed``: how fast, and how accurate at that speed? What chapter 10 says of the stored measurements.
- ``benchmarks``: the measurements themselves, a command each.
- ``exhaustive``: is it right on every argument there is?
- ``large_vocabulary``: 50,001 classes on one and on two processes, and the cost of ten million.
- ``frameworks``: what do the frameworks really do? The stored audit of chapter 4.
- ``stability``: what does each way of keeping softmax in range cost? Chapter 2.
- ``digits``: small networks and linear classifiers on real digits, chapters 5 to 8.
- ``interactive``: the pictures that answer when touched.
- ``calibration`` and ``cost_of_gradient``: a file each.
- ``differences``: paired differences, and which of many are more than chance.

``machine``, ``memory`` and ``tables`` are what they share. ``python -m experiments.NAME`` runs what has a
command; its results are in ``results``.
"""
