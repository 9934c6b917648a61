"""Shards: a job cut by registrable domain, so that many processes work on it and each host has one owner.

What lies where: ``layout``. Which shard a host belongs to: ``hashing``, with what ``manifest`` froze. How targets come
to their shards: ``partition`` (the input) and ``segments`` (the files that carry them).
"""
