"""Issue 12.2: what is copied or pickled in the middle of an episode goes on like the original."""

import copy
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

import lwm_nb
from lwm_nb.atari.frames import AtariVectorEnv, FastAtariVectorEnv
from lwm_nb.labyrinth.env import LabyrinthVectorEnv
from lwm_nb.labyrinth.oracles import ORACLES, SyncLabyrinths
from lwm_nb.latent.controller import CodeDreams, SeenVectorEnv
from lwm_nb.latent.retro import RetroVectorEnv
from lwm_nb.tokens.practice import SideBySide
from lwm_nb.worlds.bonuses import Information, NewCells, PaidLabyrinths, RandomNetwork, TelevisionLabyrinths
from lwm_nb.worlds.dreams import DreamVectorEnv
from lwm_nb.worlds.games import GameTask, GameVectorEnv
from lwm_nb.worlds.interface import Corners
from lwm_nb.worlds.labyrinth_pixels import LabyrinthPixelsVectorEnv
from lwm_nb.worlds.posterior import Posterior

MAZES = dict(size=3, max_steps=12)
GAMES = {
    LabyrinthVectorEnv: lambda: LabyrinthVectorEnv(4, **MAZES, obs_noise=0.1),
    TelevisionLabyrinths: lambda: TelevisionLabyrinths(4, **MAZES),
    LabyrinthPixelsVectorEnv: lambda: LabyrinthPixelsVectorEnv(4, **MAZES),
    GameVectorEnv: lambda: GameTask("catch").make(4),
    Corners: lambda: Corners(4),
    DreamVectorEnv: lambda: DreamVectorEnv(Posterior(3), 4, horizon=12),
    SideBySide: lambda: SideBySide([LabyrinthVectorEnv(2, **MAZES), LabyrinthVectorEnv(3, size=4)]),
    AtariVectorEnv: lambda: AtariVectorEnv("freeway", 2, size=24, max_steps=12, sticky=0.2),
}
BONUSES = {"new": NewCells, "random": RandomNetwork, "information": lambda: Information(3)}
BONUSES = {
    name: lambda make=make: PaidLabyrinths(LabyrinthVectorEnv(4, **MAZES), make())
    for name, make in BONUSES.items()
}
# not here: emulators that nobody can copy (it says so), an emulator a process, a latent model's views,
# gymnasium's own SyncVectorEnv; PaidLabyrinths is here once for each bonus
ELSEWHERE = {FastAtariVectorEnv, RetroVectorEnv, SeenVectorEnv, CodeDreams, SyncLabyrinths, PaidLabyrinths}
WAYS = {"deepcopy": copy.deepcopy, "pickle": lambda one: pickle.loads(pickle.dumps(one))}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [*GAMES.values(), *BONUSES.values()], ids=[*map(str, GAMES), *BONUSES])
def test_environment(make, way):
    env = make()
    env.reset(seed=3)
    actions = np.random.default_rng(0).integers(int(env.single_action_space.n), size=(40, env.num_envs))
    for action in actions[:7]:
        env.step(action)
    other = WAYS[way](env)
    for action in actions[7:]:
        for ours, theirs in zip(env.step(action)[:4], other.step(action)[:4], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_every_vector_environment_is_in_the_list():
    head, found = re.compile(r"^class (\w+)\(\w*Vector(?:Env|Wrapper)\)", re.MULTILINE), set()
    for file in Path(lwm_nb.__file__).parent.rglob("*.py"):
        found |= set(head.findall(file.read_text()))
    assert found == {kind.__name__ for kind in (*GAMES, *ELSEWHERE)}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ORACLES)
def test_policy(name, way):
    """Together with the mazes in which it is: the known map looks at them."""
    env, policy = LabyrinthVectorEnv(4, size=4), ORACLES[name]()
    obs, _ = env.reset(seed=1)
    policy.begin(env)
    first, pairs = np.ones(4, bool), [(env, policy)]
    for turn in range(30):
        if turn == 5:
            pairs.append(WAYS[way](pairs[0]))
        actions = [one.act(obs, np.zeros(4), first) for _, one in pairs]
        results = [maze.step(action) for (maze, _), action in zip(pairs, actions, strict=True)]
        for (_, one), action in zip(pairs, actions, strict=True):
            np.testing.assert_array_equal(action, actions[0])
            if hasattr(one, "observe"):
                one.observe(action)
        obs, first = results[0][0], results[0][2] | results[0][3]
