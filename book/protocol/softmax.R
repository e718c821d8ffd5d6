# A softmax in R under the audit: Rscript softmax.R
softmax <- function(z) {
  terms <- exp(z - max(z))
  terms / sum(terms)
}

row <- function(text) {
  p <- softmax(as.numeric(gsub('"', "", strsplit(text, ",")[[1]]))) # it reads nan, inf and -inf too
  paste(ifelse(is.nan(p), '"nan"', sprintf("%.17g", p)), collapse = ",")
}

input <- file("stdin", "r")
while (length(line <- readLines(input, n = 1)) == 1) {
  if (grepl('"hello"', line, fixed = TRUE)) {
    cat('{"name": "softmax.R", "functions": ["softmax"], "dtypes": ["float64"]}\n')
  } else {
    rows <- sub("\\]\\].*", "", sub('.*"logits": \\[\\[', "", line))
    rows <- vapply(strsplit(rows, "],[", fixed = TRUE)[[1]], row, "")
    cat('{"result": [[', paste(rows, collapse = "],["), "]]}\n", sep = "")
  }
  flush(stdout())
}
