"""Intermediate results on a local disk: made beside, published by one rename, found by key."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from storage.errors import StorageError, translated
from storage.files import read_json, sync_path
from storage.processes import lives, machine, start_of
from storage.trees import remove_tree, sync_tree
from storage.urls import local_path

_SAFE_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_OWNER_SUFFIX = ".owner"
_PART_SUFFIX = "-part"
_FOREIGN_AGE_S = 86400.0


@dataclass(frozen=True)
class ArtifactRef:
    """The name of one artifact: which step made it, and the key of what it was made from.

    Valid on every machine and after the store has moved.
    """

    step: str
    key: str

    def __post_init__(self) -> None:
        for part in (self.step, self.key):
            if not _SAFE_PART.fullmatch(part):
                raise StorageError(
                    f"{part!r} cannot name an artifact; use letters, digits, '_', '.' and '-'", reason="unsafe_name"
                )

    def __str__(self) -> str:
        return f"{self.step}/{self.key}"


class ArtifactStore:
    """Folders ``<root>/<step>/<key>``, each there whole or not at all. Cheap to make and to pickle."""

    def __init__(self, root: str | Path) -> None:
        self.root = local_path(root).absolute()

    def __repr__(self) -> str:
        return f"ArtifactStore({str(self.root)!r})"

    def path(self, ref: ArtifactRef) -> Path:
        """Where the artifact is, or would be."""
        return self.root / ref.step / ref.key

    def find(self, ref: ArtifactRef) -> Path | None:
        """The artifact's folder, None if there is none."""
        path = self.path(ref)
        return path if path.is_dir() else None

    @staticmethod
    def part(ref: ArtifactRef, start: int, stop: int) -> ArtifactRef:
        """The name of the part of an artifact that holds its rows [start, stop)."""
        return ArtifactRef(f"{ref.step}{_PART_SUFFIX}", f"{ref.key}-{start}-{stop}")

    def parts(self, ref: ArtifactRef) -> list[tuple[ArtifactRef, int, int]]:
        """(part, start, stop) of all parts of an artifact that are there, by start."""
        step, found = f"{ref.step}{_PART_SUFFIX}", []
        for path in (self.root / step).glob(f"{ref.key}-*-*"):
            start, stop = path.name.removeprefix(f"{ref.key}-").split("-")
            found.append((ArtifactRef(step, path.name), int(start), int(stop)))
        return sorted(found, key=lambda part: part[1:])

    @contextlib.contextmanager
    def create(self, ref: ArtifactRef) -> Iterator[Path]:
        """A fresh folder to fill; published as ``path(ref)`` if the block succeeds, removed if it raises.

        If another process publishes the same key meanwhile, theirs stays and ours is dropped: same key, same
        content. A process killed inside the block leaves a folder that `sweep` finds.

        Raises:
            StorageError: ``disk_full``, ``read_only`` or ``storage``.
        """
        name = f"{ref.step}-{ref.key}-{os.getpid()}-{secrets.token_hex(4)}"
        temporary = self._temporaries / name
        with translated("create", self.path(ref)):
            self._temporaries.mkdir(parents=True, exist_ok=True)
            # the owner comes first and goes last, so that every folder has one as long as it lives
            _write_owner(self._owner_file(temporary))
        try:
            with translated("create", self.path(ref)):
                temporary.mkdir()
            # errors of the block stay as they are: an OSError in there may well be about a source video
            yield temporary
            with translated("publish", self.path(ref)):
                self._publish(temporary, self.path(ref))
        finally:
            remove_tree(temporary)
            remove_tree(self._owner_file(temporary))

    def discard(self, ref: ArtifactRef) -> None:
        """Remove an artifact, if it is there; it disappears at once, never by halves."""
        aside = self._temporaries / f"{ref.step}-{ref.key}-{os.getpid()}-{secrets.token_hex(4)}"
        with translated("discard", self.path(ref)):
            self._temporaries.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                os.rename(self.path(ref), aside)
            remove_tree(aside)

    def sweep(self, older_than_s: float = 0.0) -> list[Path]:
        """Remove unfinished folders whose process is dead and that nobody touched for `older_than_s` seconds.

        Folders of other machines, of other containers and from before a restart cannot be judged: they go when
        untouched for a day (or `older_than_s`, if longer).

        Returns:
            The folders removed.
        """
        removed: list[Path] = []
        if not self._temporaries.is_dir():
            return removed
        with translated("sweep", self._temporaries):
            names = {entry.name.removesuffix(_OWNER_SUFFIX) for entry in self._temporaries.iterdir()}
            for temporary in sorted(self._temporaries / name for name in names):
                if self._is_orphan(temporary, older_than_s):
                    removed += [temporary] if temporary.exists() else []
                    remove_tree(temporary)
                    remove_tree(self._owner_file(temporary))
        return removed

    @property
    def _temporaries(self) -> Path:
        return self.root / ".tmp"

    @staticmethod
    def _owner_file(temporary: Path) -> Path:
        return temporary.with_name(temporary.name + _OWNER_SUFFIX)

    @staticmethod
    def _publish(temporary: Path, target: Path) -> None:
        sync_tree(temporary)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(temporary, target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        sync_path(target.parent)

    def _is_orphan(self, temporary: Path, older_than_s: float) -> bool:
        owner_file = self._owner_file(temporary)
        try:
            owner = read_json(owner_file)
            alive = lives(owner.get("machine"), owner.get("pid"), owner.get("started"))
        except (StorageError, AttributeError):  # none, damaged, or no object
            # Without a folder it was killed while it wrote the file. If it lives after all, its folder can't be judged.
            alive = None if temporary.exists() else False
        if alive is not None:
            return not alive and _idle_seconds(temporary, owner_file) >= older_than_s
        return _idle_seconds(temporary, owner_file) >= max(older_than_s, _FOREIGN_AGE_S)


def _write_owner(path: Path) -> None:
    owner = {"machine": machine(), "pid": os.getpid(), "started": start_of(os.getpid())}
    path.write_text(json.dumps(owner))


def _idle_seconds(temporary: Path, owner_file: Path) -> float:
    """Seconds since anything in the folder changed."""
    newest = 0.0
    for path in (owner_file, temporary, *temporary.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            newest = max(newest, path.lstat().st_mtime)
    return time.time() - newest
