"""Issue 12: sixty whole updates with the settings of the official code equal those of plain torch modules.

The other side is written from the description alone: with `nn.GRU`, `nn.Linear`, `torch.optim.Adam`, loops.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from lwm_nb.agent.config import make_config
from lwm_nb.agent.training import act, begin_training, learn
from lwm_nb.labyrinth.env import LabyrinthVectorEnv

UPDATES, FEW, PRETRAIN, ENVS, BITS, ACTIONS, EARLIER = 60, 8, 5, 8, 4, 4, 8
SIZE, BURN_IN, LEARNT, BATCH = 16, 5, 8, 8
SMALL = dict(num_envs=ENVS, hidden_size=SIZE, burn_in=BURN_IN, unroll=LEARNT, batch_size=BATCH)
SMALL |= dict(frames=10_000, replay=4_096, warmup=ENVS * 40, learn_every=1, pretrain=PRETRAIN)
EQUAL, OTHER = 1e-4, 1e-3  # see `apart`
FIELDS = "obs action reward first terminated truncated".split()


@dataclass(frozen=True)
class Rules:
    """What the official code does; a change of one of them must be seen."""

    adam_eps: float = 1e-3
    tau: float = 0.05
    most_norm: float = 0.0  # of a gradient; 0 does not clip
    zero_start: bool = True  # of sequences; else from the state after the `EARLIER` rows before
    forget: bool = False  # zero states where an episode begins
    cut_is_end: bool = True
    summed: bool = True  # over time; else the mean
    rescaled: bool = True
    double: bool = True  # the online network chooses the action of the bootstrap
    burnt_in: bool = True  # the first rows warm the states up; else those are zero before the others


class Body(nn.Module):
    """Linear layer, ReLU, GRU; the reset and the update gate have one bias, as ours."""

    def __init__(self, inputs, size):
        super().__init__()
        self.first, self.gru = nn.Linear(inputs, 32), nn.GRU(32, size)
        only_n = (torch.arange(3 * size) >= 2 * size).float()
        self.gru.bias_hh_l0.register_hook(lambda gradient: gradient * only_n)

    def forward(self, x, state, begins=None):
        x, states = self.first(x).relu(), []
        if begins is None:
            return self.gru(x, state[None])[0]
        for row, begin in zip(x, begins, strict=True):
            state = self.gru(row[None], (state * ~begin[:, None])[None])[0][0]
            states.append(state)
        return torch.stack(states)


def head(size, outputs, bias=True):
    return nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, outputs, bias=bias))


class Values(nn.Module):
    """Dueling Q-values; a state and a reading of it."""

    def __init__(self, size):
        super().__init__()
        self.body = Body(BITS + ACTIONS + 1, size)
        self.value, self.advantage = head(size, 1), head(size, ACTIONS, bias=False)

    def forward(self, batch, state, rows, forget):
        """Values of rows, and the state after the last."""
        obs, action, reward, first = (batch[k][rows] for k in FIELDS[:4])
        led = torch.cat([torch.eye(ACTIONS)[action], reward[..., None]], 2)
        led[first] = 0.0  # nothing led to the first row of an episode
        states = self.body(torch.cat([obs, led], 2), state, first if forget else None)
        advantage = self.advantage(states)
        return self.value(states) + advantage - advantage.mean(2, keepdim=True), states[-1]


class World(nn.Module):
    """The next bits, from bits and the action taken."""

    def __init__(self, size):
        super().__init__()
        self.body, self.bits = Body(BITS + ACTIONS, size), head(size, BITS)

    def forward(self, batch, state, forget):
        x = torch.cat([batch["obs"][:-1], torch.eye(ACTIONS)[batch["action"][1:]]], 2)
        return torch.sigmoid(self.bits(self.body(x, state, batch["first"][:-1] if forget else None)))


def names(memory, body):
    """Pairs of our and their weights of a recurrent body."""
    gru, size = body.gru, body.gru.hidden_size
    return {
        f"{memory}.encoder.weight": body.first.weight,
        f"{memory}.encoder.bias": body.first.bias,
        f"{memory}.gates.weight": gru.weight_ih_l0,
        f"{memory}.gates.bias": gru.bias_ih_l0,
        f"{memory}.recurrent": gru.weight_hh_l0,
        f"{memory}.recurrent_bias": gru.bias_hh_l0[2 * size :],
    }


def weights_of(net):
    """Their weights under our names."""
    if isinstance(net, World):
        return names("memory", net.body) | {f"head.{k}": v for k, v in net.bits.state_dict().items()}
    value, advantage = net.value, net.advantage
    return names("memory", net.body) | {
        "heads.weight": torch.cat([value[0].weight, advantage[0].weight]),
        "heads.bias": torch.cat([value[0].bias, advantage[0].bias]),
        "value.weight": value[2].weight,
        "value.bias": value[2].bias,
        "advantage.weight": advantage[2].weight,
    }


@torch.no_grad()
def take(net, ours):
    """Give a plain network the weights of ours."""
    size = net.body.gru.hidden_size
    net.body.gru.bias_hh_l0.zero_()
    heads = {} if isinstance(net, World) else {k: ours.pop(f"heads.{k}") for k in ("weight", "bias")}
    for k, both in heads.items():
        for layer, part in zip((net.value[0], net.advantage[0]), both.split(size), strict=True):
            getattr(layer, k).copy_(part)
    theirs = weights_of(net)
    for k, v in ours.items():
        theirs[k].copy_(v)


def squeeze(x):
    return torch.sign(x) * (torch.sqrt(torch.abs(x) + 1) - 1) + 1e-3 * x


def stretch(y):
    """Inverse of `squeeze`: the positive root s of 1e-3·s² + s = |y| + 1 + 1e-3, where s = √(|x| + 1)."""
    root = (torch.sqrt(1 + 4e-3 * (torch.abs(y) + 1 + 1e-3)) - 1) / 2e-3
    return torch.sign(y) * (root**2 - 1)


class Plain:
    """The official learner by plain means."""

    def __init__(self, net, model, surprised, rules):
        self.rules, self.surprised = rules, surprised
        self.net, self.target, self.world = Values(SIZE), Values(SIZE), World(SIZE)
        take(self.net, dict(net))
        take(self.target, dict(net))
        take(self.world, dict(model))
        self.adam = torch.optim.Adam(self.net.parameters(), lr=5e-4, eps=rules.adam_eps)
        self.world_adam = torch.optim.Adam(self.world.parameters(), lr=5e-4)
        self.mean = self.std = None

    def learn_world(self, batch):
        """A step of the world model; the errors before it, and their running mean and deviation."""
        state = torch.zeros(BATCH, SIZE)
        errors = ((batch["obs"][1:] - self.world(batch, state, self.rules.forget)) ** 2).mean(2)
        self.world_adam.zero_grad()
        errors.mean().backward()
        self.world_adam.step()
        errors = errors.detach()
        mean, std = errors.mean().item(), errors.std().item()
        self.mean = mean if self.mean is None else 0.99 * self.mean + 0.01 * mean
        self.std = std if self.std is None else 0.99 * self.std + 0.01 * std
        return errors

    def start(self, net, batch, earlier, warm_up):
        """State before the rows that are learned from."""
        state = torch.zeros(BATCH, SIZE)
        if not self.rules.zero_start:
            _, state = net(earlier, state, slice(None), self.rules.forget)
        return net(batch, state, warm_up, self.rules.forget)[1] if self.rules.burnt_in else state

    def update(self, batch, earlier):
        """One update of everything."""
        rules, learnt = self.rules, slice(BURN_IN, None)
        errors = self.learn_world(batch)
        if self.surprised:
            batch["reward"][1:] += (errors - self.mean) / self.std
        with torch.no_grad():
            states = [self.start(net, batch, earlier, slice(0, BURN_IN)) for net in (self.net, self.target)]
            value, _ = self.target(batch, states[1], learnt, rules.forget)
        q, _ = self.net(batch, states[0], learnt, rules.forget)
        back, forth = (stretch, squeeze) if rules.rescaled else (lambda y: y, lambda x: x)
        over = batch["terminated"] | batch["truncated"] if rules.cut_is_end else batch["terminated"]
        loss = 0.0
        for t in range(LEARNT):
            step = BURN_IN + t + 1  # the row to which action and reward belong
            with torch.no_grad():
                best = (q if rules.double else value)[t + 1].argmax(1)
                later = back(value[t + 1][torch.arange(BATCH), best])
                goal = forth(batch["reward"][step] + 0.99 * ~over[step] * later)
            loss = loss + ((q[t][torch.arange(BATCH), batch["action"][step]] - goal) ** 2).mean()
        loss = loss if rules.summed else loss / LEARNT
        self.adam.zero_grad()
        loss.backward()
        if rules.most_norm:
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), rules.most_norm)
        self.adam.step()
        with torch.no_grad():
            for slow, quick in zip(self.target.parameters(), self.net.parameters(), strict=True):
                slow.copy_((1 - rules.tau) * slow + rules.tau * quick)

    def weights(self):
        nets = {"online": self.net, "target": self.target, "model": self.world}
        return {f"{n}.{k}": v.detach() for n, net in nets.items() for k, v in weights_of(net).items()}


def ours_now(training):
    nets = {
        "online": training.agent.net,
        "target": training.learner.target_net,
        "model": training.agent.model,
    }
    return {f"{n}.{k}": v.detach().clone() for n, net in nets.items() for k, v in net.state_dict().items()}


def played(add_ri):
    """A training as it is: weights by number of updates, the rows seen, and which were drawn."""
    config = make_config("official", add_ri=add_ri, **SMALL)
    training = begin_training(config, LabyrinthVectorEnv(ENVS, size=2, max_steps=12))
    weights, rows, windows = {0: ours_now(training)}, [], []
    replay, draw = training.learner.replay, training.learner.replay.draw
    replay.draw = lambda *args: windows.append(draw(*args)) or windows[-1]
    while training.updates < UPDATES:
        rows.append({k: np.array(getattr(training.row, k)) for k in FIELDS})
        act(training)
        learn(training)
        if training.updates in (FEW, UPDATES):
            weights.setdefault(training.updates, ours_now(training))
    rows = [rows[0]] * EARLIER + rows  # what was before the first row, for a start that is not zero
    return weights, {k: np.stack([row[k] for row in rows]) for k in FIELDS}, windows


@pytest.fixture(scope="module", params=[True, False], ids=["surprised", "by reward alone"])
def training(request):
    return request.param, *played(request.param)


def batch_of(rows, window, begin, length):
    at = EARLIER + window.start + np.arange(begin, begin + length)[:, None]
    batch = {k: torch.from_numpy(v[at, window.env]) for k, v in rows.items()}
    return batch | {k: batch[k].float() for k in ("obs", "reward")}


def by_plain_means(training, updates, **changes):
    """The weights after that many updates with the same batches."""
    add_ri, weights, rows, windows = training
    net, model = (
        {k.removeprefix(f"{n}."): v for k, v in weights[0].items() if k.startswith(f"{n}.")}
        for n in ("online", "model")
    )
    plain = Plain(net, model, add_ri, Rules(**changes))
    alone = PRETRAIN if add_ri else 0
    for number, window in enumerate(windows[: alone + updates]):
        batch = batch_of(rows, window, 0, BURN_IN + LEARNT + 1)
        if number < alone:
            plain.learn_world(batch)
        else:
            plain.update(batch, batch_of(rows, window, -EARLIER, EARLIER))
    return plain.weights()


def apart(ours, theirs, before):
    """Largest distance between our and their tensors, in units of how far theirs went."""
    assert ours.keys() == theirs.keys()
    return max(((ours[k] - v).norm() / (v - before[k]).norm()).item() for k, v in theirs.items())


def test_sixty_updates(training):
    add_ri, weights, rows, windows = training
    assert len(windows) == UPDATES + PRETRAIN * add_ri
    theirs = by_plain_means(training, UPDATES)
    assert apart(weights[UPDATES], theirs, weights[0]) < EQUAL
    for name, value in theirs.items():
        size, moved = value.abs().max().item(), value - weights[0][name]
        torch.testing.assert_close(weights[UPDATES][name], value, rtol=1e-4, atol=1e-5 * size, msg=name)
        assert moved.abs().max() > 0.03 * size, name  # 300 times as far
    learnt = [batch_of(rows, window, BURN_IN + 1, LEARNT) for window in windows]
    for ends in ("terminated", "truncated"):
        assert sum(batch[ends].sum() for batch in learnt) > 20


OTHERS = dict(
    adam_eps=1e-8, tau=0.04, most_norm=1.0, zero_start=False, forget=True, cut_is_end=False, summed=False,
    rescaled=False, double=False, burnt_in=False,
)  # fmt: skip


@pytest.mark.parametrize("training", [True], ids=["surprised"], indirect=True)
@pytest.mark.parametrize("name", OTHERS)
def test_every_rule_is_seen(training, name):
    weights = training[1]
    updates = UPDATES if name == "double" else FEW  # at first both networks like the same action best
    theirs = by_plain_means(training, updates, **{name: OTHERS[name]})
    assert apart(weights[updates], theirs, weights[0]) > OTHER
