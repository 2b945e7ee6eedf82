"""Settings every test runs under, and the fixtures that several test files share."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

REPO = Path(__file__).resolve().parents[1]
SHARED = REPO / ".." / "shared"
BUNDLED = REPO / "tests" / "data"

# Both libraries read their settings when first imported, so these lines come before any test module.
# Processes of pytest-xdist share the cores.
_MOST_THREADS = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2
for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = str(min(_MOST_THREADS, int(os.environ.get(threads) or _MOST_THREADS)))
_WEIGHTS = tempfile.mkdtemp(prefix="nvds-tests-weights-")  # nor must they find its weights
atexit.register(shutil.rmtree, _WEIGHTS, ignore_errors=True)
os.environ["NVDS_WEIGHTS"] = _WEIGHTS
_PREFECT_HOME = tempfile.mkdtemp(prefix="nvds-tests-prefect-")
atexit.register(shutil.rmtree, _PREFECT_HOME, ignore_errors=True)
os.environ.pop("PREFECT_API_URL", None)  # a developer's own server must not see the tests
os.environ.pop("PREFECT_PROFILE", None)
os.environ.update(
    PREFECT_HOME=_PREFECT_HOME,
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    DO_NOT_TRACK="1",
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="300",  # the first start migrates a database
    PREFECT_LOGGING_TO_API_ENABLED="false",
    PREFECT_LOGGING_LEVEL="CRITICAL",
    PREFECT_SERVER_LOGGING_LEVEL="CRITICAL",
    PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT="false",
)


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the repository."""
    return REPO


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the repository; tests that need it are skipped without it."""
    if not SHARED.is_dir():
        pytest.skip("reference data ../shared is not beside this checkout")
    return SHARED


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Mapping[str, np.ndarray]]:
    """Load a reference .npz by its path under ../shared/reference, for example ``nvds/golden_metrics.npz``.

    Without ../shared the reduced copy in tests/data is taken, if there is one.
    """

    def load(name: str) -> Mapping[str, np.ndarray]:
        for folder in (SHARED / "reference", BUNDLED):
            if (folder / name).is_file():
                with np.load(folder / name) as arrays:
                    return dict(arrays)
        pytest.skip(f"{name} is neither in ../shared/reference nor in tests/data")

    return load


@pytest.fixture(scope="session")
def prefect_api() -> Iterator[str]:
    """The address of a Prefect server of this test session, which flows and tasks called by a test use as well.

    Starting it takes 10 to 40 seconds, so logic is tested through ``task.fn`` where that says as much.
    """
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=300):
        yield str(PREFECT_API_URL.value())


@pytest.fixture
def memory_store() -> Iterator[Any]:
    """The object store behind ``memory://`` URLs, empty before and after."""
    import fsspec

    store = fsspec.filesystem("memory")
    store.store.clear()
    yield store
    store.store.clear()
    store.pseudo_dirs[:] = [""]
