"""Sweeps on a cluster of processes, and from the command line."""

import os
import signal
import threading
import time

import numpy as np
import pytest

from lwm_nb.foundations.run import Run
from lwm_nb.foundations.studies import Quadratic, run_job
from lwm_nb.foundations.sweep import grid, sweep, sweep_jobs
from lwm_nb.foundations.tasks import find_trainer

TASK, TOY = Quadratic(), find_trainer("descent")
TABLE = grid((0, 1), lr=[1e-4, 1e-3], updates=3_000, log_every=1_000, checkpoint_every=20)


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_dask_worker_killed_in_mid_run(tmp_path, forks):
    """A scheduler and two workers on loopback; one is killed, its run is resumed by the other."""
    distributed = pytest.importorskip("distributed")
    dask = pytest.importorskip("dask")
    jobs = sweep_jobs(TABLE, tmp_path / "sweep", TASK, TOY)
    killed = []

    def kill_one():
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            for job in jobs:
                lock = job.path / "lock"
                if not lock.exists():
                    continue
                run = Run.load(job.path)
                if len(run.states()) == 2 and run.status == "running":
                    os.kill(int(lock.read_text().split('"pid": ')[1].split(",")[0]), signal.SIGKILL)
                    killed.append(job.path.name)
                    return
            time.sleep(0.02)

    with (
        dask.config.set({"distributed.worker.multiprocessing-method": forks.get_start_method()}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None,
            local_directory=str(tmp_path / "dask"),
        ) as cluster,
        distributed.Client(cluster) as client,
    ):  # fmt: skip
        assert len(client.run(os.getpid)) == 2
        killer = threading.Thread(target=kill_one)
        killer.start()
        show = lambda status: None  # noqa: E731
        result = sweep(
            TABLE, tmp_path / "sweep", TASK, TOY, workers=2, backend="dask", episodes=16, show=show
        )
        killer.join()
    assert len(killed) == 1 and (result.status == "finished").all(), result
    for job in jobs:
        run = Run.load(job.path)
        assert run.metrics().updates.tolist() == [1_000, 2_000, 3_000]
        assert (run.path / "evaluation.json").is_file() and run_job(job) == "skipped"
    assert len(list((tmp_path / "sweep").glob("[!.]*"))) == 4, "nothing was put aside"
    again = next(job for job in jobs if job.path.name == killed[0])
    alone = sweep_jobs(TABLE[TABLE.seed == again.config.seed], tmp_path / "alone", TASK, TOY)
    alone = next(job for job in alone if job.config == again.config)
    assert run_job(alone) == "trained"
    columns = ["updates", "loss", "eval_mean"]
    a, b = (Run.load(job.path).metrics()[columns] for job in (again, alone))
    assert np.array_equal(a, b), "as a run that was never killed"
