"""The requests adapter of the libcurl transport: what ``session.get_adapter`` finds, and what one can mount."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from requests.adapters import HTTPAdapter

from crawlpool.clock import Deadline
from crawlpool.errors import BodyTooLarge, TruncatedBody
from crawlpool.transport.base import Exchange
from crawlpool.transport.curl.engine import Engine
from crawlpool.transport.curl.faults import fault_of
from crawlpool.transport.curl.header import response_of
from crawlpool.transport.curl.library import EngineSettings
from crawlpool.transport.curl.raw import StreamedAnswer, StreamReader
from crawlpool.transport.curl.route import Routes
from crawlpool.transport.curl.transfer import Transfer
from crawlpool.transport.keeping import keeps_here
from crawlpool.transport.reach import permits_here
from crawlpool.transport.response import LeanResponse, raw_of

if TYPE_CHECKING:
    import requests

    from crawlpool.transport.curl.stream import BodyStream
    from crawlpool.transport.curl.transfer import Inbox

_REQUESTS_SEND = HTTPAdapter.send


def is_whole(body: Any) -> bool:
    """Tell whether a request's body can be handed over as it is; any other is read piece by piece."""
    if isinstance(body, (bytes, str)):
        return True
    if hasattr(body, "read"):
        return False
    try:
        memoryview(body)
    except TypeError:
        return False
    return True


class CurlAdapter(HTTPAdapter):
    """Sends requests through an engine and waits for the answer.

    Args:
        engine: the pool's; by itself an adapter has one of its own, which ``close`` ends. One can be mounted on any
            ``requests.Session``.

    An adapter belongs to one session, and that to one thread; the engine behind it is shared.
    """

    def __init__(self, engine: Engine | None = None) -> None:
        self.engine = engine or Engine(EngineSettings(), is_reusable=True)
        settings = self.engine.settings
        self._routes = Routes(settings.reach, settings.resolve)
        super().__init__()

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("an adapter of crawlpool belongs to one session and can't be pickled; mount a factory instead")

    def close(self) -> None:
        """Close the connections, if no pool has the engine; a pool closes its own itself."""
        super().close()
        if self.engine.is_reusable:
            self.engine.close()

    # The way of a request ----------------------------------------------------------------------------------------

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """Send a request once and return its response.

        Takes and raises what ``requests.adapters.HTTPAdapter.send`` does. Unless ``stream`` is set the body has come.
        """
        if self.is_mocked():
            return HTTPAdapter.send(self, request, stream, timeout, verify, cert, proxies)
        settings = {"stream": stream, "timeout": timeout, "verify": verify, "cert": cert, "proxies": proxies}
        keeps_wire = keeps_here() and not stream
        return self.perform(Exchange(request, settings, Deadline(None), keeps_wire=keeps_wire, inputs=permits_here()))

    @staticmethod
    def is_mocked() -> bool:
        """Tell whether somebody has put a mock in the place of ``HTTPAdapter.send``: ``responses`` does."""
        return HTTPAdapter.send is not _REQUESTS_SEND

    @staticmethod
    def must_pump(exchange: Exchange) -> bool:
        """Tell whether a thread has to stay with the exchange: to read the request's body for it."""
        body = exchange.request.body
        return body is not None and not is_whole(body)

    def perform(self, exchange: Exchange) -> LeanResponse:
        """Send an exchange and wait: for its end, or for its header where its body is to be streamed.

        Raises:
            requests.RequestException: as ``send``; ``DeadlineExceeded``, ``Cancelled``, ``BodyTooLarge`` besides.
            PoolClosed: when the engine was closed meanwhile.
        """
        self.engine.check_may_wait()
        transfer = self.transfer_for(exchange)
        try:
            self.engine.submit([transfer])
            if transfer.upload is not None:
                transfer.upload.pump()
            transfer.wait()
        except BaseException:
            transfer.cancel()
            raise
        finally:
            exchange.end = None  # a method of the transfer, which knows the exchange
        if transfer.stream is not None and transfer.has_header and not (transfer.is_ended and transfer.stopped):
            return self._streamed(transfer, transfer.stream)
        return self.answer(transfer)

    def _streamed(self, transfer: Transfer, stream: BodyStream) -> LeanResponse:
        reader = StreamReader(transfer, stream)
        try:
            response = response_of(transfer, self)
            response.raw = raw_of(response, reader, StreamedAnswer)
            if transfer.exchange.accept is not None:
                transfer.exchange.accept(response)
        except BaseException:
            reader.close()
            raise
        return response

    def answer(self, transfer: Transfer) -> LeanResponse:
        """Return the response of a transfer that has ended.

        Raises:
            requests.RequestException: what it failed with.
        """
        self.engine.release((transfer,))
        fault = fault_of(transfer)
        if fault is None:
            return response_of(transfer, self)
        if isinstance(fault, (TruncatedBody, BodyTooLarge)) and not transfer.exchange.keeps_redirect:
            # Nobody looks at the body of a redirect that is followed. requests does the same.
            transfer.body = ()  # to put it together would take its memory once more
            response = response_of(transfer, self)
            if response.is_redirect:
                response._content, response._content_consumed = b"", True
                if response.kept is not None:
                    response.kept.body = None  # it isn't whole
                return response
        raise fault

    def transfer_for(self, exchange: Exchange, inbox: Inbox | None = None) -> Transfer:
        """Return the transfer of an exchange, not yet begun.

        Args:
            inbox: who takes it when it has ended; ``None`` for the calling thread, by ``Transfer.wait``.

        Raises:
            requests.exceptions.InvalidURL, InvalidSchema, InvalidProxyURL: for what can't be requested.
            BlockedAddress: for a host that isn't public, and that nothing permits.
        """
        request, settings = exchange.request, exchange.settings
        route, url = self._routes.to(request.url or "", settings, request)
        engine = self.engine
        transfer = Transfer(exchange, url, route, engine, self, inbox)
        if route.need is not None:
            transfer.grant = engine.settings.reach.admit(route.need, exchange.inputs, request)
        elif route.grant is not None:
            transfer.grant = route.grant
        if settings["stream"]:
            transfer.stream = engine.new_stream()
            transfer.stream.resume = lambda: transfer.ender.resume(transfer)
        body = request.body
        if body is not None and not is_whole(body):
            length = request.headers.get("Content-Length")
            is_chunked = "Transfer-Encoding" in request.headers
            transfer.upload = engine.new_upload(body, int(length) if length and not is_chunked else None)
            transfer.upload.resume = lambda: engine.resume(transfer)
        exchange.end = transfer.cancel
        return transfer
