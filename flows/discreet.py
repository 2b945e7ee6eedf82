"""Flows that tell Prefect's server no more than it needs to know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from prefect import Flow

from tasks.workspace import public_text

SHOWN_ITEMS = 50  # of a list; the server refuses parameters above half a megabyte, which 5,000 inputs exceed

P = ParamSpec("P")
R = TypeVar("R")


class DiscreetFlow(Flow[P, R]):
    """A flow whose parameters reach Prefect's database without credentials and at a size the server accepts.

    Only what the server stores and shows is changed; the flow itself gets its parameters as they are.
    """

    def serialize_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        return {name: shown(value) for name, value in super().serialize_parameters(parameters).items()}


def discreet_flow(**options: Any) -> Callable[[Callable[P, R]], Flow[P, R]]:
    """Like ``prefect.flow(...)`` for a `DiscreetFlow`."""

    def decorate(function: Callable[P, R]) -> Flow[P, R]:
        return DiscreetFlow(function, **options)

    return decorate


def shown(value: Any) -> Any:
    """A JSON value as it may be stored: without credentials, valid Unicode, long lists cut short."""
    if isinstance(value, str):
        return public_text(value)
    if isinstance(value, Mapping):
        return {public_text(name): shown(item) for name, item in value.items()}
    if isinstance(value, list):
        rest = len(value) - SHOWN_ITEMS
        return [shown(item) for item in value[:SHOWN_ITEMS]] + ([f"... and {rest} more"] if rest > 0 else [])
    return value
