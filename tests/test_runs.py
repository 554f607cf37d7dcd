"""Run folders under real trouble: a full disk, kills in mid-write, Ctrl-C, files from strangers."""

import errno
import json
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path
from unittest import mock

import pytest
import torch
from refusals import refused

from lwm_nb.foundations.files import LockedError
from lwm_nb.foundations.run import Run, list_runs

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


def start(code, *args, **options):
    """A Python process that runs code; the folder of the run is its first argument."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


TRAIN = """
    import sys, torch
    from lwm_nb.foundations.run import Run
    run = Run.create(sys.argv[1], {"size": 3}, "test")
    with run.recording():
        for step in range(1, 1_000_000):
            run.save_checkpoint({"w": torch.full((200_000,), float(step))}, {"step": step})
            run.log(step=step, loss=1 / step, note="x" * 200)
            if step == 1:
                print("ready", flush=True)
"""


def assert_whole(run):
    """Checkpoint and metrics are from one history without a gap; returns the number of rows."""
    tensors, meta = run.load_checkpoint()
    assert (tensors["w"] == meta["step"]).all()
    rows = run.metrics()
    assert rows.step.tolist() == list(range(1, len(rows) + 1))
    assert meta["step"] - len(rows) in (0, 1)  # the checkpoint is written just before its row
    return len(rows)


@posix
def test_killed_at_random_moments(tmp_path):
    moments = random.Random(0)
    for i in range(4):
        folder = tmp_path / f"run{i}"
        with start(TRAIN, folder) as process:
            assert process.stdout.readline() == "ready\n", process.stderr.read()
            time.sleep(moments.uniform(0, 0.1))
            assert Run.load(folder).status == "running"
            process.kill()
        run = Run.load(folder)
        assert run.status == "interrupted"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows = assert_whole(run)
            run.log(step=rows + 1, loss=0.0, note="went on")
        assert run.metrics().note.iloc[-1] == "went on"
        run.save_checkpoint({"w": torch.zeros(3)}, {"step": 0})
        assert [p.name for p in (folder / "checkpoints").iterdir()] == ["last.safetensors"]
    table = list_runs(tmp_path)
    assert (table.status == "interrupted").all() and len(table) == 4


@posix
@pytest.mark.parametrize("sent, status", [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "interrupted")])
def test_signals_leave_a_run_that_loads(tmp_path, sent, status):
    with start(TRAIN, tmp_path / "run") as process:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        time.sleep(0.05)
        process.send_signal(sent)
        _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert ("KeyboardInterrupt" in errors) == (sent == signal.SIGINT)
    run = Run.load(tmp_path / "run")
    assert run.status == status
    assert_whole(run)
    if sent == signal.SIGINT:
        assert not list(run.path.rglob(".*.tmp"))
        assert json.loads((run.path / "status.json").read_text())["status"] == "interrupted"
        assert run.read_json("environment")["wall_s"] > 0.04


FILL = """
    import json, sys, torch
    from lwm_nb.foundations.run import Run
    run = Run.load(sys.argv[1])
    limit = int(sys.argv[2])
    if limit:
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    errors = []
    for attempt in (
        lambda: run.save_checkpoint({"w": torch.full((150_000,), 2.0)}, {"step": 2}),
        lambda: [run.log(step=i, loss=0.5, note="y" * 1000) for i in range(2, 3000)],
    ):
        try:
            attempt()
        except OSError as error:
            errors.append(str(error))
    print(json.dumps(errors))
