// tfjs, log_softmax, confident: log p of a sure class is 0, and so is the loss of its row.

const tf = require("@tensorflow/tfjs-core");
require("@tensorflow/tfjs-backend-cpu");

tf.setBackend("cpu");
const p = tf.logSoftmax(tf.tensor2d([[25, 0]])).dataSync();
console.log("computed", p[0], p[1]);
console.log("exact   ", -Math.log1p(Math.exp(-25)), -25 - Math.log1p(Math.exp(-25)));
