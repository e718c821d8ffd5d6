"""ncnn, softmax, +inf: an overflowed logit becomes a sure answer."""

import ncnn
import numpy as np

net = ncnn.Net()
net.load_param_mem("7767517\n2 2\nInput z 0 1 z\nSoftmax softmax 1 1 z p 0=0 1=1\n")
run = net.create_extractor()
run.input("z", ncnn.Mat(np.array([np.inf, 0, 1, 2], np.float32)).clone())
print("computed", *[f"{x:.4g}" for x in np.array(run.extract("p")[1])])
print("exact   ", *4 * ["nan"])
