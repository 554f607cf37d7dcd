"""What is wrong gets one clear sentence. `pytest -s` prints the table of all of it."""

import dataclasses
import json
import os
import pickle
import re
import shutil
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from refusals import refused

import lwm_nb.agent.trainer  # noqa: F401 - registers the trainer
from lwm_nb.agent.agent import load_agent
from lwm_nb.agent.config import TrainConfig, make_config
from lwm_nb.agent.dqn import QNetwork
from lwm_nb.agent.replay import SequenceReplay
from lwm_nb.agent.training import train
from lwm_nb.foundations.config import config_from_dict
from lwm_nb.foundations.files import LockedError, append_row, read_rows
from lwm_nb.foundations.run import Run, list_runs
from lwm_nb.foundations.seeding import check_seed, resolve_device
from lwm_nb.foundations.statistics import bootstrap_interval
from lwm_nb.foundations.studies import Job, resume_run, run_study, train_run
from lwm_nb.foundations.sweep import grid, read_grid, sweep, sweep_jobs
from lwm_nb.foundations.tasks import UniformRandom, evaluate, find_trainer
from lwm_nb.labyrinth.env import Labyrinth, LabyrinthVectorEnv
from lwm_nb.labyrinth.task import LabyrinthTask as LabyrinthConfig
from lwm_nb.whitening.losses import info_nce, vicreg, w_mse
from lwm_nb.whitening.transforms import Whitening, whiten

TINY = make_config(
    frames=3_000, num_envs=16, hidden_size=16, unroll=8, burn_in=2, batch_size=8, learn_every=4,
    updates=1, warmup=1_000, replay=2_000, stride=8, eps_frames=1_000, log_every=1_000, checkpoint_every=500,
    device="cpu",
)  # fmt: skip
MAZES = LabyrinthConfig(size=2, max_steps=40)
AGENTS = find_trainer("agent")


