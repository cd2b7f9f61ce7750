"""Work shared by processes: one for each core of a CPU, or one for each device of a ``torchrun`` job."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing import active_children, get_context
from typing import TypeVar

import torch
import torch.distributed as dist

from storycli import cluster

Job, Result = TypeVar("Job"), TypeVar("Result")
PATIENCE = timedelta(hours=12)  # the first process may prepare data that the others wait for


def each(work: Callable[[Job], Result], jobs: Iterable[Job], workers: int = 1) -> Iterator[Result]:
    """``map(work, jobs)`` by several processes of one thread each; in order. They end when this one does.

    One worker is this process itself.
    """
    if workers == 1:
        yield from map(work, jobs)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), cluster.begin, (1,)) as pool:
        try:
            yield from pool.map(work, jobs)
        except (KeyboardInterrupt, GeneratorExit):  # nobody waits for what they are at, which may take minutes
            for process in active_children():
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def together(device: torch.device) -> Iterator[torch.device]:
    """Within, the processes that ``torchrun`` started can reach each other; yields this one's device.

    A process that ``torchrun`` did not start is alone and keeps ``device``.
    """
    if not dist.is_torchelastic_launched():
        yield device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield device
    finally:
        dist.destroy_process_group()


def first() -> bool:
    """Whether this process is the one that speaks and writes, known before they can reach each other."""
    return not dist.is_torchelastic_launched() or os.environ["RANK"] == "0"


def place() -> tuple[int, int]:
    """The rank of this process, and how many there are: (0, 1) when it is alone."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def wait() -> None:
    """Go on when all processes have come here."""
    if dist.is_initialized():
        dist.barrier()
