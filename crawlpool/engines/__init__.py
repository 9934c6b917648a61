"""Engines: what runs the shards of a job, in this process or on a Dask cluster."""
