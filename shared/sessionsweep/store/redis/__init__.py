"""The Redis (or Valkey) store: one wire table, a synchronous and an asynchronous sender."""
