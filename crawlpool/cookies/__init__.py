"""Cookies that all threads share: the store, and the light view of it that a request carries."""

from __future__ import annotations

from crawlpool.cookies.store import CookieStore
from crawlpool.cookies.view import RequestCookies

__all__ = ["CookieStore", "RequestCookies"]
