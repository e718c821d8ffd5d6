"""mlx, log_softmax, ordinary rows: a row of one class ends the whole process."""

import subprocess
import sys

CODE = "import mlx.core as mx, mlx.nn as nn; mx.set_default_device(mx.cpu); "
CODE += "print(nn.log_softmax(mx.array([[0.0], [1.0]])).tolist())"
done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
print("computed", "ended by a signal" if done.returncode < 0 else done.stdout.strip())
print("exact   ", [[0.0], [0.0]])
