"""What an output folder remembers of its runs: settings, inputs, and how each ended."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from storage.errors import StorageError, redact
from storage.files import list_names, modified, read_bytes, read_json, write_bytes_atomic, write_json_atomic
from storage.urls import join

if TYPE_CHECKING:  # torch comes with these, and "nvds status" must be quick
    from flows.config import RunConfig
    from flows.planning import Plan
    from tasks.workspace import Workspace

MANIFEST, TO_DO = "manifest", ("pending", "stale")  # the table, and the states in it of what a run has to do
UNTOLD_FRAMES = 300  # where a container claims no length
CONFIG, ORDER, SUMMARY = "config.yaml", "order.json", "summary.json"


@dataclass(frozen=True)
class PastRun:
    """One run of an output: its name, when it began by the clock of the store, and its summary if it has ended."""

    out: str
    run_id: str
    began: datetime
    summary: dict[str, Any] | None

    @property
    def config(self) -> RunConfig:
        """The settings it was started with."""
        import yaml

        from flows.config import RunConfig, build

        tree = yaml.safe_load(read_bytes(self._place(CONFIG)))
        return build(RunConfig, tree, redact(self._place(CONFIG)))

    @property
    def inputs(self) -> list[str]:
        """What it was asked to work on.

        Raises:
            ConfigError: that is not known.
        """
        from nvds_core.types import ConfigError

        order = self._order()
        if not order.get("inputs"):
            why = "held credentials, which are not stored" if order.get("secret") else "are not recorded"
            raise ConfigError(f"the inputs of run {self.run_id} {why}; name them anew: nvds run INPUT... --out ...")
        return list(order["inputs"])

    @property
    def devices(self) -> int:
        """How many devices worked side by side."""
        return int(self._order().get("devices", 1))

    def _order(self) -> dict[str, Any]:
        try:
            found = read_json(self._place(ORDER))
        except StorageError as error:
            if error.reason not in ("absent", "format"):
                raise
            return {}
        return found if isinstance(found, dict) else {}

    def _place(self, name: str) -> str:
        return join(self.out, "runs", self.run_id, name)


def begin_run(plan: Plan, workspace: Workspace, config: RunConfig, devices: int) -> None:
    """Write down what a run was asked for. Inputs with credentials are left out."""
    folder = join(workspace.out, "runs", workspace.run_id)
    secret = any(redact(item) != item for item in plan.inputs)
    order = {"inputs": [] if secret else list(plan.inputs), "secret": secret, "devices": devices}
    # in ASCII, as the name of a file need not be valid text
    write_bytes_atomic(join(folder, ORDER), json.dumps(order, indent=1).encode())
    write_bytes_atomic(join(folder, CONFIG), config.to_yaml().encode())


def end_run(workspace: Workspace, summary: dict[str, Any]) -> None:
    """Write down how a run ended."""
    write_json_atomic(join(workspace.out, "runs", workspace.run_id, SUMMARY), summary)


def last_run(out: str) -> PastRun | None:
    """The run that began last; without a summary it was broken off, or is still at work."""
    folder = join(out, "runs")
    begun: dict[str, datetime] = {}
    for run in list_names(folder):
        try:
            begun[run] = modified(join(folder, run, CONFIG))
        except StorageError as error:
            if error.reason != "absent":
                raise
    if not begun:
        return None
    run_id = max(begun, key=lambda name: (begun[name], name))
    summary: dict[str, Any] | None = None
    try:
        summary = read_json(join(out, "runs", run_id, SUMMARY))
    except StorageError as error:
        if error.reason != "absent":
            raise
    return PastRun(out, run_id, begun[run_id], summary)


def the_last_run(out: str) -> PastRun:
    """The run that began last.

    Raises:
        StorageError: ``absent``: nothing was ever run into this folder.
    """
    last = last_run(out)
    if last is None:
        raise StorageError(f"{redact(out)}: no run is recorded there; begin with nvds run", reason="absent")
    return last
