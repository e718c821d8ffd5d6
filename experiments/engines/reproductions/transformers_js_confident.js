// transformers.js, log_softmax, confident: it computes in double, and log p of a surer class is 0 as well.

const { log_softmax } = require("@huggingface/transformers");

console.log("computed", ...log_softmax([40, 0]));
console.log("exact   ", -Math.log1p(Math.exp(-40)), -40 - Math.log1p(Math.exp(-40)));
