"""ncnn: a model of two layers, of matrices or, in the mode "1d", of one row at a time."""

import tempfile
from pathlib import Path

import ncnn
import numpy as np
from answering import options, serve

OPTIONS = options("1d")
LAYERS = "7767517\n2 2\nInput z 0 1 z\nSoftmax softmax 1 1 z p 0={axis} 1=1\n"


def network(axis):
    with tempfile.TemporaryDirectory() as folder:
        param, weights = Path(folder) / "net.param", Path(folder) / "net.bin"
        param.write_text(LAYERS.format(axis=axis), encoding="ascii")
        weights.write_bytes(b"")
        net = ncnn.Net()
        net.load_param(str(param))
        net.load_model(str(weights))
    return net


NETWORKS = {axis: network(axis) for axis in (0, 1)}


def run(array, axis):
    extractor = NETWORKS[axis].create_extractor()
    extractor.input("z", ncnn.Mat(np.ascontiguousarray(array)).clone())
    status, out = extractor.extract("p")
    if status != 0:
        raise RuntimeError(f"extract returns {status}")
    return np.array(out).copy()


def softmax(z, axis):
    if OPTIONS.mode == "1d":
        return np.stack([run(row, 0) for row in z])
    return run(z, axis % 2)


serve("ncnn", {"softmax": softmax}, axis=OPTIONS.axis)
