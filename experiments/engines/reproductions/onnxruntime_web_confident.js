// onnxruntime-web, log_softmax, confident: log p of a sure class is 0, and so is the loss of its row.

const ort = require("onnxruntime-web");
// a model of one node: printed by onnx.parser.parse_model(...).SerializeToString() in base64
const MODEL = "CAg6VAohCgF6EgFwIgpMb2dTb2Z0bWF4KgsKBGF4aXMYAaABAjoAEgFmWhUKAXoSEAoOCAESCgoDEgFOCgMSAUtiFQoBcBIQCg4IARIKCgMSAU4KAxIBS0IECgAQDQ==";

ort.env.wasm.numThreads = 1;
ort.InferenceSession.create(Uint8Array.from(Buffer.from(MODEL, "base64"))).then(async (session) => {
  const { p } = await session.run({ z: new ort.Tensor("float32", [25, 0], [1, 2]) });
  console.log("computed", p.data[0], p.data[1]);
  console.log("exact   ", -Math.log1p(Math.exp(-25)), -25 - Math.log1p(Math.exp(-25)));
});
