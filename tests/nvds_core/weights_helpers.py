"""A small network with an official file of its own, and a web server that can be told to misbehave."""

from __future__ import annotations

import hashlib
import os
import pickle
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nvds_core import models, weights_catalog
from nvds_core.weights_catalog import Licence, OfficialFile
from tests.fill import fill

FILE = "mini_net.pth"
LICENCE = Licence("LicenseRef-Test", "for tests only")


class MiniNet(nn.Module):
    """Convolution, batch normalisation and an index table: all kinds of entries."""

    UNUSED_PREFIXES = ("classifier.",)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.register_buffer("table", torch.arange(6))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


def mini_state() -> dict[str, Tensor]:
    """What its official file holds: saved from DataParallel, with a classifier that nobody reads."""
    state = {f"module.{key}": value.clone() for key, value in fill(MiniNet()).state_dict().items()}
    return state | {"module.classifier.weight": torch.ones(2, 2)}


def mini_content(folder: Path) -> bytes:
    """The bytes of the official file."""
    torch.save(mini_state(), folder / "made.pth")
    return (folder / "made.pth").read_bytes()


def add_mini(monkeypatch: pytest.MonkeyPatch, *names: str, url: str | None = None, sha256: str = "") -> None:
    """Make ``mini`` a model with an official file, and each further name a variant of it with a file of its own."""
    monkeypatch.setitem(models.MODELS, "mini", MiniNet)
    for name in names or ("mini",):
        file = FILE if name == "mini" else f"{name}.pth"
        address = url and f"{url}/{file}"
        entry = OfficialFile(name, "mini", file, "https://example.org/mini", LICENCE, address, ("old.pt",), sha256)
        monkeypatch.setitem(weights_catalog.OFFICIAL, name, entry)


class Evil:
    """Writes a file when it is unpickled by a reader that trusts it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.marker}'",)


def evil_files(folder: Path, marker: Path) -> list[Path]:
    """The same attack in every container torch reads: zip, its old format, bare pickles."""
    folder.mkdir()
    content = {"conv.weight": torch.ones(2), "extra": Evil(marker)}
    torch.save(content, folder / "zip.pth")
    torch.save(content, folder / "old.pth", _use_new_zipfile_serialization=False)
    for protocol in (2, 4):
        (folder / f"bare{protocol}.pth").write_bytes(pickle.dumps({"x": Evil(marker)}, protocol=protocol))
    return sorted(folder.iterdir())


@dataclass
class Site:
    """What a server has, and how it behaves.

    ``cuts`` are the lengths after which the coming answers break off; ``refusals`` the status codes of the coming
    requests, before anything else. ``asked`` collects the Range header of every request.
    """

    content: bytes
    version: str = '"1"'
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    refusals: list[int] = field(default_factory=list)
    redirect: str | None = None
    asked: list[str | None] = field(default_factory=list)
    url: str = ""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            site.asked.append(wanted)
            if site.refusals:
                return self._empty(site.refusals.pop(0))
            if site.redirect:
                return self._empty(302, ("Location", site.redirect))
            start = 0
            if wanted and site.ranges and self.headers.get("If-Range") in (None, site.version):
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start >= len(site.content):
                    return self._empty(416, ("Content-Range", f"bytes */{len(site.content)}"))
            body = site.content[start:]
            self.send_response(206 if start else 200)
            if site.version:
                self.send_header("ETag", site.version)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: site.cuts.pop(0)] if site.cuts else body)
            return None

        def _empty(self, status: int, *headers: tuple[str, str]) -> None:
            self.send_response(status)
            for name, value in (*headers, ("Content-Length", "0")):
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Serve a site on a free port of this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(site)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        site.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()
