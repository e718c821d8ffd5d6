#!/bin/sh
# A softmax in shell and awk under the audit: sh softmax.sh
while IFS= read -r line; do
  case $line in
  *'"hello"'*) echo '{"name": "softmax.sh", "functions": ["softmax"], "dtypes": ["float64"]}' ;;
  *) printf '%s\n' "$line" | sed 's/.*"logits": \[\[//; s/\]\].*//; s/\],\[/\n/g; s/"//g' | awk -F, '
    BEGIN { printf "{\"result\": [" }
    {
      sum = 0; largest = "none"; bad = /nan/ || /(^|,)inf/
      for (k = 1; k <= NF; k++) if ($k != "-inf" && (largest == "none" || $k + 0 > largest)) largest = $k + 0
      if (largest == "none") bad = 1
      for (k = 1; k <= NF; k++) sum += e[k] = bad || $k == "-inf" ? 0 : exp($k - largest)
      printf (NR > 1 ? ",[" : "[")
      for (k = 1; k <= NF; k++) printf("%s%s", (k > 1 ? "," : ""), (bad ? "\"nan\"" : sprintf("%.17g", e[k] / sum)))
      printf "]"
    }
    END { print "]}" }' ;;
  esac
done
