/* A softmax in C, in float32, under the audit: cc -O2 -o softmax softmax.c -lm && ./softmax */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void write_softmax(const float *z, size_t n) {
  float largest = z[0], sum = 0;
  for (size_t k = 1; k < n; k++) largest = z[k] > largest ? z[k] : largest;
  for (size_t k = 0; k < n; k++) sum += expf(z[k] - largest); /* a NaN stays in the sum */
  for (size_t k = 0; k < n; k++) {
    float p = expf(z[k] - largest) / sum;
    printf(isnan(p) ? "%s\"nan\"" : "%s%.9g", k ? "," : "", p);
  }
}

int main(void) {
  char *line = NULL;
  for (size_t room = 0, n = 0, depth = 0; getline(&line, &room, stdin) > 0; fflush(stdout)) {
    char *at = strstr(line, "\"logits\": ");
    if (!at) { /* hello */
      puts("{\"name\": \"softmax.c\", \"functions\": [\"softmax\"], \"dtypes\": [\"float32\"]}");
      continue;
    }
    float *z = malloc(strlen(line) * sizeof *z);
    printf("{\"result\": ");
    for (at += 10; depth || *at == '['; at++) {
      if (*at == '[') depth++, n = 0, putchar('[');
      else if (*at == ']') { if (depth-- == 2) write_softmax(z, n); putchar(']'); }
      else if (*at == ',') { if (depth == 1) putchar(','); }
      else if (*at != '"') z[n++] = strtof(at, &at), at--; /* it reads nan, inf and -inf too */
    }
    puts("}");
    free(z);
  }
}
