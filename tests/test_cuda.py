"""What is trained on CUDA computes what the processor computes; skipped where there is none."""

import copy
import tempfile
from dataclasses import replace

import numpy as np
import pytest
import torch

import lwm_nb.agent.trainer  # noqa: F401 - registers it
from lwm_nb.agent.config import make_config
from lwm_nb.encoder.training import EncoderConfig, train_encoder
from lwm_nb.foundations.studies import resume_run, train_run
from lwm_nb.foundations.tasks import find_trainer
from lwm_nb.labyrinth.task import LabyrinthTask
from lwm_nb.tokens.trainer import TokensConfig, load_tokens
from lwm_nb.whitening.losses import LOSSES
from lwm_nb.worlds.evaluation import dream_forecast
from lwm_nb.worlds.games import GameTask
from lwm_nb.worlds.trainer import MODELS, WorldConfig, WorldLearner, judge_world, load_world, make_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

PONG = GameTask("pong")
SMALL = WorldConfig(context=2, horizon=6, hidden=16, draw=16, updates=20, batch_size=8, grow=0.0, counted=1.0)


@pytest.fixture(autouse=True)
def exact_products():
    """No TF32: its 10-bit mantissa would hide an error of ours."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def gradients(model, batch):
    model.zero_grad()
    loss = model.loss(batch)["loss"]
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("name", MODELS)
def test_frame_models_agree(name):
    """Loss, gradient and a dream of six steps."""
    config = replace(SMALL, model=name, device="cpu")
    here, there = make_model(PONG, config), make_model(PONG, config).cuda()
    batch = WorldLearner(PONG, config).batch(0)
    loss, gradient = gradients(here.eval(), batch)
    other, other_gradient = gradients(there.eval(), {k: v.cuda() for k, v in batch.items()})
    assert abs(loss - other) <= 1e-4 * abs(loss)
    assert (gradient - other_gradient).norm() <= 1e-3 * gradient.norm()
    dreams = [dream_forecast(model, batch, 2) for model in (here, there)]
    assert (dreams[0] - dreams[1]).abs().max() <= 0.05  # of 255


def test_a_world_model_is_stored_and_loaded():
    """Trained on the card, it is loaded on the processor."""
    config = replace(SMALL, device="cuda", log_every=10, checkpoint_every=5)
    with tempfile.TemporaryDirectory() as folder:
        run = train_run(f"{folder}/run", PONG, find_trainer("world-model"), config)
        model = load_world(run)
        assert model.device.type == "cpu"
        here, there = (judge_world(m, PONG, config, 40) for m in (model, copy.deepcopy(model).cuda()))
        for forecast, found in here.items():
            for measure, values in found.items():
                off = np.abs(values - there[forecast][measure])
                assert np.nansum(off) <= 0.05 * len(off), (forecast, measure)
        assert np.isfinite(run.metrics().loss.iloc[-1])


@pytest.mark.parametrize("name", LOSSES)
def test_losses_agree(name):
    x = torch.randn(2, 128, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64).float()
    values = []
    for device in ("cpu", "cuda"):
        x0, x1 = x.to(device).requires_grad_()
        values.append(LOSSES[name](x0, x1).item())
    assert values[0] == pytest.approx(values[1], rel=1e-3, abs=1e-5)


def test_encoder_learns_the_same():
    """The draws are the processor's, so both see the same pairs."""
    config = EncoderConfig(updates=20, log_every=20, device="cpu")
    rows = [train_encoder(replace(config, device=device))[1][-1] for device in ("cpu", "cuda")]
    assert rows[0]["loss"] == pytest.approx(rows[1]["loss"], rel=0.05)


@pytest.mark.parametrize(
    "settings", [{}, {"reader": "at once", "tokenizer_loss": "perceptual", "value_head": 0.1}]
)
def test_tokens_are_trained_and_loaded(settings):
    """All phases on the card; the run is loaded on the processor, and plays."""
    small = dict(warmup=12, tokenizer_updates=4, world_warmup=4, epochs=2, collect=4, world_updates=2)
    small |= dict(actor_updates=1, rollouts=16, horizon=4, gate=0.0, width=32, heads=2, hidden=16)
    config = TokensConfig(**small, eval_every=1, eval_episodes=8, device="cuda", **settings)
    with tempfile.TemporaryDirectory() as folder:
        run = train_run(f"{folder}/run", GameTask("catch"), find_trainer("tokens"), config)
        learner = load_tokens(run)
        assert learner.model.device.type == "cpu" and learner.actor.done == 1
        assert np.isfinite(run.metrics().token_loss.iloc[-1])
        assert learner.judge(8, 0).returns.shape == (8,)


def test_agent_is_stopped_and_resumed():
    """On the card, too: the same frames, the same rows but for the times."""
    task = LabyrinthTask(size=2, max_steps=40)
    config = make_config(
        frames=4_800, num_envs=16, hidden_size=16, unroll=8, burn_in=2, batch_size=8, learn_every=5,
        updates=1, warmup=1_200, replay=3_000, stride=8, eps_frames=2_000, log_every=1_200,
        checkpoint_every=240, add_ri=True, pretrain=5, device="cuda",
    )  # fmt: skip
    trainer = find_trainer("agent")

    def stop(row):
        if row["frames"] >= 2_400:
            raise KeyboardInterrupt

    with tempfile.TemporaryDirectory() as folder:
        whole = train_run(f"{folder}/whole", task, trainer, config)
        with pytest.raises(KeyboardInterrupt):
            train_run(f"{folder}/parts", task, trainer, config, log=stop)
        parts = resume_run(f"{folder}/parts")
        one, other = whole.metrics(), parts.metrics()
    numbers = one.select_dtypes("number").columns.difference(["wall_s", "cpu_s", "learn_s"])
    assert np.allclose(one[numbers], other[numbers], rtol=0.05, equal_nan=True)
