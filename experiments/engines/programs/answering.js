// What every engine's program on Node shares: it answers the audit's protocol, with typed arrays in between.
"use strict";

const NUMBERS = { nan: NaN, inf: Infinity, "-inf": -Infinity };
const number = (x) => (typeof x === "string" ? NUMBERS[x] : x);
const text = (x) => (Number.isFinite(x) ? x : Number.isNaN(x) ? "nan" : x > 0 ? "inf" : "-inf");

function option(name, otherwise) {
  const place = process.argv.indexOf(name);
  return place < 0 ? otherwise : process.argv[place + 1];
}

/** Answer until the input ends: each of `functions` takes (Float32Array, [N, K], axis), and may be async. */
function serve(name, functions, dtypes = ["float32"]) {
  const axis = Number(option("--axis", "-1"));

  async function answer(asked) {
    if (asked.hello) return { name, functions: Object.keys(functions), dtypes };
    const [n, k] = asked.shape;
    const shape = axis === 0 ? [k, n] : [n, k];
    const at = (i, j) => (axis === 0 ? j * n + i : i * k + j);
    const given = new (asked.dtype === "float64" ? Float64Array : Float32Array)(n * k);
    asked.logits.forEach((row, i) => row.forEach((x, j) => (given[at(i, j)] = number(x))));
    try {
      const found = await functions[asked.function](given, shape, axis);
      return { result: asked.logits.map((row, i) => row.map((_, j) => text(found[at(i, j)]))) };
    } catch (error) {
      return { error: String(error).slice(0, 500) };
    }
  }

  const say = console.log;
  console.log = console.info = console.error; // what an engine prints of itself goes to standard error
  let last = Promise.resolve();
  require("node:readline")
    .createInterface({ input: process.stdin })
    .on("line", (line) => {
      last = last.then(async () => say(JSON.stringify(await answer(JSON.parse(line)))));
    });
}

module.exports = { option, serve };
