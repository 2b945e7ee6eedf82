"""The process of Prefect's built-in server: says its port, then answers until its parent is gone.

Run as a file, not imported, so that it loads nothing but Prefect.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time

LOOPBACK = "127.0.0.1"
STOP_S = 5.0


def end_with_parent() -> None:
    """Wait for the end of the pipe that only the parent holds open, then leave: politely, and then for certain."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_S)
    os._exit(1)


def serve(port: int) -> None:
    """Serve Prefect's API at a port of this machine, 0 for a free one."""
    import uvicorn

    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((LOOPBACK, port))
    threading.Thread(target=end_with_parent, daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the pipe was for the port alone
    config = uvicorn.Config("prefect.server.api.server:create_app", factory=True, log_level="error", lifespan="on")
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    serve(int(sys.argv[1]))
