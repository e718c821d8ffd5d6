"""mindspore, cross_entropy_grad, labels: a label that is none ends the process, now or at a later call."""

import subprocess
import sys

CODE = """import mindspore as ms
ms.set_device("CPU")
loss = lambda z: ms.ops.cross_entropy(z, ms.Tensor([3], ms.int32), reduction="none").sum()
for _ in range(1000):
    try: ms.grad(loss)(ms.Tensor([[0, 1, 2]], ms.float32)).asnumpy()
    except RuntimeError: pass
"""
done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, check=False)
print("computed", "ended by a signal" if done.returncode < 0 else "an error each time")
print("exact   ", "there is no such class: an error each time")
