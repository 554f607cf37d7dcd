"""A training that is killed at any moment and resumed gives what one gives that was never stopped."""

import contextlib
import os
import random
import signal
import subprocess
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import refused

import lwm_nb.agent.trainer  # noqa: F401 - registers it
from lwm_nb.agent.config import make_config
from lwm_nb.foundations.files import LockedError
from lwm_nb.foundations.run import Run
from lwm_nb.foundations.studies import resume_run, stored_config, train_run
from lwm_nb.foundations.tasks import find_trainer
from lwm_nb.labyrinth.task import LabyrinthTask

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")

AGENT = find_trainer("agent")
TASK = LabyrinthTask(size=2, obs_noise=0.05, max_steps=40)
CONFIG = make_config(
    frames=4_800, num_envs=16, hidden_size=16, unroll=8, burn_in=2, batch_size=8, learn_every=5, updates=1,
    warmup=1_200, replay=3_000, stride=8, eps_frames=2_000, log_every=1_200, checkpoint_every=240,
    add_ri=True, pretrain=5, device="cpu",
)  # fmt: skip
TIMES = ["wall_s", "cpu_s", "learn_s"]
WRITING = ("fsync", "replace", "unlink", "write", "ftruncate", "mkdir")


def begin(path, config=CONFIG):
    return Run.create(path, stored_config(TASK, config, "x"), AGENT.kind)


