"""What every test starts from."""

from __future__ import annotations

import signal
import threading

import pytest

# A shell starts background jobs with SIGINT ignored, and children inherit that: tests of Ctrl-C would wait for ever.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Experiments of this test train in its own process."""
    from in_process import InProcess
    from stockpot.experiment import running

    monkeypatch.setattr(running, "LocalEngine", InProcess)
