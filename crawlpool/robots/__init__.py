"""robots.txt (RFC 9309): what a file allows, and which origins' files are known. Pure: nothing is fetched here."""

from crawlpool.robots.gate import Answer, Fetched, Gate
from crawlpool.robots.rules import Robots, product_token

__all__ = ["Answer", "Fetched", "Gate", "Robots", "product_token"]
