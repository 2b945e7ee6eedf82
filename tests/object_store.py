"""An S3 server over real HTTP (moto, in this process) that can answer badly, and remembers what it was asked."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs
from urllib.request import Request, urlopen

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
INTERNAL = b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"
Environ = dict[str, Any]
StartResponse = Callable[..., Any]


@dataclass
class ObjectStore:
    """A WSGI application around moto's: requests are noted, and some of them fail.

    Attributes:
        share: part of the requests that fail, in one of the ways of ``faults``: 500, 503 SlowDown, a late answer, or
            a connection that breaks off in the middle of the body.
        requests: (method, path, query) in the order of arrival.
    """

    inner: Callable[[Environ, StartResponse], Iterable[bytes]]
    share: float = 0.0
    faults: tuple[str, ...] = ("500", "503", "late", "broken")
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    failed: int = 0
    endpoint: str = ""
    _random: random.Random = field(default_factory=lambda: random.Random(0))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, environ: Environ, start: StartResponse) -> Iterable[bytes]:
        with self._lock:
            self.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("QUERY_STRING", "")))
            fault = self._random.choice(self.faults) if self._random.random() < self.share else ""
            self.failed += bool(fault)
        if fault in ("500", "503"):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            status = "500 Internal Server Error" if fault == "500" else "503 Slow Down"
            body = INTERNAL if fault == "500" else SLOW_DOWN
            start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
        if fault == "broken":
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start("200 OK", [("Content-Type", "binary/octet-stream"), ("Content-Length", "1000")])
            return [b"half"]  # the server closes, 996 bytes short
        if fault == "late":
            time.sleep(0.3)
        return self.inner(environ, start)

    def listed(self) -> list[str]:
        """The prefixes that were listed."""
        queries = [parse_qs(query, keep_blank_values=True) for method, _, query in self.requests if method == "GET"]
        return [query["prefix"][0] for query in queries if "list-type" in query and "prefix" in query]


@contextmanager
def running_store() -> Iterator[ObjectStore]:
    """The server on a free port of this machine, until the block ends."""
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)  # it reports every broken connection
    store = ObjectStore(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, store, threaded=True)
    store.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        _forget_everything(store)
        yield store
        store.share = 0.0
        _forget_everything(store)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _forget_everything(store: ObjectStore) -> None:
    """Buckets of moto belong to the process, not to the server."""
    urlopen(Request(f"{store.endpoint}/moto-api/reset", method="POST")).close()
