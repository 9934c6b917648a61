"""Jobs of many shards: how their targets are shared out, who has which shard, and how all of it is read back."""
