"""Who works on what: claims that end with their owner, so that two runs on one output do not do the same work.

Claims save work and nothing more: publication is atomic and by content, so even two owners of one claim cannot spoil a
result. No clock is compared with another. An owner on this machine is asked for by process number; any other has to
show a new beat within `PATIENCE_S` of the watcher's own monotonic time. Clocks that jump or differ change nothing.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any

from storage.errors import StorageError
from storage.files import create_exclusive, list_names, read_bytes, replace_if, write_bytes_atomic
from storage.processes import lives, machine, start_of
from storage.trees import remove_tree
from storage.urls import URL, join

BEAT_S, PATIENCE_S = 15.0, 60.0
FOLDER, OWNERS = "leases", "leases/owners"
log = logging.getLogger("nvds")


class Leases:
    """The claims of one process below one output root; a context manager that gives all of them back.

    A thread writes a beat to ``leases/owners/`` from the first claim on. Several threads may claim and release.
    """

    def __init__(self, root: URL, run_id: str, *, beat_s: float = BEAT_S, patience_s: float = PATIENCE_S) -> None:
        self._root, self._run_id = os.fspath(root), run_id
        self._token = secrets.token_hex(8)
        self._beat_s, self._patience_s = beat_s, patience_s
        self._claims: dict[str, bytes] = {}
        self._seen: dict[str, tuple[bytes | None, float]] = {}
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Leases:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def claim(self, name: str, note: Mapping[str, Any] | None = None) -> bool:
        """Take a name; False if somebody who lives has it, be it this process.

        Args:
            name: a file-name safe text.
            note: what `open_claims` tells others about it, as JSON.

        Raises:
            StorageError: the claim cannot be written.
        """
        self._begin()
        text, place = self._text(note), self._place(name)
        taken = create_exclusive(place, text)
        if not taken:
            found = _read(place)
            if found is None:  # given back meanwhile
                taken = create_exclusive(place, text)
            elif self._is_dead(name, found):
                taken = replace_if(place, found, text)
        if taken:
            with self._lock:
                self._claims[name] = text
        return taken

    def is_free(self, name: str) -> bool:
        """Whether a claim of the name would succeed now, as far as can be told."""
        found = _read(self._place(name))
        return found is None or self._is_dead(name, found)

    def release(self, name: str) -> None:
        """Give a name back, unless somebody else has it by now."""
        with self._lock:
            text = self._claims.pop(name, None)
        if text is None:
            return
        try:
            replace_if(self._place(name), text, None)
        except StorageError as error:
            log.warning("a lease was not given back, which costs others some patience: %s", error)

    def close(self) -> None:
        """Give everything back and end the beat."""
        for name in list(self._claims):
            self.release(name)
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            with contextlib.suppress(StorageError):
                remove_tree(self._beat_place(self._token))

    def _place(self, name: str) -> str:
        return join(self._root, FOLDER, f"{name}.json")

    def _text(self, note: Mapping[str, Any] | None) -> bytes:
        document = {
            "token": self._token,
            "run_id": self._run_id,
            "machine": machine(),
            "pid": os.getpid(),
            "started": start_of(os.getpid()),
            "note": dict(note or {}),
        }
        return json.dumps(document).encode()

    def _is_dead(self, name: str, found: bytes) -> bool:
        former = _parsed(found)
        token = former.get("token")
        if token == self._token:
            return False
        alive = lives(former.get("machine"), former.get("pid"), former.get("started"))
        if alive is not None:
            return not alive
        beat = _read(self._beat_place(token)) if isinstance(token, str) and token.isalnum() else None
        # a claim that changes is a sign of life like a beat; names, as a damaged claim has no token
        sign, now = found + (beat or b""), time.monotonic()
        before, since = self._seen.get(name, (None, now))
        if before != sign:
            since = now
        self._seen[name] = (sign, since)
        return now - since >= self._patience_s

    def _begin(self) -> None:
        with self._lock:
            if self._thread is None:
                self._beat(0)
                self._stop.clear()
                self._thread = threading.Thread(target=self._beats, name="lease", daemon=True)
                self._thread.start()

    def _beats(self) -> None:
        count = 0
        while not self._stop.wait(self._beat_s):
            count += 1
            try:
                self._beat(count)
            except StorageError as error:  # a disk that is full for a while
                log.warning("the sign of life of this run was not written: %s", error)

    def _beat(self, count: int) -> None:
        document = {"machine": machine(), "pid": os.getpid(), "started": start_of(os.getpid()), "beat": count}
        write_bytes_atomic(self._beat_place(self._token), json.dumps(document).encode())

    def _beat_place(self, token: str) -> str:
        return join(self._root, OWNERS, f"{token}.json")


def open_claims(root: URL) -> list[dict[str, Any]]:
    """All claims below an output root, with ``alive``: True, False, or None for owners on other machines."""
    claims = []
    for place in _listed(join(root, FOLDER)):
        text = _read(place)
        if text is not None:
            claim = _parsed(text)
            alive = lives(claim.get("machine"), claim.get("pid"), claim.get("started"))
            claims.append({**claim, "place": place, "alive": alive})
    return claims


def sweep_claims(root: URL) -> int:
    """Remove claims and beats of processes of this machine that are dead; returns how many."""
    removed = 0
    for folder in (FOLDER, OWNERS):
        for place in _listed(join(root, folder)):
            text = _read(place) or b""
            document = _parsed(text)
            if lives(document.get("machine"), document.get("pid"), document.get("started")) is False:
                removed += replace_if(place, text, None)  # unless somebody has taken it over since
    return removed


def _listed(folder: str) -> list[str]:
    """The JSON files of a folder, which holds only what is being worked on."""
    return [join(folder, name) for name in list_names(folder) if name.endswith(".json")]


def _read(place: str) -> bytes | None:
    try:
        return read_bytes(place)
    except StorageError as error:
        if error.reason != "absent":
            raise
        return None


def _parsed(text: bytes) -> dict[str, Any]:
    """The document in a claim, empty if it is damaged."""
    with contextlib.suppress(ValueError):
        document = json.loads(text)
        if isinstance(document, dict):
            return document
    return {}