"""


def fill(run, limit):
    process = start(FILL, run.path, limit)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out)


def small_run(folder):
    run = Run.create(folder, {"size": 3}, "test")
    run.log(step=1, loss=1.0, note="first")
    run.save_checkpoint({"w": torch.full((60_000,), 1.0)}, {"step": 1})
    return run


def assert_first_is_left(run):
    tensors, meta = run.load_checkpoint()
    assert meta == {"step": 1} and (tensors["w"] == 1).all() and len(tensors["w"]) == 60_000
    assert not list(run.path.rglob(".*.tmp"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no half-written line is left
        rows = run.metrics()
    assert rows.step.tolist() == list(range(1, len(rows) + 1))


@posix
def test_file_size_limit(tmp_path):
    """RLIMIT_FSIZE stops a write in the middle of the file, as a full disk does, without needing a mount."""
    run = small_run(tmp_path / "run")
    checkpoint, row = fill(run, 300_000)
    assert "last.safetensors" in checkpoint and "what was there before is unchanged" in checkpoint
    assert "could not append" in row and "earlier rows are kept" in row
    assert_first_is_left(run)
    assert 100 < len(run.metrics()) < 300


@posix
def test_full_disk(small_disk):
    disk = small_disk("1m")
    run = small_run(disk / "run")
    (disk / "other").write_bytes(bytes(300_000))
    checkpoint, row = fill(run, 0)
    assert "last.safetensors (the disk is full)" in checkpoint
    assert "metrics.csv (the disk is full); earlier rows are kept" in row
    assert_first_is_left(run)
    (disk / "other").unlink()  # room again: the run goes on
    rows = len(run.metrics())
    run.log(step=rows + 1, loss=0.1)
    assert len(run.metrics()) == rows + 1


@posix
def test_full_disk_while_recording(small_disk):
    """Not even the status can be written: the training error is what the caller sees, and the run loads."""
    disk = small_disk("1m")
    run = small_run(disk / "run")
    with pytest.warns(UserWarning, match="could not note that the run failed"):
        with pytest.raises(OSError, match="the disk is full"):
            with run.recording():
                block = bytes(4096)
                with open(disk / "other", "wb", buffering=0) as other:
                    try:
                        while True:
                            other.write(block)
                    except OSError:
                        pass
                run.save_checkpoint({"w": torch.zeros(60_000)}, {"step": 2})
    assert_first_is_left(Run.load(run.path))


class Malicious:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("write", [pickle.dumps, torch.save])
def test_pickle_named_as_checkpoint_runs_nothing(tmp_path, write):
    run = small_run(tmp_path / "run")
    mark = tmp_path / "executed"
    trap = run.path / "checkpoints" / "best.safetensors"
    if write is pickle.dumps:
        trap.write_bytes(pickle.dumps(Malicious(mark)))
        pickle.loads(trap.read_bytes())
        assert mark.exists()  # the trap works
        mark.unlink()
    else:
        torch.save({"model": Malicious(mark)}, trap)
    refused(lambda: run.load_checkpoint("best"), ValueError, "nothing in it was executed")
    assert not mark.exists()
    assert_first_is_left(run)


def test_truncated_checkpoint(tmp_path):
    run = small_run(tmp_path / "run")
    run.save_checkpoint({"w": torch.ones(5)}, {"step": 9}, name="best")
    path = run.path / "checkpoints" / "best.safetensors"
    whole = path.read_bytes()
    for size in {0, 1, 7, 8, 9, 50, len(whole) // 2, len(whole) - 1}:
        path.write_bytes(whole[:size])
        refused(
            lambda: run.load_checkpoint("best"), words="best.safetensors is not a complete safetensors file"
        )
    assert_first_is_left(run)


def test_half_written_last_line(tmp_path):
    run = small_run(tmp_path / "run")
    with open(run.path / "metrics.csv", "a") as file:
        file.write("2,0.")
    with pytest.warns(UserWarning, match="ignored a half-written last line"):
        assert run.metrics().step.tolist() == [1]
    with pytest.warns(UserWarning, match="removed a half-written last line"):
        run.log(step=2, loss=0.25)
    assert run.metrics().loss.tolist() == [1.0, 0.25]


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "is not a run folder"),
        ("", "is not a readable run config"),
        ('{"format": 1, "kind": "x", "conf', "is not a readable run config"),
        ("[1, 2]", "is not a run folder"),
        (
            '{"format": 3, "kind": "x", "config": {}}',
            "has run format 3, this version of lwm_nb reads 1 and 2",
        ),
    ],
)
def test_folder_that_is_not_a_run(tmp_path, text, message):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    (tmp_path / "mine.txt").write_text("kept")
    refused(lambda: Run.load(tmp_path), ValueError, message)
    refused(lambda: Run.create(tmp_path, {}, "test"), FileExistsError, "is not empty")
    assert (tmp_path / "mine.txt").read_text() == "kept"


def test_rows_of_a_finished_run_are_never_removed(tmp_path):
    def contents():
        "Of all files, but for the second at which the lock was taken."
        files = {p: p.read_bytes() for p in run.path.rglob("*") if p.is_file()}
        files[lock] = re.sub(rb'"time": "[^"]*"', b"", files[lock])
        return files

    run = small_run(tmp_path / "run")
    lock = run.path / "lock"
    with run.recording():
        run.log(step=2, loss=0.5, note="last")
    before = contents()
    for again in (run, Run.load(run.path)):
        words = "has finished: its rows and weights stay; train in another folder"
        refused(again.restore_state, ValueError, words)
        refused(again.recording().__enter__, ValueError, "has finished")
    assert contents() == before


@posix
@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_file_system_without_locks(tmp_path, code):
    """A warning, and training goes on; nobody else gets in meanwhile, and nothing blocks the next one."""
    with mock.patch("fcntl.flock", side_effect=OSError(code, os.strerror(code))):
        run = Run.create(tmp_path / "run", {}, "test")
        for turn in (1, 2):
            with pytest.warns(UserWarning, match="has no locks"), pytest.raises(KeyboardInterrupt):
                with run.recording():
                    assert Run.load(run.path).status == "running"
                    again = Run.load(run.path).recording()
                    refused(again.__enter__, LockedError, f"is being written by process {os.getpid()} on ")
                    run.log(step=turn)
                    raise KeyboardInterrupt
        assert run.status == "interrupted" and run.metrics().step.tolist() == [1, 2]


@posix
def test_each_row_is_read_once_for_all_states(tmp_path):
    run = Run.create(tmp_path / "run", {}, "test")
    read = []
    with mock.patch("zlib.crc32", wraps=__import__("zlib").crc32) as crc:
        for step in range(40):
            run.log(step=step, note="x" * 1000)
            crc.reset_mock()
            run.save_state({}, {"step": step})
            read.append(max(len(call.args[0]) for call in crc.call_args_list))
    assert max(read) < 3000 < (run.path / "metrics.csv").stat().st_size


def test_folder_of_an_earlier_version_is_read(tmp_path):
    old = {"method": "DQN", "labyrinth": {"size": 3}, "train": {"lam": 0.8}, "curve_episodes": 8}
    (tmp_path / "config.json").write_text(json.dumps({"format": 1, "kind": "labyrinth-agent", "config": old}))
    run = Run.load(tmp_path)
    assert run.kind == "agent" and run.config["task"] == {"name": "labyrinth", "size": 3}
    assert run.config["settings"] == {"lam": 0.8} and run.config["method"] == "DQN"
