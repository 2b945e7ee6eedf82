"""Errors and small value types shared by the whole core library."""

from __future__ import annotations


class CoreError(Exception):
    """An error the user can act on: the message names the thing, the value and the way out.

    `reason` is a short stable slug for the ledger, for example ``decode`` or ``weights``.
    """

    reason = "error"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason


class ShapeError(CoreError):
    """Arrays that do not fit together."""

    reason = "shape"


class DecodeError(CoreError):
    """A video or picture that cannot be read, or not to its end."""

    reason = "decode"


class WeightsError(CoreError):
    """Weights that are missing, damaged or made for another network."""

    reason = "weights"


class ConfigError(CoreError):
    """A setting that makes no sense."""

    reason = "config"
