"""The proofs of jobs of shards: the same records whichever engine runs them, and a cluster whose parts are killed."""
