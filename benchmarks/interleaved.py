"""Fair timing: every contender has a process of its own, and they take turns.

Own processes keep threads, memory and warm-up apart; taking turns lets whatever slows the machine
down for a while slow down all of them. Nothing here knows what a contender does.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import torch

from benchmarks.contender import MakeContender, Work
from benchmarks.memory import peak_memory_mib


@dataclass(frozen=True)
class Entry:
    """A contender that is to be measured.

    Args:
        name: what it is called in results.
        make: builds it, in its own process.
        work: what it has to do.
        threads: torch threads that it may use.
    """

    name: str
    make: MakeContender
    work: Work
    threads: int = 1


@dataclass(frozen=True)
class Protocol:
    """How long is measured.

    Args:
        rounds: turns of each contender.
        slice_s: least seconds of a turn.
        warm_up: iterations before the first turn.
        warm_up_s: seconds of warm-up after which no further iteration is begun.
    """

    rounds: int
    slice_s: float
    warm_up: int
    warm_up_s: float


@dataclass(frozen=True)
class Turn:
    """What a contender did in its turn, and the most memory that it has used so far."""

    env_steps: int
    seconds: float
    peak_memory_mib: float


@dataclass
class Measurement:
    """All turns of a contender."""

    entry: Entry
    turns: list[Turn] = field(default_factory=list)

    @property
    def speeds(self) -> list[float]:
        """Env steps per second of each turn."""
        return [turn.env_steps / turn.seconds for turn in self.turns]

    @property
    def speed(self) -> float:
        """Median env steps per second."""
        return statistics.median(self.speeds)

    @property
    def peak_memory_mib(self) -> float:
        """Largest resident memory of the process."""
        return max(turn.peak_memory_mib for turn in self.turns)


class ContenderFailed(RuntimeError):
    """A contender's process ended, or did other work than it was given."""


def _warm_up(entry: Entry, protocol: Protocol) -> Callable[[], tuple[int, float]]:
    """Builds a contender, checks that it does the work, and returns its timed iteration."""
    torch.set_num_threads(entry.threads)
    contender = entry.make(entry.work)

    def iterate() -> tuple[int, float]:
        before = contender.env_steps()
        started = time.perf_counter()
        contender.iterate()
        seconds = time.perf_counter() - started
        contender.tidy()
        return contender.env_steps() - before, seconds

    spent_s = 0.0
    for number in range(1, protocol.warm_up + 1):
        steps, seconds = iterate()
        spent_s += seconds
        updates = contender.updates()
        expected = number * entry.work.updates
        if steps != entry.work.env_steps or updates not in (None, expected):
            raise ContenderFailed(
                f"{steps} env steps instead of {entry.work.env_steps}, {updates} updates instead "
                f"of {expected}"
            )
        if spent_s > protocol.warm_up_s:
            break
    if torch.get_num_threads() != entry.threads:
        raise ContenderFailed(f"{torch.get_num_threads()} threads instead of {entry.threads}")
    return iterate


def _serve(entry: Entry, protocol: Protocol, pipe: Connection) -> None:
    """A contender's process: a turn for every number of seconds that comes through the pipe."""
    logging.disable(logging.WARNING)
    try:
        iterate = _warm_up(entry, protocol)
        pipe.send(None)
        while (slice_s := pipe.recv()) is not None:
            steps, seconds = 0, 0.0
            while seconds < slice_s:
                more_steps, more_seconds = iterate()
                steps, seconds = steps + more_steps, seconds + more_seconds
            pipe.send(Turn(steps, seconds, peak_memory_mib()))
    except Exception:
        pipe.send(traceback.format_exc())


class _ContenderProcess:
    """The parent's end."""

    def __init__(self, entry: Entry, protocol: Protocol) -> None:
        context = multiprocessing.get_context("spawn")
        self.entry = entry
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(entry, protocol, theirs), daemon=True)
        # Read when torch is imported, so it has to be there before the process is.
        with _environment(OMP_NUM_THREADS=str(entry.threads), PYTHONWARNINGS="ignore"):
            self.process.start()
        theirs.close()

    def answer(self) -> Turn | None:
        try:
            said = self.pipe.recv()
        except EOFError as error:
            raise ContenderFailed(f"{self.entry.name}: its process ended") from error
        if isinstance(said, str):
            raise ContenderFailed(f"{self.entry.name}: {said}")
        return said

    def turn(self, slice_s: float) -> Turn:
        self.pipe.send(slice_s)
        turn = self.answer()
        assert turn is not None
        return turn

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.pipe.send(None)
        self.process.join(timeout=20)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join()


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def measure(
    entries: Sequence[Entry], protocol: Protocol, advance: Callable[[str], None]
) -> dict[str, Measurement]:
    """Lets contenders take turns.

    Args:
        entries: which, with different names.
        protocol: how long.
        advance: told what comes next, once for each turn and once for the warm-up.

    Raises:
        ContenderFailed: with the traceback of its process.
    """
    measured = {entry.name: Measurement(entry) for entry in entries}
    with contextlib.ExitStack() as stack:
        processes = []
        for entry in entries:
            process = _ContenderProcess(entry, protocol)
            stack.callback(process.close)
            processes.append(process)
        advance("warm-up")
        for process in processes:
            process.answer()
        for number in range(protocol.rounds):
            # Back and forth, so that nobody always follows the same one.
            for process in processes if number % 2 == 0 else reversed(processes):
                advance(process.entry.name)
                measured[process.entry.name].turns.append(process.turn(protocol.slice_s))
    return measured
