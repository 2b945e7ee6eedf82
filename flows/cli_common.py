"""What all commands share: errors as one clear line and an exit code."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import typer

ALL_GOOD, SOME_FAILED, NOTHING_STARTED, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143


@contextmanager
def clear_errors(code: int = NOTHING_STARTED, interrupted: str = "interrupted") -> Iterator[None]:
    """Turn errors that the user can act on into one line on standard error and the exit code `code`.

    An interruption gives the line `interrupted` and 130 (143 for a termination signal). Anything else is a mistake of
    ours and keeps its traceback.
    """
    try:
        yield
    except (typer.Exit, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        stopped = _stopped_by(error)
        if stopped is not None:
            typer.echo(f"nvds: {interrupted}", err=True)
            raise typer.Exit(stopped) from None
        if not isinstance(error, Exception) or not _expected(error):
            raise
        typer.echo(f"nvds: {_one_line(error)}", err=True)
        raise typer.Exit(code) from None


class _LogLines(logging.Handler):
    """Records as plain lines on standard error, wherever that leads at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        from storage.errors import redact

        with suppress(OSError):  # a closed terminal must not end a run of many hours
            typer.echo(redact(self.format(record)), err=True)


@contextmanager
def shown_log() -> Iterator[None]:
    """Show what the program logs while the block runs: which weights were loaded, smaller batches, retries."""
    logger, handler = logging.getLogger("nvds"), _LogLines()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # Prefect sets up a handler of the root logger, which would say everything again
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def _stopped_by(error: BaseException | None) -> int | None:
    """The exit code of an interruption, also of one that led to another error.

    A signal to the whole process group ends Prefect's embedded server too; what arrives here is then the failed
    attempt to tell that server about it.
    """
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return INTERRUPTED
        if type(error).__name__ == "TerminationSignal":  # Prefect's, which must not be imported for its name
            return TERMINATED
        error = error.__cause__ or error.__context__
    return None


def _expected(error: Exception) -> bool:
    from nvds_core.types import CoreError  # here, as the package loads torch and --help must be quick
    from storage.errors import StorageError

    orchestrator = type(error).__module__.split(".")[0] in ("httpx", "prefect")  # its server went away
    return orchestrator or isinstance(error, CoreError | StorageError | OSError)


def _one_line(error: Exception) -> str:
    from storage.errors import one_line, redact

    text = one_line(" ".join(redact(error).split())) or type(error).__name__
    return text if type(error).__module__.split(".")[0] != "httpx" else f"Prefect's server does not answer: {text}"
