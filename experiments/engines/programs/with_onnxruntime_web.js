// ONNX Runtime for the web, its WebAssembly on one thread. The models are those that onnx_models.py would write.
"use strict";
const { serve } = require("./answering.js");

const installed = require("node:module").createRequire(`${process.env.ENGINE_FOLDER}/`);
const ort = installed("onnxruntime-web");
ort.env.wasm.numThreads = 1;

// ONNX is a protocol buffer: a field's number and kind, and its bytes
const varint = (n) => (n < 128 ? [n] : [(n & 127) | 128, ...varint(n >>> 7)]);
const bytes = (field, content) => [...varint(field * 8 + 2), ...varint(content.length), ...content];
const words = (field, said) => bytes(field, [...Buffer.from(said)]);
const whole = (field, value) => [...varint(field * 8), ...varint(value)];

function model(operator, axis) {
  const dimension = (name) => bytes(1, words(2, name));
  const tensor = bytes(1, [...whole(1, 1), ...bytes(2, [...dimension("N"), ...dimension("K")])]);
  const value = (name) => [...words(1, name), ...bytes(2, tensor)];
  const attribute = [...words(1, "axis"), ...whole(3, axis), ...whole(20, 2)];
  const node = [...words(1, "z"), ...words(2, "p"), ...words(4, operator), ...bytes(5, attribute)];
  const graph = [...bytes(1, node), ...words(2, operator), ...bytes(11, value("z")), ...bytes(12, value("p"))];
  return Uint8Array.from([...whole(1, 8), ...bytes(7, graph), ...bytes(8, [...words(1, ""), ...whole(2, 13)])]);
}

const sessions = {};
const along = (operator) => async (given, shape, axis) => {
  const place = axis === 0 ? 0 : 1;
  sessions[`${operator} ${place}`] ??= await ort.InferenceSession.create(model(operator, place), {
    executionProviders: ["wasm"],
  });
  const found = await sessions[`${operator} ${place}`].run({ z: new ort.Tensor("float32", given, shape) });
  return found.p.data;
};

serve("onnxruntime-web", { softmax: along("Softmax"), log_softmax: along("LogSoftmax") });
