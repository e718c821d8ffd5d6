// transformers.js: the functions of its own that act on arrays, of its source file.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const { serve } = createRequire(import.meta.url)("./answering.js");
const file = `${process.env.ENGINE_FOLDER}/node_modules/@huggingface/transformers/src/utils/maths.js`;
const { softmax, log_softmax } = await import(pathToFileURL(file).href);

const along = (call) => (given, [n, k]) => {
  const rows = Array.from({ length: n }, (_, i) => Array.from(call(given.subarray(i * k, (i + 1) * k))));
  return rows.flat();
};

serve("transformers.js", { softmax: along(softmax), log_softmax: along(log_softmax) });
