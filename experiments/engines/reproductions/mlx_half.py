"""mlx, softmax, long rows: in half precision the sum stops growing, and the whole is far over one."""

import math

import mlx.core as mx

mx.set_default_device(mx.cpu)
for precise in (False, True):
    p = mx.softmax(mx.zeros((128_256,), mx.bfloat16), precise=precise)
    print("computed sum", math.fsum(p.astype(mx.float32).tolist()), f"with precise={precise}")
print("exact sum   ", 1.0)
