"""Timestamps of decoded frames: seconds from the first one, always increasing."""

from __future__ import annotations

from fractions import Fraction

from nvds_core.video.info import FOLDER_FPS


class FrameClock:
    """Turns presentation stamps into seconds and notices a variable frame rate.

    Missing or backward stamps are replaced by one nominal frame after the last one, with one warning per kind.
    """

    def __init__(self, fps: float, time_base: float) -> None:
        self.warnings: list[str] = []
        self._step_s = 1.0 / (fps or FOLDER_FPS)
        self._grain_s = time_base
        self._first_s: float | None = None
        self._last_s = 0.0
        self._count = 0
        self._shortest, self._longest = float("inf"), 0.0

    def tick(self, stamp: int | None, time_base: Fraction | None) -> float:
        """Seconds of the next frame since the first frame."""
        seconds = None if stamp is None or time_base is None else float(stamp * time_base)
        if seconds is None:
            self._warn("frames without a timestamp: spaced by the average frame rate")
        elif self._first_s is None:
            self._first_s = seconds - (self._last_s + self._step_s if self._count else 0.0)
        now = 0.0 if seconds is None or self._first_s is None else seconds - self._first_s
        if self._count:
            if now <= self._last_s:
                if seconds is not None:
                    self._warn("timestamps that do not increase: spaced by the average frame rate")
                now = self._last_s + self._step_s
            self._shortest = min(self._shortest, now - self._last_s)
            self._longest = max(self._longest, now - self._last_s)
        self._last_s = now
        self._count += 1
        return now

    @property
    def variable(self) -> bool | None:
        """Whether frame spacing varies beyond the rounding of stamps; None below three frames."""
        if self._count < 3:
            return None
        # Matroska rounds stamps to whole milliseconds: two of its grains apart is still a constant rate.
        return self._longest - self._shortest > max(2.5 * self._grain_s, 0.1 * self._step_s)

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)
