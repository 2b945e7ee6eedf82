"""The rules of docs/architecture.md that a machine can check."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

import pytest
import yaml

REPO = Path(__file__).resolve().parents[1]
PACKAGES = ("flows", "tasks", "nvds_core", "storage")

SCHEDULERS = {"prefect", "prefect_dask", "dask", "distributed"}
STORES = {"zarr", "numcodecs", "fsspec", "s3fs", "pyarrow"}
MODELS = {"torch", "torchvision", "timm", "safetensors"}
FORBIDDEN = {
    "flows": set(),
    "tasks": {"flows"},
    "nvds_core": {"flows", "tasks", "storage"} | SCHEDULERS | STORES,
    "storage": {"flows", "tasks", "nvds_core"} | SCHEDULERS | MODELS,
}


def imported_modules(path: Path, package: str) -> Iterator[tuple[int, str]]:
    """Line and full name of everything a file imports, wherever in the file the import stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module or ""
            yield node.lineno, base
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def violations(path: Path, root: Path) -> list[str]:
    """Imports of one file that its package may not have, as ``file:line imports name``."""
    relative = path.relative_to(root)
    forbidden = FORBIDDEN[relative.parts[0]]
    found = imported_modules(path, ".".join(relative.parent.parts))
    bad = {(line, name.split(".")[0]) for line, name in found if name.split(".")[0] in forbidden}
    return [f"{relative}:{line} imports {name}" for line, name in sorted(bad)]


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_downwards(package):
    files = sorted((REPO / package).rglob("*.py"))
    assert files, f"{package} is empty"
    assert [line for path in files for line in violations(path, REPO)] == []


@pytest.mark.parametrize(
    ("place", "statement"),
    [
        ("nvds_core/flow/a.py", "import prefect.tasks as t"),
        ("nvds_core/a.py", "def f():\n    from storage import keys"),
        ("storage/a.py", "from torch.nn import Module"),
        ("tasks/a.py", "from flows.config import RunConfig"),
        ("nvds_core/flow/a.py", "if True:\n    import zarr"),
    ],
)
def test_the_reader_of_imports_finds_what_it_must(tmp_path, place, statement):
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_text(statement)
    assert len(violations(path, tmp_path)) == 1


def test_relative_imports_stay_inside_their_package(tmp_path):
    path = tmp_path / "nvds_core" / "flow" / "a.py"
    path.parent.mkdir(parents=True)
    path.write_text("from . import storage\nfrom ..tasks import x\nfrom ..types import CoreError\n")
    assert violations(path, tmp_path) == []


def test_importing_the_core_loads_no_decoder_scheduler_or_store():
    unwanted = sorted(
        {"av", "scenedetect", "matplotlib", "pycolmap"} | SCHEDULERS | STORES | {"storage", "tasks", "flows"}
    )
    code = f"import sys, nvds_core; print([name for name in {unwanted!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"


def project_text_files() -> Iterator[tuple[Path, str]]:
    """Every text file that is tracked, or would be with the next "git add"."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=60)
    if listed.returncode != 0:
        pytest.skip("not a git checkout, so there is no list of tracked files")
    for name in listed.stdout.split("\0"):
        path = REPO / name
        if name and path.is_file():
            content = path.read_bytes()
            if b"\0" not in content[:8192]:
                yield path, content.decode("utf-8", errors="replace")


# Written with spaces, so that this file does not find itself.
REGISTRIES = [
    host.replace(" ", ".")
    for host in ("pypi org", "pypi python org", "pythonhosted org", "download pytorch org", "pypi nvidia com")
]
INDEX_OPTIONS = re.compile(r"^\s*--?(i|index-url|extra-index-url|find-links|trusted-host)\b", re.MULTILINE)


def test_no_file_names_a_package_registry():
    found = [
        f"{path.relative_to(REPO)}: {host}"
        for path, text in project_text_files()
        for host in REGISTRIES
        if host in text
    ]
    assert found == []


def test_the_lock_has_hashes_and_no_index_lines():
    lock = (REPO / "requirements.lock").read_text(encoding="utf-8")
    assert not INDEX_OPTIONS.search(lock)
    assert "://" not in lock
    pinned = re.findall(r"^([a-z0-9][a-z0-9._-]*)==.*\\\n    --hash=sha256:", lock, re.MULTILINE)
    assert len(pinned) == len(re.findall(r"^\S", lock, re.MULTILINE))
    assert {"uv", "setuptools", "pytest"} <= set(pinned), "the Makefile installs from these"


def test_no_file_names_a_folder_of_this_machine():
    shared_by_all = {Path(name) for name in ("/", "/home", "/opt", "/srv", "/tmp", "/usr", "/var")}
    shared_by_all.add(Path(tempfile.gettempdir()))
    own = {REPO.parent, Path.home()} - shared_by_all
    patterns = [re.compile(rf"(?<![\w.$~/{{}}-]){re.escape(str(folder))}(?![\w.-])") for folder in own]
    found = [
        f"{path.relative_to(REPO)}: {match.group()}"
        for path, text in project_text_files()
        for pattern in patterns
        for match in pattern.finditer(text)
    ]
    assert found == []


def test_the_prefect_project_file_points_at_an_existing_flow():
    project = yaml.safe_load((REPO / "prefect.yaml").read_text(encoding="utf-8"))
    assert project["pull"] == [{"prefect.deployments.steps.set_working_directory": {"directory": "{{ $PWD }}"}}]
    deployments = {deployment["name"]: deployment for deployment in project["deployments"]}
    assert deployments["run"]["work_pool"]["name"] == "nvds-process"
    for deployment in deployments.values():
        file, function = deployment["entrypoint"].split(":")
        tree = ast.parse((REPO / file).read_text(encoding="utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_continuous_integration_runs_the_tests():
    script = REPO / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text(encoding="utf-8")
