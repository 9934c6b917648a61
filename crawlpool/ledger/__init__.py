"""The ledger of a job: the durable truth of what there is to fetch and what came of it, in one SQLite file."""
