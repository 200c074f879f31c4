"""Runs a command from a process so small that its own memory does not count; prints CPU and wall seconds, peak bytes.

    python -I -S benchmarks/_launch.py COMMAND...

Linux takes the memory of whoever starts a process into that process's peak; the benchmark itself holds numpy.
"""

import os
import sys
import time

started = time.perf_counter()
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
wall_s = time.perf_counter() - started
unit = 1 if sys.platform == "darwin" else 1024
print("cost", usage.ru_utime + usage.ru_stime, wall_s, usage.ru_maxrss * unit)
sys.exit(os.waitstatus_to_exitcode(status))
