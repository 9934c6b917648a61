"""The HTTP verbs, each a call of ``request``, with the types that editors and type checkers show."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from http.cookiejar import CookieJar

    import requests
    from typing_extensions import Unpack

    from crawlpool.config import TimeoutValue
    from crawlpool.retry import RetryPolicy


class LegOptions(TypedDict, total=False):
    """What every way of asking takes beside the URL: most that requests takes, and ``deadline`` and ``retry``."""

    params: Mapping[str, Any] | Iterable[tuple[str, Any]] | str | bytes | None
    headers: Mapping[str, str | None] | None
    cookies: Mapping[str, str] | CookieJar | None
    files: Any
    auth: tuple[str, str] | Callable[[requests.PreparedRequest], requests.PreparedRequest] | None
    timeout: TimeoutValue
    allow_redirects: bool
    proxies: Mapping[str, str] | None
    hooks: Any
    verify: bool | str | None
    cert: str | tuple[str, str] | None
    deadline: float | None
    retry: RetryPolicy | bool | None


class PostOptions(LegOptions, total=False):
    """What each verb takes."""

    stream: bool | None
    max_body_bytes: int | None


class PutOptions(PostOptions, total=False):
    """The same, with a body as JSON."""

    json: Any


class CallOptions(PutOptions, total=False):
    """The same, with any body."""

    data: Any


class BodyOptions(LegOptions, total=False):
    """What requests that workers send take: no ``stream``, for a streamed response would belong to a worker."""

    data: Any
    json: Any


class SubmitOptions(BodyOptions, total=False):
    """What ``submit`` and ``map`` take."""

    max_body_bytes: int | None


class Verbs(abc.ABC):
    """get, post and the others, from any thread. Each raises and returns what ``request`` does."""

    @abc.abstractmethod
    def request(self, method: str, url: str, **kwargs: Any) -> requests.Response:
        """Send a request and wait for its answer."""

    def get(self, url: str, **kwargs: Unpack[CallOptions]) -> requests.Response:
        """Send a GET request."""
        return self.request("GET", url, **kwargs)

    def options(self, url: str, **kwargs: Unpack[CallOptions]) -> requests.Response:
        """Send an OPTIONS request."""
        return self.request("OPTIONS", url, **kwargs)

    def head(self, url: str, **kwargs: Unpack[CallOptions]) -> requests.Response:
        """Send a HEAD request; as in requests, redirects aren't followed unless ``allow_redirects=True``."""
        kwargs.setdefault("allow_redirects", False)
        return self.request("HEAD", url, **kwargs)

    def post(self, url: str, data: Any = None, json: Any = None, **kwargs: Unpack[PostOptions]) -> requests.Response:
        """Send a POST request; it isn't retried unless the policy's ``methods`` say so."""
        return self.request("POST", url, **{**kwargs, "data": data, "json": json})

    def put(self, url: str, data: Any = None, **kwargs: Unpack[PutOptions]) -> requests.Response:
        """Send a PUT request."""
        return self.request("PUT", url, **{**kwargs, "data": data})

    def patch(self, url: str, data: Any = None, **kwargs: Unpack[PutOptions]) -> requests.Response:
        """Send a PATCH request; it isn't retried unless the policy's ``methods`` say so."""
        return self.request("PATCH", url, **{**kwargs, "data": data})

    def delete(self, url: str, **kwargs: Unpack[CallOptions]) -> requests.Response:
        """Send a DELETE request."""
        return self.request("DELETE", url, **kwargs)
