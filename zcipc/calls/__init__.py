"""What remote procedure calls are made of."""
