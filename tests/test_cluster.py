"""Work shared by workers: the same result whoever does it, in order, also when a worker dies."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import library
import pytest

from storycli import cluster, pipeline
from storycli.config import Settings
from storycli.errors import StoryError
from storycli.retrieve import Library
from storycli.story import Plot, Story
from storycli.workspace import RunFolder

ROOT = Path(__file__).parent.parent


def double(n):
    if n < 0:
        raise StoryError(f"{n} is negative", "Take another.")
    time.sleep(0.02 * (n % 3))
    return 2 * n


def deadly(n, marks):
    """Dies the first time that 3 comes, and each time that 5 comes."""
    mark = Path(marks) / str(n)
    if n == 5 or (n == 3 and not mark.exists()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return n


def whose(_):
    time.sleep(0.2)
    return os.getpid()


def render(text: str, marks: str, *, into: Path) -> Path:
    """A stage that dies the first time that it is to film "deadly"."""
    if text == "deadly":
        deadly(3, marks)
    (into / "clip.mp4").write_text(f"{text} {os.getpid()}")
    return into / "clip.mp4"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twenty clips and two files that are none."""
    folder = tmp_path_factory.mktemp("videos")
    for n in range(20):
        library.clip(folder / f"{n:02}.mp4", seed=n)
    (folder / "empty.mp4").touch()
    (folder / "none.mp4").write_text("none")
    return folder


@pytest.fixture(scope="module")
def whole(folder, encoder, tmp_path_factory):
    """What threads make of the folder: the content of the index, and what is said of bad files."""
    shelf = Library(tmp_path_factory.mktemp("index") / "index", encoder)
    report = shelf.add([folder])
    assert (report.added, len(report.failures)) == (20, 2)
    return library.content(shelf), report.failures


@pytest.fixture(scope="module")
def ray():
    """A local cluster of three workers."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'storycli[ray]'")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forks
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, configure_logging=False)
        yield ray
        ray.shutdown()


def outcomes(crew, work, jobs):
    return [outcome for _, outcome in cluster.in_order(crew, work, jobs)]


@pytest.mark.parametrize("workers", [None, 2])
def test_results_come_in_the_order_of_the_jobs_and_errors_are_results(workers):
    with cluster.crew(workers) as crew:
        found = outcomes(crew, double, [(n,) for n in (5, 0, -1, 7, 2)])
    assert found[:2] + found[3:] == [10, 0, 14, 4]
    assert (found[2].message, found[2].hint) == ("-1 is negative", "Take another.")


def test_only_a_few_jobs_are_taken_at_a_time():
    taken = []

    def jobs():
        for n in range(100):
            taken.append(n)
            yield (n,)

    with cluster.crew() as crew:
        found = cluster.in_order(crew, double, jobs())
        next(found)
        assert len(taken) <= cluster.AHEAD * crew.size + 1


def test_work_of_a_dead_process_is_done_by_another_and_the_deadly_one_is_named(tmp_path):
    with cluster.crew(2) as crew:
        found = outcomes(crew, deadly, [(n, tmp_path) for n in range(9)])
    assert isinstance(found[5], cluster.Lost)
    assert found[:5] + found[6:] == [0, 1, 2, 3, 4, 6, 7, 8]


def test_no_process_is_left_behind():
    with cluster.crew(2) as crew:
        outcomes(crew, double, [(n,) for n in range(4)])
    for process in multiprocessing.active_children():
        process.join(10)
    assert not multiprocessing.active_children()


KILLED = """
import sys, test_cluster
from storycli import cluster
if __name__ == "__main__":
    with cluster.crew(2) as crew:
        for _, pid in cluster.in_order(crew, test_cluster.whose, [(n,) for n in range(1000)]):
            print(pid, flush=True)
"""


def test_processes_end_when_their_parent_is_killed(tmp_path):
    (tmp_path / "killed.py").write_text(KILLED)
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    program = subprocess.Popen(
        [sys.executable, str(tmp_path / "killed.py")], stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": paths}
    )
    with program:
        workers = {int(program.stdout.readline()) for _ in range(6)}
        program.kill()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def test_processes_make_the_same_index_as_threads(tmp_path, encoder, folder, whole):
    shelf = Library(tmp_path / "index", encoder)
    report = shelf.add([folder], workers=2)
    assert (library.content(shelf), report.failures) == whole


# ---- on a Ray cluster ------------------------------------------------------------------------------------------


def test_a_ray_cluster_makes_the_same_index_although_a_worker_is_killed(tmp_path, encoder, folder, whole, ray):
    pids = set(ray.get([ray.remote(whose).remote(n) for n in range(6)]))
    shelf = Library(tmp_path / "index", encoder)

    def kill(done, total, path):
        if done == 4:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)

    report = shelf.add([folder], kill, ray=True)
    assert (library.content(shelf), report.failures) == whole


def test_work_that_kills_every_worker_is_given_up_and_the_rest_is_done(tmp_path, ray):
    with cluster.crew(ray=True) as crew:
        found = outcomes(crew, deadly, [(n, tmp_path) for n in range(7)])
    assert isinstance(found[5], cluster.Lost)
    assert found[:5] + found[6:] == [0, 1, 2, 3, 4, 6]


def test_errors_of_ray_workers_are_told_as_they_are(ray):
    with cluster.crew(ray=True) as crew:
        (found,) = outcomes(crew, double, [(-2,)])
    assert isinstance(found, StoryError)
    assert (found.message, found.hint) == ("-2 is negative", "Take another.")


def test_plots_are_filmed_by_ray_workers_into_the_run_folder_although_one_dies(tmp_path, ray):
    texts = ["one", "deadly", "three"]
    with (
        cluster.filming(ray=True) as (each, act),
        RunFolder(tmp_path / "film.mp4", act=act) as run,
    ):

        def shoot(at, text):
            return run.do(render, text, str(tmp_path), at=at)

        found = [clip.read_text().split() for clip in each(shoot, ["01", "02", "03"], texts)]
        again = [clip.read_text().split() for clip in each(shoot, ["01", "02", "03"], texts)]
    assert [text for text, _ in found] == texts
    assert str(os.getpid()) not in [pid for _, pid in found]
    assert again == found


def test_a_film_is_the_same_when_its_plots_are_filmed_beside_each_other(studio, tmp_path):
    plots = [Plot(text=place, query=place, prompt=place) for place in ("forest", "beach", "city")]
    story, films = Story(title="A story", plots=plots), []
    for name, each in (("one", map), ("all", ThreadPoolExecutor(3).map)):
        with RunFolder(tmp_path / f"{name}.mp4") as run:
            films.append(pipeline.render(story, Settings(), run.do, each=each))
    assert films[0].video.read_bytes() == films[1].video.read_bytes()
    assert [shot.reference for shot in films[0].shots] == [shot.reference for shot in films[1].shots]


def test_without_ray_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(StoryError, match="Ray is not installed") as error, cluster.crew(ray=True):
        pass
    assert "storycli[ray]" in error.value.hint


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="a system without affinity")
def test_only_the_cores_that_this_process_may_use_count():
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(mine)})
    try:
        assert cluster.cores() == 1
    finally:
        os.sched_setaffinity(0, mine)
    assert cluster.cores() == len(mine)
