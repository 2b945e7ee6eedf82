"""Official weights files of the published models: names, places, digests and licences."""

from __future__ import annotations

from dataclasses import dataclass

from nvds_core.types import ConfigError

DIGEST_LENGTH = 64  # hexadecimal digits of a whole sha256


@dataclass(frozen=True)
class Licence:
    """``id`` is an SPDX expression for the terms that apply together; ``note`` says the rest in one line."""

    id: str
    note: str


@dataclass(frozen=True)
class OfficialFile:
    """One published weights file.

    ``name`` is ours, ``model`` the network it fits (a name of `nvds_core.models.MODELS`), ``file`` the official file
    name and ``also_known`` other names the same file goes by. ``url`` is None where the publisher offers no direct
    address. ``sha256`` is whole, or its published beginning, or empty where nothing is published; ``size`` is in bytes,
    None where it is not known.
    """

    name: str
    model: str
    file: str
    page: str
    licence: Licence
    url: str | None = None
    also_known: tuple[str, ...] = ()
    sha256: str = ""
    size: int | None = None

    @property
    def has_whole_digest(self) -> bool:
        """Whether the published digest names one content and no other."""
        return len(self.sha256) == DIGEST_LENGTH

    def matches(self, sha256: str) -> bool:
        """Whether a digest is that of the published file, as far as one is published."""
        return sha256.startswith(self.sha256)


NVDS_LICENCE = Licence(
    "MIT AND LicenseRef-NVIDIA-SegFormer",
    "code MIT; the encoder derives from SegFormer, whose NVIDIA source code licence is for non-commercial use only",
)
GMFLOW_LICENCE = Licence("Apache-2.0", "code Apache-2.0; the repository states nothing separate for the weights")
DPT_LICENCE = Licence(
    "MIT", "code MIT; nothing separate for the weights, isl-org/MiDaS#111 on commercial use is unanswered"
)
MIDAS_LICENCE = Licence(
    "MIT", "code MIT; nothing separate for the weights; trained from ResNeXt WSL weights, which are CC BY-NC 4.0"
)
MIDAS_SMALL_LICENCE = Licence("MIT", "code MIT; the repository states nothing separate for the weights")

NVDS_PAGE = "https://github.com/RaymondWang987/NVDS/releases"
DPT_PAGE = "https://github.com/isl-org/DPT/releases"
MIDAS_PAGE = "https://github.com/isl-org/MiDaS/releases"
GMFLOW_PAGE = "https://github.com/haofeixu/gmflow"


def _nvds(name: str, file: str, tag: str) -> OfficialFile:
    url = f"{NVDS_PAGE}/download/{tag}/{file}"
    return OfficialFile(name, "nvds", file, f"{NVDS_PAGE}/tag/{tag}", NVDS_LICENCE, url)


def _gmflow(name: str, file: str, *also_known: str, sha256: str = "", size: int | None = None) -> OfficialFile:
    """A file of the archive that the repository keeps on a cloud drive; file names end with the digest's beginning."""
    model = "gmflow-refine" if "refine" in name else "gmflow"
    start = file.rpartition("-")[2].removesuffix(".pth")
    return OfficialFile(name, model, file, GMFLOW_PAGE, GMFLOW_LICENCE, None, also_known, sha256 or start, size)


def _dpt(name: str, file: str, sha256: str, *also_known: str, size: int | None = None) -> OfficialFile:
    model = "dpt-large" if name == "dpt-large" else "dpt-hybrid"
    url = f"{DPT_PAGE}/download/1_0/{file}"
    return OfficialFile(name, model, file, f"{DPT_PAGE}/tag/1_0", DPT_LICENCE, url, also_known, sha256, size)


def _midas(name: str, file: str, licence: Licence, sha256: str, *also_known: str, size: int) -> OfficialFile:
    url = f"{MIDAS_PAGE}/download/v2_1/{file}"
    return OfficialFile(name, name, file, f"{MIDAS_PAGE}/tag/v2_1", licence, url, also_known, sha256, size)


# Addresses and names: the README files and release pages of the repositories. Whole digests: those that several public
# projects check these files against; each begins as its file's name says. NVDS publishes none.
OFFICIAL: dict[str, OfficialFile] = {
    file.name: file
    for file in (
        _nvds("nvds", "NVDS_Stabilizer.pth", "NVDS_checkpoints"),
        _nvds("nvds-nyu", "NVDS_Stabilizer_NYUDV2_Finetuned.pth", "NVDS-finetuned-NYUDV2"),
        _gmflow(
            "gmflow",
            "gmflow_sintel-0c07dcb3.pth",
            sha256="0c07dcb35770464f38a5ff4de18c04177b242dc5de8cd2068adf46f3d4fe193a",
            size=18_768_907,
        ),
        _gmflow("gmflow-things", "gmflow_things-e9887eda.pth", "gmflow-scale1-things-e9887eda.pth"),
        _gmflow("gmflow-kitti", "gmflow_kitti-285701a8.pth"),
        _gmflow("gmflow-refine", "gmflow_with_refine_sintel-3ed1cf48.pth", "gmflow-scale2-sintel-3ed1cf48.pth"),
        _gmflow("gmflow-refine-things", "gmflow_with_refine_things-36579974.pth", "gmflow-scale2-things-36579974.pth"),
        _gmflow("gmflow-refine-chairs", "gmflow_with_refine_chairs-020cc9be.pth"),
        _midas(
            "midas-v21",
            "midas_v21_384.pt",
            MIDAS_LICENCE,
            "f6b980704cfd7259c7cc2b058c2f160159c55e84b3b6c08331b4156a84629f70",
            "midas_v21-f6b98070.pt",
            "model-f6b98070.pt",
            size=422_509_849,
        ),
        _midas(
            "midas-v21-small",
            "midas_v21_small_256.pt",
            MIDAS_SMALL_LICENCE,
            "70d6b9c891758c67f974a6097fb0c608c7ee67fb81ac3e5588847d5596d56fca",
            "midas_v21_small-70d6b9c8.pt",
            "model-small-70d6b9c8.pt",
            size=85_761_505,
        ),
        _dpt(
            "dpt-large",
            "dpt_large-midas-2f21e586.pt",
            "2f21e586477d90cb9624c7eef5df7891edca49a1c4795ee2cb631fd4daa6ca69",
            "dpt_large_384.pt",
            size=1_376_378_527,
        ),
        _dpt(
            "dpt-hybrid",
            "dpt_hybrid-midas-501f0c75.pt",
            "501f0c75b3bca7daec6b3682c5054c09b366765aef6fa3a09d03a5cb4b230853",
            "dpt_hybrid_384.pt",
        ),
        _dpt("dpt-hybrid-kitti", "dpt_hybrid_kitti-cb926ef4.pt", "cb926ef4"),
        _dpt("dpt-hybrid-nyu", "dpt_hybrid_nyu-2ce69ec7.pt", "2ce69ec7"),
    )
}


def official_file(name: str) -> OfficialFile:
    """The catalog entry of a name.

    Raises:
        ConfigError: unknown name.
    """
    if name not in OFFICIAL:
        raise ConfigError(f"no official weights called {name!r}; known: {', '.join(sorted(OFFICIAL))}")
    return OFFICIAL[name]
