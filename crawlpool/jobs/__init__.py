"""Durable crawls: a folder that holds what there is to fetch and what came of it, whatever happens to the process."""
