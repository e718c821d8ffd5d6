"""A softmax in Python without any package under the audit: python softmax.py."""

import json
import math
import sys


def softmax(row):
    largest = max(row)
    if math.isnan(sum(row)) or math.isinf(largest):
        return ["nan"] * len(row)
    terms = [math.exp(z - largest) for z in row]
    total = math.fsum(terms)
    return [term / total for term in terms]


for line in sys.stdin:
    asked = json.loads(line)
    if "hello" in asked:
        said = {"name": "softmax.py", "functions": ["softmax"], "dtypes": ["float64"]}
    else:  # float reads "nan", "inf" and "-inf" too
        said = {"result": [softmax([float(z) for z in row]) for row in asked["logits"]]}
    print(json.dumps(said), flush=True)
