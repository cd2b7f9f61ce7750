"""Work shared by processes."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import test_training
import torch
from test_training import EMPTY
from tiny import STRUCTURE, UNET
from torch import nn

from models import precision
from models.schedule import cosine
from storycli.processes import each
from storycli.training.dataset import Shards
from storycli.training.diffusion import Denoiser, denoising_loss, pick_batch, pick_source
from storycli.training.fit import learning_rate, random_source

data = test_training.data  # the fixture
CONFIG = replace(test_training.CONFIG, batch=8, optimizer="adamw")
ROOT = Path(__file__).parent.parent

SCRIPT = """
import sys
from pathlib import Path
import torch
from test_processes import CONFIG, networks
from test_training import EMPTY
from storycli import processes
from storycli.training.diffusion import train
torch.set_num_threads(1)
folder, data, stop = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
with processes.together(torch.device("cpu")) as device:
    denoiser, (rank, count) = networks(), processes.place()
    assert count == 2 and processes.first() == (rank == 0)
    for now in train(CONFIG, denoiser.unet, denoiser.structure, data, folder, empty_context=EMPTY,
                     device=device, checkpoint_seconds=-1):
        if now.seen >= stop:
            break
    processes.wait()
    torch.save(denoiser.state_dict(), folder / f"{rank}.pt")
"""


def networks() -> Denoiser:
    torch.manual_seed(CONFIG.seed)
    return Denoiser(UNET, STRUCTURE)


def by_two(folder: Path, data: Path, stop: int) -> list[dict[str, torch.Tensor]]:
    """Train with two processes until ``stop`` frames were seen; the weights that each of them ends with."""
    script, here = folder / "two.py", Path(__file__).parent
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", str(script)]
    environment = os.environ | {"PYTHONPATH": f"{here.parent}:{here}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(folder), str(data), str(stop)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def by_one(data: Path) -> dict[str, torch.Tensor]:
    """The same training in this process, which takes the shares of both in turn and averages their gradients."""
    denoiser = networks().to(memory_format=torch.channels_last)
    stills, clips = Shards(data / "stills"), Shards(data / "clips")
    optimizer = torch.optim.AdamW(
        denoiser.parameters(), betas=(0.9, 0.99), weight_decay=CONFIG.weight_decay, fused=True
    )
    for seen in range(0, CONFIG.frames, CONFIG.batch):
        optimizer.param_groups[0]["lr"] = learning_rate(seen, CONFIG.fitting())
        for rank in (0, 1):
            source, count = pick_source(CONFIG, seen, stills, clips)
            generator = random_source(CONFIG.seed, seen, 1 + rank)
            batch = pick_batch(source, count // 2, generator)
            with precision.training("cpu"):
                loss = denoising_loss(denoiser, batch, cosine(), EMPTY, CONFIG, generator, "cpu")
            (loss / 2).backward()
        nn.utils.clip_grad_norm_(denoiser.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return denoiser.state_dict()


def test_two_processes_that_are_stopped_and_go_on_train_what_one_does(data, tmp_path):
    by_two(tmp_path, data, stop=16)
    first, second = by_two(tmp_path, data, stop=CONFIG.frames)
    assert all(torch.equal(first[name], second[name]) for name in first)
    start, two, one = (flat(weights) for weights in (networks().state_dict(), first, by_one(data)))
    assert (one - start).norm() > 1
    # Adam makes steps of equal length of all gradients, and those that are nearly nothing differ by rounding.
    assert (two - one).norm() < 0.02 * (one - start).norm()


def flat(weights: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([weight.flatten() for weight in weights.values()])


def double(number: int) -> int:
    return 2 * number


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order_from_any_number_of_processes(workers):
    assert list(each(double, range(5), workers)) == [0, 2, 4, 6, 8]


SLEEPERS = """
import os, time
from storycli.processes import each

def work(job):
    print(os.getpid(), flush=True)
    time.sleep(600)

if __name__ == "__main__":
    list(each(work, range(2), workers=2))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_the_process_that_they_work_for(tmp_path, how):
    (tmp_path / "sleepers.py").write_text(SLEEPERS)
    command = [sys.executable, str(tmp_path / "sleepers.py")]
    told = dict(stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    with subprocess.Popen(command, **told, env=os.environ | {"PYTHONPATH": str(ROOT)}) as parent:
        workers = [int(parent.stdout.readline()) for _ in range(2)]
        parent.send_signal(how)
        deadline = time.monotonic() + 20
        while any(running(pid) for pid in (parent.pid, *workers)) and time.monotonic() < deadline:
            time.sleep(0.1)
        left = [pid for pid in (parent.pid, *workers) if running(pid)]
        parent.kill()
    assert not left


def running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
