"""Many workers behind one interface: threads of this process, processes of this machine, or a Ray cluster.

A crew does pieces of work, ``work(*args)``, functions and values that can be pickled. What it is made of changes how
long that takes and never what comes out. A worker that dies takes nothing with it: another one does its work again.
"""

import contextlib
import functools
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any, Protocol

from storycli.errors import StoryError

AHEAD = 2  # pieces of work for each worker that are handed out before the first of them has to be ready
LIVES = 3  # workers that a piece of work may cost before it is given up
PRELOADED = ["storycli.library.shots", "models.frozen_in_time"]  # what every process would import for itself


def cores() -> int:
    """How many cores this process may use, which a batch system or a container may have limited."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Lost(StoryError):
    """All workers that took on a piece of work died."""

    def __init__(self) -> None:
        super().__init__("every worker that took this on died", "It may need more memory than they have.")


class Crew(Protocol):
    """Workers, ``size`` of them at a time; ``deaths`` are the exceptions that tell of one's end."""

    size: int
    deaths: tuple[type[Exception], ...]

    def submit(self, work: Callable[..., Any], *args: Any) -> Future: ...

    def again(self, work: Callable[..., Any], *args: Any) -> Any:
        """Does work anew whose worker died. Raises Lost when that is hopeless."""

    def close(self) -> None: ...


def result(crew: Crew, work: Callable[..., Any], args: tuple, begun: Future) -> Any:
    """What work comes to, whatever happens to its first worker."""
    try:
        return begun.result()
    except crew.deaths:
        return crew.again(work, *args)


def in_order(crew: Crew, work: Callable[..., Any], jobs: Iterable[tuple]) -> Iterator[tuple[tuple, Any]]:
    """(args, ``work(*args)`` or the exception that it raised) for each job; only a few are under way at any time."""
    waiting: deque[tuple[tuple, Future]] = deque()

    def first() -> tuple[tuple, Any]:
        args, begun = waiting.popleft()
        try:
            return args, result(crew, work, args, begun)
        except Exception as error:
            return args, error

    for args in jobs:
        waiting.append((args, crew.submit(work, *args)))
        if len(waiting) > AHEAD * crew.size:
            yield first()
    while waiting:
        yield first()


@contextlib.contextmanager
def crew(workers: int | None = None, *, ray: bool = False, device: str = "cpu") -> Iterator[Crew]:
    """``workers`` processes, the workers of a Ray cluster, or else threads of this process, one for each core.

    On a cluster each worker has a core, and a GPU to itself where there are some and ``device`` is not the CPU.
    The cluster is the one that RAY_ADDRESS names or that runs on this machine; without any, Ray starts workers here.
    Its machines must have storycli installed and see the same folders. Raises StoryError where Ray is not installed or
    its cluster cannot be reached.
    """
    made: Crew = OnRay(workers, device) if ray else Processes(workers) if workers else Threads()
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def filming(*, ray: bool, device: str = "cpu") -> Iterator[tuple[Callable[..., Iterable[Any]], Callable[..., Any]]]:
    """How to film plots: ``map``, and ``act``, which carries out a stage; on a Ray cluster plots are beside each other.

    What takes long, depth and rendering, is done by its workers, which write into the run folder.
    """
    if not ray:
        yield map, here
        return
    with crew(ray=True, device=device) as workers, ThreadPoolExecutor(workers.size) as waiting:

        def act(stage: Callable[..., Any], *inputs: Any, **how: Any) -> Any:
            if stage.__name__ not in ("depth", "render"):
                return here(stage, *inputs, **how)
            how.pop("report", None)  # it leads to this screen
            work = functools.partial(stage, **how)
            return result(workers, work, inputs, workers.submit(work, *inputs))

        try:
            yield waiting.map, act
        finally:
            waiting.shutdown(cancel_futures=True)  # what is under way is kept


def here(work: Callable[..., Any], *args: Any, **how: Any) -> Any:
    return work(*args, **how)


class Threads:
    """Threads of this process; they only die with it."""

    deaths = ()

    def __init__(self) -> None:
        self.size = cores()
        self.pool = ThreadPoolExecutor(self.size)
        self.submit = self.pool.submit

    def again(self, work: Callable[..., Any], *args: Any) -> Any:
        raise Lost

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)


class Processes:
    """Processes of this machine, each with its share of the cores. When one dies they all are replaced."""

    deaths = (BrokenExecutor,)

    def __init__(self, size: int):
        self.size = size
        self.others = set(multiprocessing.active_children())
        self.pool = self._start(size)

    def _start(self, size: int) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
        if sys.platform == "linux":  # elsewhere system libraries do not bear a fork
            context.set_forkserver_preload(PRELOADED)
        return ProcessPoolExecutor(size, context, begin, (max(1, cores() // self.size),))

    def submit(self, work: Callable[..., Any], *args: Any) -> Future:
        try:
            return self.pool.submit(work, *args)
        except BrokenExecutor:
            self.pool.shutdown(wait=False)
            self.pool = self._start(self.size)
            return self.pool.submit(work, *args)

    def again(self, work: Callable[..., Any], *args: Any) -> Any:
        """Alone, so that it cannot be blamed for what another one did."""
        try:
            with self._start(1) as alone:
                return alone.submit(work, *args).result()
        except BrokenExecutor as error:
            raise Lost from error

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - self.others:
            process.terminate()


class OnRay:
    """Workers of a Ray cluster, or of a part of it; Ray itself does their work again when they die."""

    def __init__(self, size: int | None = None, device: str = "cpu"):
        try:
            import ray
        except ImportError as error:
            raise StoryError("Ray is not installed", "pip install 'storycli[ray]'") from error
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anyone
        self.ray, self.own = ray, not ray.is_initialized()
        try:
            if self.own:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", RuntimeWarning)  # LanceDB's, at each fork, even before an exec
                    ray.init(log_to_driver=False, configure_logging=False, include_dashboard=False)
        except (ConnectionError, OSError, RuntimeError, TimeoutError) as error:
            raise StoryError(
                f"the Ray cluster cannot be reached: {error}",
                "See RAY_ADDRESS, and: ray status; where Ray asks for a token, set RAY_AUTH_MODE=token",
            ) from error
        there = ray.cluster_resources()
        gpus = int(there.get("GPU", 0)) if device != "cpu" else 0
        self.size = size or gpus or int(there.get("CPU", 1))
        self.deaths = (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError)
        self.task = ray.remote(num_cpus=1, num_gpus=min(1, gpus), max_retries=LIVES - 1)(_do)

    def submit(self, work: Callable[..., Any], *args: Any) -> Future:
        return self.task.remote(os.getcwd(), work, *args).future()

    def again(self, work: Callable[..., Any], *args: Any) -> Any:
        raise Lost

    def close(self) -> None:
        if self.own:
            self.ray.shutdown()


def _do(folder: str, work: Callable[..., Any], *args: Any) -> Any:
    os.chdir(folder)
    return work(*args)


def begin(threads: int) -> None:
    """What a new process does first: keep to its share of the cores, and end without a word when its parent does."""
    import torch

    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    parent = multiprocessing.parent_process()

    def end_too() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_too, daemon=True).start()
