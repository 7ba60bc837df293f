"""What happens in shared memory: the queues, the seats, the lock, and how the sides wait for each other."""
