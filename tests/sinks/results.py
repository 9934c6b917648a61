"""Results for the tests of sinks, made of real responses."""

from __future__ import annotations

from typing import Any

import requests

from crawlpool.models import Outcome, Result, Target


def result_of(
    url: str = "http://h/", *, status: int = 200, body: bytes = b"hello", final_url: str | None = None, **more: Any
) -> Result:
    """Return an ``ok`` result with a response that was read."""
    response = requests.Response()
    response.status_code = status
    response._content = body
    response.url = final_url or url
    response.headers.update({"Content-Type": "text/html", "ETag": '"x"'})
    target = more.pop("target", None) or Target(url, meta=more.pop("meta", None), n=more.pop("n", None))
    return Result(target, Outcome.OK, response=response, elapsed_s=0.084, **more)
