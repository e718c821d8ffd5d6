"""Small models on real digits: sigmoids, distillation, balance, and two classes (chapters 5 to 8)."""
