"""The other end of a local engine: imports one function and calls it once per message until nobody asks any more.

A message is a pickled (function, initializer, payload); the reply is `RETURNED` and a pickle, or `RAISED` and a text.
Nothing here is imported by the parent: this module is the first of stockpot's that runs in a worker, and is kept light.
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from stockpot.errors import StockpotError

__all__ = ["RAISED", "RETURNED", "call", "main"]

RETURNED = b"v"
RAISED = b"e"

# Short, for the same command started again must not meet a worker of the one that was killed.
_WATCH_SECONDS = 0.1


def main(descriptor: int, parent_pid: int) -> None:
    """Serves jobs over a socket until the parent closes it or dies.

    Args:
        descriptor: the inherited end of a socket pair.
        parent_pid: the process to live and die with.
    """
    threading.Thread(target=_die_with, args=(parent_pid,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    faulthandler.enable()  # a crash in native code says where, in the tail of the output that the parent keeps
    os.set_inheritable(descriptor, False)
    initialized: set[str] = set()
    with Connection(descriptor) as connection, suppress(EOFError, ConnectionError):  # the parent has let go
        while True:
            connection.send_bytes(call(connection.recv_bytes(), initialized))


def call(message: bytes, initialized: set[str]) -> bytes:
    """One job: whatever it raises becomes a text, and the worker lives on.

    Args:
        message: pickled (function, initializer or None, payload).
        initialized: initializers that have run in this process; grows.

    Example:
        >>> reply = call(pickle.dumps(("builtins:sorted", None, {"b": 1, "a": 2})), set())
        >>> reply[:1] == RETURNED, pickle.loads(reply[1:])
        (True, ['a', 'b'])
    """
    try:
        function, initializer, payload = pickle.loads(message)
        if initializer is not None and initializer not in initialized:
            _load(initializer)()
            initialized.add(initializer)
        return RETURNED + pickle.dumps(_load(function)(payload), protocol=pickle.HIGHEST_PROTOCOL)
    except StockpotError as exc:
        return RAISED + str(exc).encode(errors="replace")
    except (Exception, SystemExit):  # noqa: BLE001 - a job may raise anything, and the worker has others to do
        return RAISED + traceback.format_exc().encode(errors="replace")


def _load(reference: str) -> Callable[..., Any]:
    module_name, _, name = reference.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module_name), name)
    return function


def _die_with(parent_pid: int) -> None:
    """Ends this process, and what it has forked, soon after the parent is gone; the middle of a job is no excuse."""
    while os.getppid() == parent_pid:
        time.sleep(_WATCH_SECONDS)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
