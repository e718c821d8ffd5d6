// TensorFlow.js on its backends cpu and wasm: its softmax takes the last axis alone.
"use strict";
const { option, serve } = require("./answering.js");

const backend = option("--mode", "cpu");
const installed = require("node:module").createRequire(`${process.env.ENGINE_FOLDER}/`);
const tf = installed("@tensorflow/tfjs-core");
installed(`@tensorflow/tfjs-backend-${backend}`);
const ready = tf.setBackend(backend).then(() => tf.ready());

const along = (call) => async (given, shape) => {
  await ready;
  const result = tf.tidy(() => call(tf.tensor(given, shape, "float32")));
  const found = await result.data();
  result.dispose();
  return found;
};

serve(`tfjs ${backend}`, {
  softmax: along((z) => tf.softmax(z, -1)),
  log_softmax: along((z) => tf.logSoftmax(z, -1)),
});
