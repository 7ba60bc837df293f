"""What is measured: the paper's experiments, and those that the reproduction adds."""
