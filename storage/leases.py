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
from dataclasses import dataclass, field
from typing import Any

from storage.errors import StorageError, translated
from storage.files import create_exclusive, read_bytes, replace_if, with_retries, write_bytes_atomic
from storage.processes import lives, machine, start_of
from storage.trees import remove_tree
from storage.urls import URL, filesystem, is_local, join, last_part, local_path

BEAT_S, PATIENCE_S = 15.0, 60.0
FOLDER, OWNERS = "leases", "leases/owners"
log = logging.getLogger("nvds")


@dataclass
class Claim:
    """A name that this process holds. `deaths` counts owners of the same run that died with it in their hands.

    `before` is what the last of them noted, for example why it was stopped.
    """

    name: str
    text: bytes
    keeper: Leases = field(repr=False)
    deaths: int = 0
    before: Mapping[str, Any] = field(default_factory=dict)

    def held(self) -> bool:
        """Whether nobody has taken it over, as happens to a process that was suspended for long."""
        return self.keeper.content(self.name) == self.text

    def note(self, **notes: Any) -> None:
        """Add to what a successor will find in `before`."""
        document = json.loads(self.text)
        document["note"] |= notes
        self.text = json.dumps(document).encode()
        write_bytes_atomic(self.keeper.place(self.name), self.text)


class Leases:
    """The claims of one process below one output root; a context manager that gives all of them back.

    A thread writes a beat to ``leases/owners/`` from the first claim on.
    """

    def __init__(self, root: URL, run_id: str, *, beat_s: float = BEAT_S, patience_s: float = PATIENCE_S) -> None:
        self._root, self._run_id = os.fspath(root), run_id
        self._token = secrets.token_hex(8)
        self._beat_s, self._patience_s = beat_s, patience_s
        self._claims: dict[str, Claim] = {}
        self._seen: dict[str, tuple[bytes | None, float]] = {}
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Leases:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def place(self, name: str) -> str:
        """Where the claim of a name lies."""
        return join(self._root, FOLDER, f"{name}.json")

    def content(self, name: str) -> bytes | None:
        """The claim of a name as it stands in the store."""
        return _read(self.place(name))

    def claim(self, name: str, note: Mapping[str, Any] | None = None) -> Claim | None:
        """Take a name; None if somebody who lives has it.

        Raises:
            StorageError: the claim cannot be written.
        """
        self._begin()
        text = self._text(note, 0)
        if create_exclusive(self.place(name), text):
            return self._keep(Claim(name, text, self))
        found = self.content(name)
        if found is None:  # given back meanwhile
            return self._keep(Claim(name, text, self)) if create_exclusive(self.place(name), text) else None
        former = _parsed(found)
        if former.get("token") == self._token or not self._is_dead(name, found, former):
            return None
        deaths = int(former.get("deaths", 0)) + 1 if former.get("run_id") == self._run_id else 0
        text = self._text(note, deaths)
        if not replace_if(self.place(name), found, text):
            return None
        before = former.get("note", {}) if deaths else {}
        return self._keep(Claim(name, text, self, deaths, before))

    def release(self, claim: Claim) -> None:
        """Give a claim back, unless somebody else has it now."""
        with self._lock:
            self._claims.pop(claim.name, None)
        try:
            replace_if(self.place(claim.name), claim.text, None)
        except StorageError as error:
            log.warning("a lease was not given back, which costs others some patience: %s", error)

    def close(self) -> None:
        """Give everything back and end the beat."""
        for claim in list(self._claims.values()):
            self.release(claim)
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            with contextlib.suppress(StorageError):
                remove_tree(self._beat_place(self._token))

    def _keep(self, claim: Claim) -> Claim:
        with self._lock:
            self._claims[claim.name] = claim
        return claim

    def _text(self, note: Mapping[str, Any] | None, deaths: int) -> bytes:
        document = {
            "token": self._token,
            "run_id": self._run_id,
            "machine": machine(),
            "pid": os.getpid(),
            "started": start_of(os.getpid()),
            "deaths": deaths,
            "note": dict(note or {}),
        }
        return json.dumps(document).encode()

    def _is_dead(self, name: str, found: bytes, former: Mapping[str, Any]) -> bool:
        alive = lives(former.get("machine"), former.get("pid"), former.get("started"))
        if alive is not None:
            return not alive
        token = former.get("token")
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
            except StorageError as error:  # a disk that is full for a while: claims are checked before publication
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
            document = _parsed(_read(place) or b"")
            if lives(document.get("machine"), document.get("pid"), document.get("started")) is False:
                remove_tree(place)
                removed += 1
    return removed


def _listed(folder: str) -> list[str]:
    """The JSON files of a folder, which holds only what is being worked on."""
    names: list[str] = []
    with translated("list", folder), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if is_local(folder):
            names = os.listdir(local_path(folder))
        else:
            file_system, remote = filesystem(folder)
            names = with_retries(lambda: file_system.ls(remote, detail=False))
    return [join(folder, last_part(name)) for name in sorted(names) if name.endswith(".json")]


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
