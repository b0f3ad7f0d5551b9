"""A FastAPI app without workers: an APScheduler job ends sessions that are due and deletes what they leave."""
