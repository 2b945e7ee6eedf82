"""The folder of weights files on this machine: where a file is found, and whether it is the published one."""

from __future__ import annotations

import json
import os
import shlex
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from nvds_core.checkpoints import file_digest
from nvds_core.types import WeightsError
from nvds_core.weights_catalog import OFFICIAL, OfficialFile, official_file

VARIABLE = "NVDS_WEIGHTS"
INDEX = "index.json"

# published: the whole published digest fits. prefix: its published beginning fits. unpublished: nothing is published,
# and the file is as it was when first seen. other: not the published file. changed: not what was first seen.
DigestState = Literal["published", "prefix", "unpublished", "other", "changed"]


@dataclass
class SeenFile:
    """Digest of a file when it was installed or first seen, and the stamp that tells whether it is still the same."""

    sha256: str
    stamp: list[int]


@dataclass
class Index:
    """What the cache remembers: digests by file name, and the names whose licence was accepted."""

    files: dict[str, SeenFile] = field(default_factory=dict)
    accepted: list[str] = field(default_factory=list)


def cache_dir() -> Path:
    """The folder of weights files: $NVDS_WEIGHTS, else nvds/weights in $XDG_CACHE_HOME or ~/.cache. May be absent."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME") or "")  # the XDG rules say to ignore a relative one
    return (base if base.is_absolute() else Path.home() / ".cache") / "nvds" / "weights"


def find_installed(file: OfficialFile) -> Path | None:
    """The file in the cache under its official or another known name, None if it is not there."""
    candidates = (cache_dir() / name for name in (file.file, *file.also_known))
    return next((path for path in candidates if path.is_file()), None)


def checkpoint_path(name: str) -> Path:
    """The installed weights file of a catalog name.

    Raises:
        ConfigError: the catalog has no such name.
        WeightsError: not installed; one line that says what to fetch, from where, and where to put it.
    """
    file = official_file(name)
    path = find_installed(file)
    if path is None:
        raise WeightsError(f"the weights of {name} are missing: {remedy(file)}")
    return path


def require_checkpoints(names: Iterable[str]) -> None:
    """Raise one WeightsError that tells of all the catalog names among ``names`` that are not installed.

    Names that the catalog does not know (bundled models, plug-ins) are none of its business.
    """
    missing = [OFFICIAL[name] for name in dict.fromkeys(names) if name in OFFICIAL]
    missing = [file for file in missing if find_installed(file) is None]
    if missing:
        listed = "; ".join(f"{file.name}: {remedy(file)}" for file in missing)
        raise WeightsError(f"weights are missing - {listed}")


def installed_digests(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """File name and sha256 of the installed weights of those ``names`` that the catalog knows, for logs and records."""
    paths = {name: checkpoint_path(name) for name in dict.fromkeys(names) if name in OFFICIAL}
    return {name: (path.name, installed_digest(path)) for name, path in paths.items()}


def remedy(file: OfficialFile) -> str:
    """How to get a file, in half a sentence."""
    adopt = f'"nvds weights pull {file.name} --from FILE"'
    place = shlex.quote(str(cache_dir() / file.file))
    if file.url is None:
        return f"get {file.file} by way of {file.page} (a cloud drive, no direct address), then {adopt}, or as {place}"
    return f'"nvds weights pull {file.name}", or get {file.url} yourself, then {adopt}, or as {place}'


def installed_digest(path: Path) -> str:
    """sha256 of a file of the cache; computed anew only if its size, inode or times changed since it was last read.

    The digest first seen is kept, so that a later change can be told.
    """
    stamp = _stamp(path)
    index = read_index()
    seen = index.files.get(path.name)
    if seen is not None and seen.stamp == stamp:
        return seen.sha256
    digest = file_digest(path)
    if path.parent == cache_dir() and (seen is None or seen.sha256 == digest):
        index.files[path.name] = SeenFile(digest, stamp)
        _write_if_allowed(index)
    return digest


def digest_state(file: OfficialFile, path: Path, digest: str) -> DigestState:
    """What a digest says about the installed file."""
    if file.sha256:
        if not file.matches(digest):
            return "other"
        return "published" if file.has_whole_digest else "prefix"
    seen = read_index().files.get(path.name)
    return "unpublished" if seen is None or seen.sha256 == digest else "changed"


def remember_installed(path: Path, digest: str) -> None:
    """Note the digest of a file that was just put into the cache."""
    index = read_index()
    index.files[path.name] = SeenFile(digest, _stamp(path))
    write_index(index)


def licence_accepted(file: OfficialFile) -> bool:
    """Whether the terms of a file were accepted on this machine before."""
    return file.licence.id in read_index().accepted


def remember_licence(file: OfficialFile) -> None:
    """Note that the terms of a file were accepted."""
    index = read_index()
    index.accepted = sorted({*index.accepted, file.licence.id})
    write_index(index)


def read_index() -> Index:
    """The index of the cache; an absent or damaged one is empty, as all it holds can be found out again."""
    try:
        tree = json.loads((cache_dir() / INDEX).read_text(encoding="utf-8"))
        files = {str(name): SeenFile(**entry) for name, entry in tree["files"].items()}
        return Index(files, [str(name) for name in tree["accepted"]])
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Index()


def write_index(index: Index) -> None:
    """Replace the index at once; of two processes that write, the last wins."""
    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".index-", encoding="utf-8", delete=False) as file:
        json.dump(asdict(index), file, indent=1, sort_keys=True)
    os.replace(file.name, folder / INDEX)


def _write_if_allowed(index: Index) -> None:
    try:
        write_index(index)
    except OSError:
        return  # a cache that is shared read-only works too, it only reads its files more often


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]