def kill_at_call(number, after):
    """SIGKILL for this process at the n-th call that changes a file, before or after it is carried out."""
    calls = 0

    def wrap(function):
        def counted(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == number and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            here = calls
            try:
                return function(*args, **kwargs)
            finally:
                if here == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        return counted

    for name in WRITING:
        setattr(os, name, wrap(getattr(os, name)))


def child(path, kill, ready):
    warnings.simplefilter("error")
    env = TASK.make(2)
    env.reset(seed=0)
    env.step(np.zeros(2, int))  # numba writes its cache now, or never
    ready.send(True)
    if kill:
        kill_at_call(*kill)
    with contextlib.suppress(KeyboardInterrupt):
        resume_run(path)


@pytest.fixture(scope="module")
def spawn(forks):
    """Function that starts a process which resumes a run, and waits until it is about to begin."""

    def start(path, kill=None):
        receive, send = forks.Pipe(duplex=False)
        process = forks.Process(target=child, args=(path, kill, send))
        process.start()
        send.close()
        assert receive.poll(120) and receive.recv()
        return process

    return start


@pytest.fixture(scope="module")
def unstopped(tmp_path_factory, spawn):
    run = begin(tmp_path_factory.mktemp("unstopped") / "run")
    process = spawn(run.path)
    process.join(60)
    assert process.exitcode == 0 and run.status == "finished"
    return run


def assert_same(run, other):
    assert run.status == "finished"
    rows, others = (r.metrics().drop(columns=TIMES) for r in (run, other))
    assert len(rows) == 4 and rows.equals(others)
    (tensors, meta), (expected, expected_meta) = run.load_checkpoint(), other.load_checkpoint()
    assert meta == expected_meta and tensors.keys() == expected.keys()
    assert all(torch.equal(v, expected[k]) for k, v in tensors.items())
    left = {p.relative_to(run.path).as_posix() for p in run.path.rglob("*") if p.is_file()}
    assert left == {p.relative_to(other.path).as_posix() for p in other.path.rglob("*") if p.is_file()}


def test_killed_at_random_moments(unstopped, spawn, tmp_path):
    """Anywhere in a training: after at most a sixth of the time of a whole one."""
    moments, run, kills, newest = random.Random(0), begin(tmp_path / "run"), 0, set()
    longest = unstopped.read_json("environment")["wall_s"] / 6
    while run.status != "finished":
        process = spawn(run.path)
        if kills < 30:
            time.sleep(moments.uniform(0, longest))
        else:
            process.join(60)
        if process.is_alive():
            process.kill()
            kills += 1
        process.join(60)
        now = max(run.states(), default=0)
        if now in newest:
            longest *= 1.2  # other work slows the machine down: too short to get to another state
        newest.add(now)
        assert process.exitcode in (0, -signal.SIGKILL)
        begun = (run.path / "lock").exists()
        assert run.status in ("finished", "interrupted" if begun else "running")
    print(f"killed {kills} times, with {sorted(newest)} as the newest state")
    assert kills >= 5
    resume_run(run.path)  # removes the states of a run that was killed between "finished" and their removal
    assert_same(run, unstopped)


def test_killed_inside_of_writes(unstopped, spawn, tmp_path):
    """Each kill at some call that changes a file: in the middle of a save, a row, a removal."""
    chance, run, kills = random.Random(1), begin(tmp_path / "run"), 0
    for i in range(24):
        number = 1 + i if i < 14 else chance.randrange(14, 40)
        process = spawn(run.path, (number, bool(chance.randrange(2))))
        process.join(60)
        kills += process.exitcode == -signal.SIGKILL
        if run.status == "finished":
            break
        assert process.exitcode == -signal.SIGKILL
    if run.status != "finished":
        process = spawn(run.path)
        process.join(60)
    print(f"killed {kills} times")
    assert kills >= 20 and run.status == "finished"
    resume_run(run.path)  # as above
    assert_same(run, unstopped)


def test_interrupted_by_every_way_there_is(unstopped, spawn, tmp_path):
    run = begin(tmp_path / "run")
    for i, ask in enumerate((signal.SIGINT, signal.SIGTERM, None)):
        process = spawn(run.path)
        deadline = time.monotonic() + 60
        while len(run.states()) < 2 or run.states()[-1] <= 3 * i or not run.status == "running":
            assert time.monotonic() < deadline and process.is_alive()
            time.sleep(0.005)
        assert run.request_stop() if ask is None else os.kill(process.pid, ask) is None
        process.join(60)
        assert process.exitcode == 0 and run.status in ("interrupted", "finished")
        assert not run.stop_requested() and not list(run.path.rglob(".*.tmp"))
    resume_run(run.path)
    assert_same(run, unstopped)


def test_damaged_newest_state(unstopped, tmp_path):
    run = begin(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        resume_run(run.path, log=lambda row: stop_after(row, 3_000))
    newest = run.path / "state" / f"state-{run.states()[-1]:06d}.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.warns(UserWarning, match=f"{newest.name} cannot be used .* state before it is used"):
        resume_run(run.path)
    assert_same(run, unstopped)


def stop_after(row, frames):
    if row["frames"] >= frames:
        raise KeyboardInterrupt


def test_resumed_with_other_settings_is_refused(tmp_path):
    """Also where only the state says what they were; nothing changes, rows later than the state included."""
    other = make_config(**vars(CONFIG) | {"lr": 0.5, "device": "auto", "seed": 3})
    words = "was begun with another seed, lr: choose another folder, or resume with the same settings"
    for name, stored in (("run", stored_config(TASK, CONFIG, "x")), ("bare", {})):
        run = Run.create(tmp_path / name, stored, AGENT.kind)
        with pytest.raises(KeyboardInterrupt):
            AGENT.train(run, TASK, CONFIG, log=lambda row: stop_after(row, 1_200))
        before = {p: p.read_bytes() for p in run.path.rglob("*") if p.is_file()}
        assert run.states() and len(run.metrics()) == 1
        refused(lambda run=run: AGENT.train(run, TASK, other, resume=True), ValueError, words)
        assert {p: p.read_bytes() for p in run.path.rglob("*") if p.is_file()} == before
    tensors, meta, _ = run.restore_state()
    meta["config"] = {k: v for k, v in meta.pop("settings").items() if k != "compiled"}
    run.save_state(tensors, meta)  # as they were before, without a setting that is newer
    refused(lambda: AGENT.train(run, TASK, other, resume=True), ValueError, words)
    newer = make_config(**vars(CONFIG) | {"compiled": True})
    refused(lambda: AGENT.train(run, TASK, newer, resume=True), ValueError, "begun with another compiled: ")


def test_one_process_at_a_time(spawn, tmp_path):
    run = begin(tmp_path / "run", make_config(**vars(CONFIG) | {"frames": 10**7}))
    process = spawn(run.path)
    deadline = time.monotonic() + 60
    while not run.states():
        assert time.monotonic() < deadline and process.is_alive()
        time.sleep(0.01)
    rows = len(run.metrics())
    words = f"is being written by process {process.pid} on .*: stop that one"
    refused(lambda: resume_run(run.path), LockedError, words)
    assert run.status == "running" and len(run.metrics()) >= rows
    process.kill()
    process.join(60)
    assert run.status == "interrupted"
    with run.recording():
        assert run.status == "running"


def test_full_disk_and_on_when_there_is_room(unstopped, small_disk):
    disk = small_disk("450k")
    run = begin(disk / "run")
    words = "disk is full.*the state before it is whole: make room, then resume"
    refused(lambda: resume_run(run.path), OSError, words)
    assert run.status == "failed" and "disk is full" in run.error and run.states()
    subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
    resume_run(run.path)
    assert_same(run, unstopped)


def test_too_large_a_replay_is_refused_before_the_first_step(tmp_path):
    config = make_config(**vars(CONFIG) | {"checkpoint_gb": 1e-4})
    words = "more than checkpoint_gb=0.0001 allows: raise that, choose a small"
    refused(lambda: train_run(tmp_path / "run", TASK, AGENT, config), ValueError, words)
    run = Run.load(tmp_path / "run")
    assert run.status == "failed" and run.states() == [] and run.metrics().empty


def test_committed_run_of_an_earlier_version_still_loads():
    path = Path(__file__).parents[1] / "nbs/experiments/results/labyrinth_3/DQN+WM-s0"
    run = Run.load(path)
    before = {p: p.stat().st_mtime_ns for p in path.rglob("*")}
    assert run.status == "finished" and resume_run(path).status == "finished"
    assert AGENT.load(run).config.frames == 2_000_000
    assert {p: p.stat().st_mtime_ns for p in path.rglob("*")} == before
