"""How long a test waits for what should end by itself: a guard against a hang, and no measure of speed on
however loaded a machine.
"""

HANG = 1800.0  # seconds
