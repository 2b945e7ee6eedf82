"""Prefect flows, the command line and run configuration."""

import os

# Said before Prefect is imported anywhere. The user's own settings win.
for _name, _value in {
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",  # 20 s is too short on a busy machine
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",  # Prefect logs a trace for every failed task; we say one line per video
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",  # our ledger is the record; the log stream costs more than the tasks
}.items():
    os.environ.setdefault(_name, _value)
