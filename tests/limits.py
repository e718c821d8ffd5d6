"""How long a test waits for what should end by itself.

It guards against a hang. It is no measure of speed, on however loaded a machine.
"""

HANG = 1800.0  # seconds
