// A softmax in JavaScript under the audit: node softmax.js
const number = (x) => (typeof x === "string" ? { nan: NaN, inf: Infinity, "-inf": -Infinity }[x] : x);
const text = (x) => (Number.isFinite(x) ? x : isNaN(x) ? "nan" : x > 0 ? "inf" : "-inf"); // JSON has none of these

function softmax(row) {
  const largest = row.reduce((a, b) => (a > b || isNaN(a) ? a : b)); // Math.max(...row) has no room for a million
  const terms = row.map((z) => Math.exp(z - largest));
  const sum = terms.reduce((a, b) => a + b);
  return terms.map((term) => term / sum);
}

function answer(asked) {
  if (asked.hello) return { name: "softmax.js", functions: ["softmax"], dtypes: ["float64"] };
  return { result: asked.logits.map((row) => softmax(row.map(number)).map(text)) };
}

const lines = require("node:readline").createInterface({ input: process.stdin });
lines.on("line", (line) => console.log(JSON.stringify(answer(JSON.parse(line)))));
