"""What is put in the place of torch's and transformers' losses, and taken away again."""