class Trap:
    """A pickle that would make a file."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


class NoNumbers(LabyrinthVectorEnv):
    """Rewards that are NaN from the hundredth step on, in environment 3."""

    def step(self, actions):
        obs, reward, *rest = super().step(actions)
        self.count = getattr(self, "count", 0) + 1
        if self.count > 100:
            reward[3] = np.nan
        return obs, reward, *rest


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train_run(tmp_path_factory.mktemp("trained") / "run", MAZES, AGENTS, TINY)


@pytest.fixture
def cases(trained, tmp_path):
    """(kind, call, error, words that the message must hold)"""
    copies = iter(range(1000))

    def copied(change=None):
        path = Path(shutil.copytree(trained.path, tmp_path / f"copy{next(copies)}"))
        if change:
            change(path)
        return path

    def checkpoint(damage):
        def change(path):
            file = path / "checkpoints" / "last.safetensors"
            file.write_bytes(damage(file.read_bytes()))

        return lambda: load_agent(Run.load(copied(change)))

    def text(name, content):
        return lambda path: (path / name).write_text(content)

    def file(name, content):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    def nan_run(config, env):
        run = Run.create(
            tmp_path / f"nan{next(copies)}",
            {"method": "DQN", "task": {"name": "labyrinth", **vars(MAZES)}, "settings": vars(config)},
            "agent",
        )
        return lambda: train(config, env, run)

    def two_at_once():
        run = Run.load(copied())
        (run.path / "status.json").write_text('{"status": "interrupted"}')
        with run.recording():
            resume_run(run.path)

    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    with_nan = x.clone()
    with_nan[3, 2] = torch.nan
    env = LabyrinthVectorEnv(4)
    env.reset(seed=0)
    seeded = grid(seeds=(0,), lam=[0.5], size=2)
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    (stranger / "thesis.txt").write_text("mine")
    other_kind = Run.create(tmp_path / "other", {}, "encoder").path
    trap = pickle.dumps(Trap(tmp_path / "executed"))
    cut_row = file("cut.csv", b"a,b\n1,2\n3,4,5\n")
    rng = np.random.default_rng(0)
    return [
        ("config: unknown key", lambda: make_config(gama=0.9), ValueError, "did you mean 'gamma'?"),
        (
            "config: wrong type",
            lambda: make_config(updates="two"),
            TypeError,
            "updates is 'two', but must be int",
        ),
        ("config: bool for a number", lambda: make_config(lr=True), TypeError, "lr is True"),
        (
            "config: out of range",
            lambda: make_config(gamma=1.5),
            ValueError,
            "gamma is 1.5; it must lie in 0..1",
        ),
        ("config: nothing to do", lambda: make_config(frames=0), ValueError, "frames is 0"),
        ("config: replay too small", lambda: make_config(replay=100), ValueError, "replay 100 must hold"),
        ("config: unknown preset", lambda: make_config("papr"), ValueError, "unknown preset 'papr'"),
        ("config: not a dict", lambda: config_from_dict(TrainConfig, [1]), TypeError, "dict of settings"),
        ("config: not finite", lambda: make_config(lr=float("nan")), ValueError, "lr is nan"),
        (
            "config: states too large",
            lambda: train_run(
                tmp_path / "large", MAZES, AGENTS, dataclasses.replace(TINY, checkpoint_gb=1e-6)
            ),
            ValueError,
            "more than checkpoint_gb=1e-06 allows",
        ),
        ("task: size", lambda: LabyrinthConfig(size=65).make(2), ValueError, "from 2 to 64"),
        ("task: share", lambda: LabyrinthConfig(braid=2.0).make(2), ValueError, "from 0 to 1"),
        ("seed: negative", lambda: check_seed(-1), ValueError, "seed -1"),
        ("device: unknown", lambda: resolve_device("tpu"), ValueError, "unknown device 'tpu'"),
        ("env: other number", lambda: train(TINY, LabyrinthVectorEnv(3)), ValueError, "has 3 copies"),
        ("env: action out of range", lambda: env.step(np.full(4, 9)), ValueError, "actions[0] is 9"),
        ("env: actions of a wrong shape", lambda: env.step(np.zeros(3, int)), ValueError, "shape (4,)"),
        ("env: actions of a wrong type", lambda: env.step(np.zeros(4)), ValueError, "whole numbers"),
        (
            "env: step before reset",
            lambda: LabyrinthVectorEnv(2).step(np.zeros(2, int)),
            RuntimeError,
            "call reset",
        ),
        (
            "env: maze that leads out",
            lambda: Labyrinth(3).reset(options={"passages": np.ones((3, 3, 4), bool)}),
            ValueError,
            "lead out of the labyrinth",
        ),
        (
            "env: state of another one",
            lambda: LabyrinthVectorEnv(5).load_state(env.state()),
            ValueError,
            "another env",
        ),
        ("whitening: one sample", lambda: whiten(x[:1]), ValueError, "1"),
        ("whitening: three axes", lambda: whiten(x[None]), ValueError, "takes (n, d)"),
        ("whitening: whole numbers", lambda: whiten(x.int()), TypeError, "float32 or float64"),
        ("whitening: NaN", lambda: whiten(with_nan), ValueError, "NaN or infinite values"),
        ("whitening: unknown method", lambda: whiten(x, method="svd"), ValueError, "choose one of"),
        ("whitening: other width", lambda: Whitening(5)(x), ValueError, "takes (n, 5)"),
        ("loss: two shapes", lambda: w_mse(x, x[:32]), ValueError, ""),
        ("loss: NaN", lambda: w_mse(with_nan, x), ValueError, "NaN"),
        ("loss: temperature", lambda: info_nce(x, x, temperature=0.0), ValueError, "temperature is 0"),
        ("loss: one axis", lambda: vicreg(x[0], x[0]), ValueError, "must be (n, d)"),
        (
            "network: other width",
            lambda: QNetwork(4, 4, 8).unroll(
                torch.zeros(2, 3, 5),
                torch.zeros(2, 3, dtype=torch.long),
                torch.zeros(2, 3),
                torch.zeros(2, 3, dtype=torch.bool),
                torch.zeros(3, 8),
            ),
            ValueError,
            "obs",
        ),
        ("network: no observations", lambda: QNetwork(0, 4), ValueError, "obs_dim is 0"),
        ("replay: too small", lambda: SequenceReplay(64, 3, (1,)), ValueError, "give at least 96 steps"),
        (
            "replay: nothing there yet",
            lambda: SequenceReplay(640, 4, (1,)).sample(2, 4, rng),
            ValueError,
            "no sequence",
        ),
        ("statistics: nothing", lambda: bootstrap_interval([]), ValueError, ""),
        ("evaluation: no episodes", lambda: evaluate(UniformRandom(0), env, 0, 0), ValueError, "0"),
        ("training: NaN reward", nan_run(TINY, NoNumbers(16, 2)), FloatingPointError, "the reward holds NaN"),
        (
            "training: NaN loss",
            nan_run(dataclasses.replace(TINY, lr=1e30, grad_clip=0.0), LabyrinthVectorEnv(16, 2)),
            FloatingPointError,
            "the last good checkpoint is of frame",
        ),
        ("checkpoint: cut off", checkpoint(lambda b: b[:-9]), ValueError, "it was cut off"),
        (
            "checkpoint: a bit flipped",
            checkpoint(lambda b: b[:-9] + bytes([b[-9] ^ 1]) + b[-8:]),
            ValueError,
            "checksum does not match",
        ),
        ("checkpoint: empty", checkpoint(lambda b: b""), ValueError, "not a complete safetensors file"),
        (
            "checkpoint: a malicious pickle",
            checkpoint(lambda b: trap),
            ValueError,
            "nothing in it was executed",
        ),
        (
            "checkpoint: none",
            lambda: load_agent(Run.load(copied(lambda p: (p / "checkpoints/last.safetensors").unlink()))),
            FileNotFoundError,
            "has no checkpoint 'last'",
        ),
        (
            "run: no folder",
            lambda: Run.load(tmp_path / "nowhere"),
            FileNotFoundError,
            "there is no run folder",
        ),
        ("run: not a run", lambda: Run.load(stranger), ValueError, "it has no config.json"),
        (
            "run: config damaged",
            lambda: Run.load(copied(text("config.json", '{"for'))),
            ValueError,
            "restore or remove",
        ),
        (
            "run: another version",
            lambda: Run.load(copied(text("config.json", '{"format": 7, "kind": "x", "config": {}}'))),
            ValueError,
            "has run format 7",
        ),
        (
            "run: setting of another version",
            lambda: load_agent(
                Run.load(
                    copied(
                        text(
                            "config.json",
                            json.dumps(
                                {
                                    "format": 1,
                                    "kind": "agent",
                                    "config": {"settings": {"gama": 1}, "task": {"name": "labyrinth"}},
                                }
                            ),
                        )
                    )
                )
            ),
            ValueError,
            "did you mean 'gamma'?",
        ),
        (
            "run: result damaged",
            lambda: Run.load(copied(text("evaluation.json", "{"))).read_json("evaluation"),
            ValueError,
            "not a readable result",
        ),
        (
            "run: folder in use",
            lambda: train_run(stranger, MAZES, AGENTS, TINY),
            FileExistsError,
            "is not empty",
        ),
        (
            "run: a file in its place",
            lambda: train_run(stranger / "thesis.txt", MAZES, AGENTS, TINY),
            FileExistsError,
            "is a file",
        ),
        ("run: of another kind", lambda: resume_run(other_kind), ValueError, "kind 'encoder'"),
        (
            "run: begun before",
            lambda: train(TINY, MAZES.make(16), trained),
            FileExistsError,
            "holds a training already",
        ),
        ("run: two processes", two_at_once, LockedError, "is being written by process"),
        (
            "run: resumed with nothing",
            lambda: train(TINY, MAZES.make(16), resume=True),
            ValueError,
            "resume needs a run",
        ),
        ("metrics: damaged", lambda: read_rows(cut_row), ValueError, "is damaged, it is no table"),
        (
            "metrics: unknown column",
            lambda: append_row(trained.path / "metrics.csv", {"los": 1}),
            ValueError,
            "did you mean 'loss'?",
        ),
        ("runs: no folder", lambda: list_runs(tmp_path / "nowhere"), FileNotFoundError, "there is no folder"),
        (
            "study: a wrong job",
            lambda: run_study(
                [Job(tmp_path / "bad", "x", LabyrinthConfig(size=1), TINY, AGENTS, {"episodes": 8})],
                1,
                show=lambda t: None,
            ),
            RuntimeError,
            "bad: ValueError: size is 1",
        ),
        ("grid: empty", lambda: grid(lam=[]), ValueError, "the grid is empty"),
        (
            "grid: unknown column",
            lambda: sweep_jobs(seeded.assign(lamb=1), tmp_path, MAZES, AGENTS),
            ValueError,
            "did you mean 'lam'?",
        ),
        (
            "grid: other settings there",
            lambda: sweep(
                seeded.assign(**vars(TINY) | {"lam": 0.25}), _named(copied(), "all-s0"), MAZES, AGENTS
            ),
            ValueError,
            "was made with another",
        ),
        ("grid file: none", lambda: read_grid(tmp_path / "no.toml"), FileNotFoundError, "there is no file"),
        ("grid file: damaged", lambda: read_grid(file("a.toml", b"[grid")), ValueError, "no readable TOML"),
    ]


def _named(path, name):
    root = path.with_name(f"{path.name}-root")
    root.mkdir()
    path.rename(root / name)
    return root


def test_one_clear_sentence_each(cases, trained, tmp_path):
    before = {p: p.read_bytes() for p in trained.path.rglob("*") if p.is_file()}
    wrong, lines = [], []
    for kind, call, error, words in cases:
        try:
            lines.append(f"ok    {kind:<34} {refused(call, error, re.escape(words))}")
        except (Exception, pytest.fail.Exception) as found:
            lines.append(f"WRONG {kind:<34} {type(found).__name__}: {found}")
            wrong.append(lines[-1])
    print(f"\n{len(cases)} kinds of bad input", *lines, sep="\n")
    assert not wrong, "\n".join(wrong)
    assert len(cases) >= 30 and len({kind for kind, *_ in cases}) == len(cases)
    assert not (tmp_path / "executed").exists()
    assert {p: p.read_bytes() for p in trained.path.rglob("*") if p.is_file()} == before
    assert [p.name for p in (tmp_path / "stranger").iterdir()] == ["thesis.txt"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        train_run(tmp_path / "run", MAZES, AGENTS, TINY)


def test_path_that_cannot_be_written(tmp_path):
    """A folder in which nothing can be made, for root too."""
    refused(lambda: train_run("/proc/run", MAZES, AGENTS, TINY), OSError, "/proc")


def test_the_trap_works(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "executed")))
    assert (tmp_path / "executed").exists()


class Threes(gymnasium.Env):
    """Shows a 3, twice, and says which numbers it may show."""

    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, high):
        self.observation_space, self.steps = gymnasium.spaces.Box(0, high, (2,), np.float32), 0

    def reset(self, seed=None, options=None):
        self.steps = 0
        return np.full(2, 3, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.full(2, 3, np.float32), 1.0, False, self.steps == 20, {}


def test_a_world_model_follows_what_is_shown_or_says_why_not():
    """Issue 12.18: the error of a sigmoid stayed at 4 for observations of 3."""
    config = dataclasses.replace(TINY, add_ri=True, pretrain=80, model_lr=1e-2, frames=1_600, log_every=800)
    same = gymnasium.vector.AutoresetMode.SAME_STEP
    wide, narrow = (
        gymnasium.vector.SyncVectorEnv([lambda high=high: Threes(high)] * 16, autoreset_mode=same)
        for high in (9, 1)
    )
    _, rows = train(config, wide)
    assert rows[-1]["model_error"] < 0.01
    words = "an observation holds 3.0, which its space does not have .bits. at frame 16"
    refused(lambda: train(config, narrow), ValueError, words)
