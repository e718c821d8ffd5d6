"""mindspore, log_softmax, in company: along the first axis two equal rows and one differ."""

import mindspore

mindspore.set_device("CPU")
row = [-7.5, 2.5, 0.0, -11.25, 10.0, 5.0, -5.0, -11.25, -10.0, 6.25]
for n in (1, 2):
    z = mindspore.Tensor([[x] * n for x in row], mindspore.float32)
    print("computed", float(mindspore.ops.log_softmax(z, axis=0).asnumpy()[4, 0]), "of", n)
print("exact   ", -0.030388081022527092)
