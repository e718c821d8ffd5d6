"""litert, log_softmax, confident: log p of a sure class is 0, and so is the loss of its row."""

import base64
import zlib

import numpy as np
from ai_edge_litert.interpreter import Interpreter

MODEL = b"c-n1`Ar3+@5JX?0f`kpJ_<{o<(El4wfI=V;90Sd15C{&%UCMTM`$-6CChbh8JJT(2Ii4oiFi;Rys$^v-gS~<TOB{nj%mI"
MODEL += b"&D>r?Skr0~l;C7Z8l=a!+k`Y4;>d6;({d9Jf7an82<O$UGYLUD*rZ|x$XNqBC-)2tV}>m9qV@An`7_iwE$mejnX$B!R>y%k3"
run = Interpreter(model_content=zlib.decompress(base64.b85decode(MODEL)))  # LOG_SOFTMAX of (1, 2)
run.allocate_tensors()
run.set_tensor(0, np.array([[25, 0]], np.float32))
run.invoke()
print("computed", run.get_tensor(1)[0].tolist(), "\nexact   ", [-1.3887943864867583e-11, -25.000000000013888])
