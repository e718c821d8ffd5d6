"""The ground of the torch package: tensors, labels, checks, and what torch says of its own state."""
