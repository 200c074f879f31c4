"""Jobs on this machine, each worker a process of its own.

Why not a pool of the standard library: `concurrent.futures` breaks everything that is pending when one worker is killed
(the kernel does that when memory runs out), `multiprocessing.Pool` waits for ever, and both import the user's
`__main__` once more in every worker, which fails at a prompt and runs a script without a guard again. Here a worker is
``python -c`` with one end of a socket pair, and the death of one costs the job it had.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import IO, Any

from stockpot._cores import available_cores
from stockpot.engines.seam import Job, Result
from stockpot.errors import RunError

__all__ = ["LocalEngine", "gpus_of_worker"]

#: Set before the first import of a worker; thread pools are sized when their library is loaded.
ONE_THREAD: Mapping[str, str] = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

#: What launchers (accelerate, torchrun) tell the processes that they start: a worker is none of those, and would wait
#: for others, or train in another precision than it is told.
_LAUNCHERS = ("ACCELERATE_", "TORCHELASTIC_", "FSDP_")
_OF_LAUNCHERS = frozenset(
    {"WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK", "MASTER_ADDR", "MASTER_PORT"}
)

# The parent's module path is passed on, so that a worker finds what the parent finds.
_BOOTSTRAP = (
    "import sys; _, descriptor, parent_pid, *sys.path = sys.argv; del sys.argv[1:]; "
    "from stockpot.engines.worker import main; main(int(descriptor), int(parent_pid))"
)
_TAIL_BYTES = 4000  # of a worker's output, for the error of one that died
_POLL_SECONDS = 0.5
_GOODBYE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class LocalEngine:
    """Persistent worker processes with one thread each, for the length of one `run`.

    A worker that dies has its job started again in a new one, others go on. A job that raises is not repeated: it would
    raise again. Workers die with this process, even after ``kill -9``, within a second or two, also in the middle of a
    job. Ctrl-C ends them at once. What jobs print is kept off the channel; the last of it explains a death.

    Needs a POSIX system. Several threads may call `run`: runs share nothing.

    Args:
        workers: how many at once, at least 1; None for one per GPU, or where there are none per core that this process
            may use.
        retries: how often a job is started again after the death of its worker.
        initializer: ``package.module:function`` called without arguments in every worker before its first job.
        environment: variables of the workers, on top of this process's own (but what launchers set) and of
            `ONE_THREAD`.
        gpus: as CUDA_VISIBLE_DEVICES names them; each worker sees those of `gpus_of_worker` alone.
        show_output: pass on what workers print to this process's standard error.

    Example:
        >>> engine = LocalEngine(workers=1)
        >>> [result.value for result in engine.run("builtins:sorted", [Job("a", {"y": 1, "x": 2}), Job("b", {})])]
        [['x', 'y'], []]
    """

    workers: int | None = None
    retries: int = 1
    initializer: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    gpus: Sequence[str] = ()
    show_output: bool = False

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"an engine needs at least 1 worker, not {self.workers}")

    def run(
        self,
        function: str,
        jobs: Sequence[Job],
        *,
        on_result: Callable[[Result], None] | None = None,
        on_start: Callable[[Job], None] | None = None,
    ) -> list[Result]:
        """Calls a function once per job; see `Engine.run`.

        Raises:
            ValueError: `function` is not of the form ``package.module:function``.
            RunError: the system starts no more processes.
            KeyboardInterrupt: passed on after the workers have ended.
        """
        for reference in (function, *filter(None, [self.initializer])):
            if not all(reference.partition(":")):
                raise ValueError(f"{reference!r} is not package.module:function")
        run = _Run(self, function, jobs, on_result or _ignore, on_start or _ignore)
        try:
            run.work()
        except BaseException:
            run.kill()
            raise
        run.dismiss()
        return run.results()


def gpus_of_worker(number: int, gpus: Sequence[str], n_workers: int) -> Sequence[str]:
    """Which GPUs a worker sees: equal shares, those that are over idle; with more workers than GPUs, one in turn.

    Example:
        >>> [gpus_of_worker(number, ["0", "1", "2", "3", "4"], 2) for number in (0, 1)]
        [['0', '1'], ['2', '3']]
        >>> [gpus_of_worker(number, ["0", "1"], 3) for number in (0, 1, 2)]
        [['0'], ['1'], ['0']]
    """
    share = max(1, len(gpus) // n_workers)
    first = number * share % max(1, len(gpus))
    return gpus[first : first + share]


def _ignore(_: object) -> None:
    pass


class _Run:
    """One call of `LocalEngine.run`: which jobs wait, which worker has which job."""

    def __init__(
        self,
        engine: LocalEngine,
        function: str,
        jobs: Sequence[Job],
        on_result: Callable[[Result], None],
        on_start: Callable[[Job], None],
    ) -> None:
        self._engine = engine
        self._function = function
        self._jobs = jobs
        self._on_result = on_result
        self._on_start = on_start
        self._waiting = deque(range(len(jobs)))
        self._attempts = [0] * len(jobs)
        self._result_by_job: dict[int, Result] = {}
        self._workers: list[_Worker] = []
        self._width = engine.workers or len(engine.gpus) or available_cores()

    def work(self) -> None:
        """Until every job has a result."""
        while len(self._result_by_job) < len(self._jobs):
            self._hand_out()
            self._listen()

    def results(self) -> list[Result]:
        """In the order of the jobs."""
        return [self._result_by_job[number] for number in range(len(self._jobs))]

    def kill(self) -> None:
        """Ends all workers at once, with what they have forked."""
        for worker in self._workers:
            worker.kill()

    def dismiss(self) -> None:
        """Lets all workers end by themselves."""
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            worker.dismiss()

    def _hand_out(self) -> None:
        while self._waiting:
            worker = next((worker for worker in self._workers if worker.job is None), None)
            if worker is None:
                if len(self._workers) >= self._width:
                    return
                worker = self._start()
                self._workers.append(worker)
            self._give(worker, self._waiting.popleft())

    def _start(self) -> _Worker:
        number = next(number for number in count() if all(number != worker.number for worker in self._workers))
        gpus = gpus_of_worker(number, self._engine.gpus, self._width)
        seen = {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}
        environment = {
            **{name: value for name, value in os.environ.items() if not _is_of_launcher(name)},
            **ONE_THREAD,
            **seen,
            **self._engine.environment,
        }
        return _Worker.start(number, environment, show_output=self._engine.show_output)

    def _give(self, worker: _Worker, number: int) -> None:
        job = self._jobs[number]
        message = pickle.dumps((self._function, self._engine.initializer, job.payload), pickle.HIGHEST_PROTOCOL)
        self._attempts[number] += 1
        worker.job = number
        self._on_start(job)
        with suppress(OSError):  # dead already; noticed like every other death
            worker.connection.send_bytes(message)

    def _listen(self) -> None:
        """Waits for a reply, some output, or half a second: a worker's forked children can hide its death."""
        wait([channel for worker in self._workers for channel in worker.channels()], timeout=_POLL_SECONDS)
        for worker in list(self._workers):
            is_dead = worker.is_dead()  # asked first: what it sent before it died is still read
            worker.read_output()
            reply = worker.read_reply()
            if reply is not None:
                self._settle(worker, reply)
            if is_dead or worker.is_mute:
                self._bury(worker)

    def _settle(self, worker: _Worker, reply: bytes) -> None:
        assert worker.job is not None, "a worker replies to a job"
        number, worker.job = worker.job, None
        value, error = _decode(reply)
        self._record(number, value, error)

    def _bury(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.kill()
        if worker.job is None:
            return
        if self._attempts[worker.job] <= self._engine.retries:
            self._waiting.appendleft(worker.job)
        else:
            self._record(worker.job, None, worker.obituary(self._attempts[worker.job]))

    def _record(self, number: int, value: Any, error: str | None) -> None:
        result = Result(self._jobs[number].name, value, error, self._attempts[number])
        self._result_by_job[number] = result
        self._on_result(result)


@dataclass(slots=True, eq=False)
class _Worker:
    """A process, the parent's end of its socket, its output (both streams), and the job it has.

    `number` is the lowest that no other has: the next one takes that of a worker that died, and so its GPUs.
    """

    number: int
    process: subprocess.Popen[bytes]
    connection: Connection
    output: IO[bytes]
    show_output: bool
    job: int | None = None
    is_mute: bool = False
    tail: bytes = b""
    output_has_ended: bool = False

    @classmethod
    def start(cls, number: int, environment: Mapping[str, str], *, show_output: bool) -> _Worker:
        ours, theirs = Pipe()
        with theirs:
            arguments = [str(theirs.fileno()), str(os.getpid()), *(path for path in sys.path if isinstance(path, str))]
            with _translated():
                process = subprocess.Popen(
                    [sys.executable, "-c", _BOOTSTRAP, *arguments],
                    env=environment,
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    process_group=0,  # so that Ctrl-C reaches the parent alone, and forked children can be ended too
                )
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        return cls(number, process, ours, process.stdout, show_output)

    def channels(self) -> list[Any]:
        """What to wait on."""
        return [self.connection] if self.output_has_ended else [self.connection, self.output]

    def is_dead(self) -> bool:
        return self.process.poll() is not None

    def read_output(self) -> None:
        """Empties the pipe, so that the worker is never held up by what it prints."""
        while not self.output_has_ended:
            try:
                text = os.read(self.output.fileno(), 1 << 16)
            except BlockingIOError:
                return
            self.output_has_ended = not text
            self.tail = (self.tail + text)[-_TAIL_BYTES:]
            if self.show_output:
                sys.stderr.write(text.decode(errors="replace"))

    def read_reply(self) -> bytes | None:
        """A whole reply, if there is one; a closed channel makes the worker mute."""
        try:
            return self.connection.recv_bytes() if self.connection.poll() else None
        except (EOFError, OSError):
            self.is_mute = True
            return None

    def dismiss(self) -> None:
        """Waits for an idle worker to end, as it does when nobody is at the other end of its channel."""
        try:
            self.process.wait(_GOODBYE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        else:
            self.output.close()

    def kill(self) -> None:
        """Ends the process and its group, whatever it is doing; fine if it has ended."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.read_output()
        self.connection.close()
        self.output.close()

    def obituary(self, attempts: int) -> str:
        """Why there is no result, for people."""
        code = self.process.returncode
        how = _signal_name(-code) if code < 0 else f"exit code {code}"
        text = f"the worker process died ({how}), attempt {attempts}"
        if how == "SIGKILL":
            text += "; it was killed from outside, or by the system for want of memory (try fewer workers)"
        tail = self.tail.decode(errors="replace").strip()
        return f"{text}\nthe last it said:\n{tail}" if tail else text


def _is_of_launcher(name: str) -> bool:
    return name in _OF_LAUNCHERS or name.startswith(_LAUNCHERS)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise RunError(f"cannot start a worker process: {exc}", fix="try fewer workers; what is done is kept") from exc


def _decode(reply: bytes) -> tuple[Any, str | None]:
    from stockpot.engines.worker import RETURNED

    kind, body = reply[:1], reply[1:]
    if kind != RETURNED:
        return None, body.decode(errors="replace")
    try:
        return pickle.loads(body), None
    except Exception as exc:  # noqa: BLE001 - unpickling runs the value's own code
        return None, f"the result cannot be read here: {type(exc).__name__}: {exc}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
