"""What applications use: sessions and what they own, synchronous and asynchronous on one core."""
