"""Issue 12.2: what is copied or pickled in the middle of an episode goes on like the original."""

import copy
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import lwm_nb
from lwm_nb.agent.config import make_config
from lwm_nb.agent.training import act, begin_training, learn, pack_training
from lwm_nb.atari.frames import AtariVectorEnv, FastAtariVectorEnv
from lwm_nb.encoder.training import EncoderConfig, EncoderLearner, ImageTask, pack_learner
from lwm_nb.labyrinth.env import LabyrinthVectorEnv
from lwm_nb.labyrinth.oracles import ORACLES, SyncLabyrinths
from lwm_nb.labyrinth.task import LabyrinthTask
from lwm_nb.latent.controller import CodeDreams, SeenVectorEnv
from lwm_nb.latent.retro import RetroVectorEnv
from lwm_nb.latent.trainer import LatentConfig, LatentLearner, recordings
from lwm_nb.tokens.practice import Practice, PracticeConfig, SideBySide
from lwm_nb.tokens.trainer import TokensConfig, TokensLearner
from lwm_nb.worlds.bonuses import Information, NewCells, PaidLabyrinths, RandomNetwork, TelevisionLabyrinths
from lwm_nb.worlds.dreams import DreamVectorEnv
from lwm_nb.worlds.games import GameTask, GameVectorEnv
from lwm_nb.worlds.interface import Corners
from lwm_nb.worlds.labyrinth_pixels import LabyrinthPixelsVectorEnv
from lwm_nb.worlds.posterior import Posterior
from lwm_nb.worlds.trainer import WorldConfig, WorldLearner

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


class Alternating:
    """An agent's training, whose updates are an iteration each."""

    def __init__(self, **changes):
        settings = dict(num_envs=4, hidden_size=8, features=8, unroll=4, burn_in=1, batch_size=4, stride=4)
        settings |= dict(warmup=200, replay=400, learn_every=1, updates=1, pretrain=2, frames=2_000)
        config = make_config(device="cpu", add_ri=True, priority=0.9, **settings | changes)
        self.training = begin_training(config, LabyrinthVectorEnv(4, **MAZES))

    def update(self):
        act(self.training)
        learn(self.training)
        return self.training.learnt

    def pack(self):
        return pack_training(self.training)


class Turns:
    """Tokens: one update of each part."""

    def __init__(self, folder):
        small = dict(warmup=6, tokenizer_updates=2, width=16, heads=2, hidden=8, rollouts=4, horizon=2)
        self.learner = TokensLearner(GameTask("catch"), TokensConfig(**small, world_batch=2, device="cpu"))
        self.learner.collect(6)
        self.learner.tokenizer_update()
        self.learner.make_world()

    def update(self):
        return self.learner.world_update(), self.learner.actor_update()

    def pack(self):
        return self.learner.pack()


def latent(folder):
    config = LatentConfig(latent=4, width=2, hidden=8, mixtures=2, recorded=4, held_out=2, device="cpu")
    return LatentLearner(GameTask("catch"), config, recordings(folder, GameTask("catch"), config)[0])


PPO = dict(stages="2:1 3,3~1:1", num_envs=6, horizon=8, hidden=12, frames=600, device="cpu")
LEARNERS = {
    "agent": lambda folder: Alternating(),
    "agent, compiled": lambda folder: Alternating(compiled=True),
    "ppo": lambda folder: Practice(LabyrinthTask(3), PracticeConfig(**PPO, compiled=False)),
    "ppo, compiled": lambda folder: Practice(LabyrinthTask(3), PracticeConfig(**PPO)),
    "encoder": lambda folder: EncoderLearner(EncoderConfig(batch_size=32), ImageTask().load()[0]),
    "world model": lambda folder: WorldLearner(GameTask("catch"), WorldConfig(batch_size=2, device="cpu")),
    "latent": latent,
    "tokens": Turns,
}


@pytest.mark.parametrize("name", LEARNERS)
def test_what_learns(name, tmp_path):
    """The copies take the steps of the original, and none of them changes another."""
    one = LEARNERS[name](tmp_path)
    for _ in range(60 if name.startswith("agent") else 2):
        one.update()
    packed = lambda learner: learner.pack()[0] if hasattr(learner, "pack") else pack_learner(learner)
    alike = lambda a, b: all(torch.equal(value, b[k]) for k, value in a.items())
    others = [make(one) for make in WAYS.values()]
    before = {k: v.clone() for k, v in packed(one).items()}
    logs = [one.update(), one.update()]
    assert not alike(before, packed(one))
    for other in others:
        assert alike(before, packed(other)), "an update of the original changes a copy"
        assert [other.update(), other.update()] == logs
        assert alike(packed(one), packed(other))


@pytest.mark.parametrize("way", WAYS)
def test_an_actor_in_the_middle_of_an_episode(way):
    policy = Practice(LabyrinthTask(3), PracticeConfig(**PPO)).policy()
    env, first = LabyrinthVectorEnv(4, **MAZES), np.ones(4, bool)
    obs, _ = env.reset(seed=1)
    policy.begin(env)
    policy.act(obs, np.zeros(4), first)
    other = WAYS[way](policy)
    for _ in range(5):
        action = policy.act(obs, np.zeros(4), ~first)
        np.testing.assert_array_equal(action, other.act(obs, np.zeros(4), ~first))
        obs = env.step(action)[0]
