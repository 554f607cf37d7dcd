"""Milliseconds for one update of each learner, on the processor and on the card: `tools/gpu_check.sh`."""

import platform
import sys
import tempfile
import time
from functools import cache

import torch

import lwm_nb.agent.trainer  # noqa: F401 - registers it
from lwm_nb.agent.config import make_config
from lwm_nb.atari.agent import PIXEL_PRESETS, TASK_SETTINGS, PixelConfig, training_costs
from lwm_nb.atari.frames import AtariTask
from lwm_nb.encoder.training import EncoderConfig, EncoderLearner, ImageTask
from lwm_nb.foundations.seeding import set_threads
from lwm_nb.foundations.studies import train_run
from lwm_nb.foundations.tasks import find_trainer
from lwm_nb.labyrinth.task import LabyrinthTask
from lwm_nb.worlds.games import GameTask
from lwm_nb.worlds.trainer import PRESETS, WorldConfig, WorldLearner


def milliseconds(step, number, device):
    """Median wall time of a call."""
    step()
    times = []
    for _ in range(number):
        start = time.perf_counter()
        step()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 1000 * sorted(times)[number // 2]


def frame_model(preset, device):
    """A full-length update late in the training, and how much of it is play."""
    config = WorldConfig(**PRESETS[preset], device=device)
    learner = WorldLearner(GameTask("pong"), config)
    learner.done = config.updates - 20
    return milliseconds(learner.update, 3 if device == "cpu" else 10, device)


def encoder(device):
    """The preset of chapter 2."""
    learner = EncoderLearner(EncoderConfig(device=device), ImageTask().load()[0])
    return milliseconds(learner.update, 50, device)


def agent(device):
    """Frames a second of a whole training in the labyrinth, as milliseconds for 1,000 frames."""
    config = make_config(frames=20_000, add_ri=True, device=device, checkpoint_every=0)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        train_run(f"{folder}/run", LabyrinthTask(), find_trainer("agent"), config)
        return 1000 * (time.perf_counter() - start) / 20


@cache
def atari(preset, device):
    """Milliseconds of the parts of a training on Atari, and of 1,000 frames of its whole loop."""
    config = PixelConfig(**PIXEL_PRESETS[preset] | {"device": device})
    task = AtariTask(**TASK_SETTINGS.get(("atari", preset), {}))
    costs = training_costs(config, task.make(config.num_envs), 1 if device == "cpu" else 5)
    parts = {part: 1000 * costs[part] for part in ("actor", "update", "encoder", "surprise")}
    return parts | {"1,000 frames": 1e6 / 4 / costs["steps/s"]}


def main(beginning=""):
    """Time the rows whose names begin with `beginning`."""
    if not torch.cuda.is_available():
        sys.exit("There is no CUDA device here: this script compares it with the processor.")
    set_threads(1)
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}, {platform.processor()}, one thread")
    rows = {
        f"frame model {name}": lambda d, name=name: frame_model(name, d)
        for name in ("pong", "deconvolve", "spatial", "asset", "frame")
    }
    rows |= {"encoder": encoder, "agent, 1,000 frames": agent}
    for preset in ("laptop", "paper"):
        for part in ("actor", "update", "encoder", "surprise", "1,000 frames"):
            rows[f"Atari {preset}, {part}"] = lambda d, at=(preset, part): atari(at[0], d)[at[1]]
    print(f"{'ms':28s} {'cpu':>9s} {'cuda':>9s} {'ratio':>6s}")
    for name, one in rows.items():
        if not name.startswith(beginning):
            continue
        cpu, cuda = one("cpu"), one("cuda")
        print(f"{name:28s} {cpu:9.1f} {cuda:9.1f} {cpu / cuda:6.1f}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
