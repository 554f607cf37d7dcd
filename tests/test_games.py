"""Games and recordings: real kills, other processes, and what hypothesis comes up with."""

import functools
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st

from lwm_nb.foundations.rows import Rows
from lwm_nb.worlds.episodes import (
    Episode,
    Episodes,
    EpisodeWriter,
    gather,
    open_recording,
    sample_windows,
    split_episodes,
    tile_windows,
)
from lwm_nb.worlds.games import GAMES, GameTask, GameVectorEnv, Player
from lwm_nb.worlds.thesis_games import PONG

ROOT = Path(__file__).resolve().parent.parent
tried = settings(max_examples=25, derandomize=True, deadline=None)

THREE = SimpleNamespace(
    single_observation_space=spaces.Box(0, 255, (3,), np.uint8),
    single_action_space=spaces.Discrete(5),
    num_envs=1,
    metadata={"autoreset_mode": AutoresetMode.SAME_STEP},
)


def tell_tale(number, steps):
    """An episode whose bytes say where they belong."""
    rows, ends = np.arange(steps + 1), np.arange(steps + 1) == steps
    obs = np.stack([rows * 0 + number, rows, rows + number], axis=1).astype(np.uint8)
    return Episode(obs, rows % 5, rows / 10, ends & (number % 2 == 0), ends & (number % 2 == 1))


def write_endlessly(folder):
    """What the killed process does."""
    open_recording(folder, THREE, {})
    with EpisodeWriter(folder) as writer:
        while True:
            number = writer.episodes % 200
            writer.add(tell_tale(number, 1 + number % 50))


def gather_slowly(folder, parts):
    """Also killed: a recording of several parts."""
    gather(folder, GameTask("duel"), functools.partial(Player, "planner", noise=(0, 1)), 8 * parts, 3, part=8)


def start(call):
    """A process of its own that calls a function of this file."""
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r}); import test_games; test_games.{call}"
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path})


def kill_when(process, ready, patience=120):
    """SIGKILL as soon as something has happened."""
    deadline = time.monotonic() + patience
    while not ready():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_killed_writer_loses_at_most_its_last_episode(tmp_path):
    index = tmp_path / "part-00000" / "index.bin"
    process = start(f"write_endlessly({str(tmp_path)!r})")
    kill_when(process, lambda: index.exists() and index.stat().st_size > 8 * 300)
    episodes = Episodes(tmp_path)
    assert len(episodes) >= index.stat().st_size // 8
    with EpisodeWriter(tmp_path) as writer:
        writer.add(tell_tale(7, 3))
    assert episodes.refresh() == 1
    for i in range(len(episodes)):
        number = i % 200
        wanted = tell_tale(number, 1 + number % 50) if i < len(episodes) - 1 else tell_tale(7, 3)
        for name in ("obs", "action", "terminated", "truncated"):
            np.testing.assert_array_equal(getattr(episodes[i], name), getattr(wanted, name))


def test_a_killed_gathering_goes_on(tmp_path):
    parts, killed = 20, tmp_path / "killed"
    process = start(f"gather_slowly({str(killed)!r}, {parts})")
    kill_when(process, lambda: (killed / "part-00001").exists())
    assert 2 <= len(list(killed.glob("part-*"))) < parts
    gather_slowly(killed, parts)
    gather_slowly(tmp_path / "whole", parts)
    for file in (tmp_path / "whole").rglob("*.bin"):
        assert file.read_bytes() == (killed / file.relative_to(tmp_path / "whole")).read_bytes()


@tried
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=12),
    st.integers(1, 50),
    st.integers(1, 20),
    st.integers(0, 9),
)
def test_windows_never_cross(lengths, length, batch, seed):
    with tempfile.TemporaryDirectory() as folder:
        open_recording(folder, THREE, {})
        for part in (0, 1):
            with EpisodeWriter(folder, f"part-{part:05}") as writer:
                for number in range(part, len(lengths), 2):
                    writer.add(tell_tale(number, lengths[number]))
        episodes = Episodes(folder)
        order = [int(episodes[i].obs[0, 0]) for i in range(len(episodes))]
        assert sorted(order) == list(range(len(lengths)))
        which, starts = tile_windows(episodes, length)
        drawn = next(sample_windows(episodes, length, batch, seed))
        for one in (drawn, episodes.batch(which, starts, length)):
            number, row, total = one["obs"].long().unbind(-1)
            mask = one["mask"]
            assert mask[0].all() and not (mask[1:] & ~mask[:-1]).any()  # padding is at the end
            assert ((number == number[:1]) | ~mask).all() and ((total == number + row) | ~mask).all()
            assert ((row == row[:1] + torch.arange(length)[:, None]) | ~mask).all()
            last = row == torch.tensor(lengths)[number]
            assert ((one["terminated"] | one["truncated"]) == (last & mask)).all()
            assert (one["first"] == ((row == 0) & mask)).all()
            assert ((one["action"] == row % 5) | ~mask).all()
            for name in ("obs", "action", "reward", "terminated", "truncated", "first"):
                assert not one[name][~mask].any()
            ends_early = mask.sum(0) < length
            assert (last & mask).any(0)[ends_early].all()  # a window is padded only where its episode ends
        tiles = episodes.batch(which, starts, length)
        assert tiles["mask"].sum() == sum(lengths) + len(lengths)


@tried
@given(st.integers(200, 400), st.integers(0, 300), st.integers(0, 99))
def test_splits_stay(count, more, seed):
    shares = {"train": 0.6, "validation": 0.2, "test": 0.2}
    before, after = split_episodes(count, shares, seed), split_episodes(count + more, shares, seed)
    assert sorted(np.concatenate(list(before.values()))) == list(range(count))
    for name in shares:
        np.testing.assert_array_equal(after[name][after[name] < count], before[name])


@tried
@given(
    st.sampled_from(sorted(GAMES)),
    st.integers(1, 5),
    st.booleans(),
    st.integers(1, 60),
    st.integers(0, 2**31),
)
def test_rows_of_games(name, num_envs, grey, max_steps, seed):
    env, twin = (GameVectorEnv(num_envs, name, grey, max_steps=max_steps) for _ in range(2))
    rows, rng = Rows(env), np.random.default_rng(seed)
    row = rows.reset(seed)
    for step in range(50):
        if step == 20:
            twin.load_state(env.state())
        action = rng.integers(rows.num_actions, size=num_envs)
        row = rows.step(action)
        assert env.observation_space.contains(row.obs) and not (row.terminated & row.truncated).any()
        assert (row.episode_length <= max_steps).all() and (env.exact["time"] < max_steps).all()
        assert (env.exact["time"] == 0)[row.ended].all() and not env.exact["over"].any()
        if step >= 20:
            np.testing.assert_array_equal(twin.step(action)[0], row.obs)


def test_a_pickled_game_goes_on_in_another_process(tmp_path):
    env = GameVectorEnv(3, PONG)
    env.reset(seed=1)
    for _ in range(30):
        env.step(np.array([0, 4, 8]))
    (tmp_path / "env").write_bytes(pickle.dumps(env))
    code = (
        "import pickle, sys, numpy as np; env = pickle.load(open(sys.argv[1], 'rb')); "
        "np.save(sys.argv[2], np.stack([env.step(np.array([8, 0, 4]))[0] for _ in range(40)]))"
    )
    subprocess.run(
        [sys.executable, "-c", code, tmp_path / "env", tmp_path / "frames.npy"], check=True, cwd=ROOT
    )
    frames = [env.step(np.array([8, 0, 4]))[0] for _ in range(40)]
    np.testing.assert_array_equal(np.load(tmp_path / "frames.npy"), frames)
