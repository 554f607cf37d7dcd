"""What every function of tensors of chapters 4 and 7 to 9 does with every kind of number."""

import importlib
import inspect
import pkgutil

import numpy as np
import pytest
import torch
from test_bad_input_shapes import INPUTS, numbers, quiet

from lwm_nb.agent import dqn, forward_model
from lwm_nb.agent.intrinsic_reward import ErrorNorm
from lwm_nb.foundations.rows import Row
from lwm_nb.latent import evaluation as codes
from lwm_nb.latent import joint, mdn, vae
from lwm_nb.tokens import imagination, practice, quantisers, token_model, tokenizer, transformer
from lwm_nb.worlds import conformance, dreams, evaluation, frame_models, interface, spatial_models


def seeded(make, *sizes, **settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make(*sizes, **settings)


def fitting(net, *tensors):
    """A network of float64 for float64 alone, else of float32."""
    return net.to(torch.float64 if all(x.dtype == torch.float64 for x in tensors) else torch.float32)


Q = seeded(dqn.QNetwork, 4, 3, 8)
MODEL = seeded(forward_model.ForwardModel, 4, 3, 8, bits=False)
FRAMES = seeded(frame_models.rnn_dense, (2, 2), 3, rewards=(0.0, 1.0), hidden=2, strand=2)
LATENT = seeded(joint.LatentWorldModel, (8, 8), 3, latent=4, width=2, hidden=8, mixtures=2)
ACTOR = seeded(imagination.ActorCritic, (4,), 3, 8)
VAE = seeded(vae.VAE, (8, 8), 2, 2, scale=1.0, threshold=0.25)
THING = evaluation.Thing("thing", 1, 1, (0, 255, 0), lambda s: (s["a"], 0 * s["a"]), ("a",))


def actions(x):
    return (torch.arange(len(x)) % 3)[:, None]


def batch(x, y):
    """One sequence of one episode, whose rows are seen and paid."""
    no = torch.zeros(len(x), 1, dtype=torch.bool)
    first = no.clone()
    first[:1] = True
    out = dict(
        obs=x[:, None],
        final_obs=x[:, None],
        action=actions(x),
        reward=y[:, :2].amax(1, keepdim=True) if y.shape[1] else y.sum(1, keepdim=True),
    )
    return out | dict(first=first, terminated=no, truncated=no, mask=~no)


def pictures(x):
    return x[:, :, None, None].expand(*x.shape, 1, 3)


def gru(x, y):
    size = x.shape[1]
    weight = y[:4].repeat(3, 1) if len(y) > 3 else y.new_zeros(3 * size, size)
    keep = torch.ones(len(x), 1, 1)
    return dqn.gru_sequence(x[:, None].repeat(1, 1, 3), y.new_zeros(1, size), keep, weight, y.new_zeros(size))


def td_errors(x, y):
    net = fitting(Q, x, y)
    return list(dqn.td_errors(net, net, batch(x, y), x.new_zeros(1, 8), 2, 0.9, 0.5))


def prediction_errors(x, y):
    b = batch(x, y)
    model = fitting(MODEL, x)
    return list(forward_model.prediction_errors(model, b["obs"], b["action"], b["first"], x.new_zeros(1, 8)))


def error_norm(x, y):
    norm, counted = ErrorNorm(), torch.ones_like(x, dtype=torch.bool)
    norm.update(x, counted)
    return [norm.mean, norm.std, norm.reward(y, counted)]


def measures(x, y):
    truth, given = {"a": np.zeros((len(x), 1))}, batch(x, y) | {"obs": pictures(y)[:, None]}
    return list(evaluation.measures(pictures(x)[2:, None], given, truth, 2, (THING,)).values())


def last_rewards(x, y):
    true = x[:, 0] if x.shape[1] else x.new_zeros(len(x))
    rewards = y[0] if len(y) else y.new_zeros(4)
    return evaluation.last_rewards(x, rewards, true, y[:3].flatten())


def mean_nats(x, y):
    yes = torch.ones_like(x, dtype=torch.bool)
    return interface.mean_nats(x, {"mask": yes, "first": ~yes})


def memory_nats(x, y):
    known = codes.pairs(y[:, None], batch(y, y))
    given = batch(x, y)
    if len(x) > 2:
        x = x.unflatten(0, (-1, 2))
        given = {name: value.reshape(len(x), 2, *value.shape[2:]) for name, value in given.items()}
    else:
        x = x[:, None]
    return list(codes.memory_nats(fitting(LATENT, x, y), x, given, known).values())


def foreground_error(x, y):
    wide = [torch.cat([part[:, :, None].expand(*part.shape, 8)] * 2, 1) for part in (x, y)]
    return vae.foreground_error(fitting(VAE, x, y), wide[0], wide[1][:, None])


def actor_loss(x, y):
    no, b = torch.zeros(len(x), 1, dtype=torch.bool), batch(x, y)
    rows = b["obs"], b["action"], no, b["action"][1:], y[1:, :1], y[:, :1], y[1:, 1:2], no[1:], ~no[1:]
    rollout = imagination.Rollout(*rows, torch.zeros(1, 8))
    settings = imagination.ActorConfig()
    return list(imagination.actor_loss(fitting(ACTOR, x), rollout, x[1:, :1], settings).values())


def value_where_cut(x, y):
    """Of states in every precision; numpy, which holds the row, has no bfloat16."""
    seen = (x.float() if x.dtype == torch.bfloat16 else x).numpy()
    no, nothing = np.zeros(len(x), bool), np.zeros(len(x))
    cut, action = (np.arange(len(x)) % 3 != 1), np.arange(len(x)) % 3
    ended = np.flatnonzero(cut)
    row = Row(seen, action, nothing, no, no, cut, ended, seen[ended], nothing[ended], action[ended])
    return list(practice.value_where_cut(fitting(ACTOR, x, y), row, y.repeat(1, 2)))


def frame_loss(name):
    def call(x, y):
        eye = lambda x, y=None: x[:, :1] if y is None else (x - y).abs().mean((1, 2, 3))
        loss = tokenizer.frame_loss(name, median=y.mean(0)[None, :, None, None], eye=eye)
        return loss(pictures(x), pictures(y))

    return call


def back_and_forth(x, y):
    patches = tokenizer.to_patches(x[..., None, None], (2, 1))
    return tokenizer.from_patches(patches, (2, 1), (x.shape[1], 1, 1))


def ranked(x, y):
    return codes.ranking(x.flatten(), torch.arange(x.numel()) % 3 == 1)


EVEN = lambda x: torch.arange(len(x)) % 2 == 0
FUNCTIONS = {
    "rescale": lambda x, y: dqn.rescale(x),
    "unrescale": lambda x, y: dqn.unrescale(x),
    "gru_sequence": gru,
    "lambda_returns": lambda x, y: dqn.lambda_returns(x, y, x > 5, y > 5, 0.9, 0.5),
    "lambda_returns, most": lambda x, y: dqn.lambda_returns(x, y, x > 5, y > 5, 0.9, 0.5, most=3),
    "td_errors": td_errors,
    "pattern_codes": lambda x, y: forward_model.pattern_codes(x),
    "prediction_errors": prediction_errors,
    "ErrorNorm": error_norm,
    "same": lambda x, y: conformance.same(x, y),
    "same, itself": lambda x, y: conformance.same(x, x),
    "divergence": lambda x, y: dreams.divergence(x, y, np.ones(x.shape[1])),
    "locate": lambda x, y: list(evaluation.locate(pictures(x), THING)),
    "measures": measures,
    "read_places": lambda x, y: evaluation.read_places(
        x.repeat(2, 1), {"a": np.arange(2 * len(x)) % 4}, THING
    ),
    "expected_rewards": lambda x, y: list(evaluation.expected_rewards(fitting(FRAMES, x), x)),
    "last_rewards": last_rewards,
    "commonest_rewards": lambda x, y: evaluation.commonest_rewards(x.flatten(), y.flatten()),
    "reset_state": lambda x, y: interface.reset_state({"a": x}, {"a": y}, EVEN(x))["a"],
    "index_state": lambda x, y: interface.index_state({"a": x}, EVEN(x))["a"],
    "mean_nats": mean_nats,
    "move": lambda x, y: spatial_models.move(x[:, None, None], y.repeat(1, 2)[:, :6].reshape(-1, 2, 3)),
    "pairs": lambda x, y: list(codes.pairs(x[:, None], batch(x, y))),
    "memory_nats": memory_nats,
    "ahead_errors": lambda x, y: list(
        codes.ahead_errors(fitting(LATENT, x), x[:, None], batch(x, y), (1, 3)).values()
    ),
    "ranking": ranked,
    "outcome_rankings": lambda x, y: list(
        codes.outcome_rankings(fitting(LATENT, x), x[:, None], batch(x, y)).values()
    ),
    "log_interval": lambda x, y: joint.log_interval(x.round(), y, 2.0),
    "normal_kl": lambda x, y: vae.normal_kl(x, y.abs() + 1e-4),
    "foreground_error": foreground_error,
    "actor_loss": actor_loss,
    "value_where_cut": value_where_cut,
    "nearest": lambda x, y: quantisers.nearest(x, y[:5]),
    "straight_through": lambda x, y: quantisers.straight_through(x, y),
    "draw_index": lambda x, y: token_model.draw_index(x, torch.Generator().manual_seed(0)),
    "to_patches": lambda x, y: tokenizer.to_patches(x[..., None, None], (2, 1)),
    "from_patches": back_and_forth,
    "median_frame": lambda x, y: tokenizer.median_frame(x),
    "places_right": lambda x, y: tokenizer.places_right(
        pictures(x)[:, None], {"a": np.zeros((len(x), 1))}, THING
    ),
    "angles": lambda x, y: transformer.angles(x, 2),
    "rotate": lambda x, y: transformer.rotate(x, (y[:, :2].cos(), y[:, :2].sin())),
} | {f"frame_loss, {name}": frame_loss(name) for name in tokenizer.LOSSES}


def drawn(make):
    """How far a draw is from that of the same numbers in float32, or float64."""

    def call(x, y):
        wide = [part if part.dtype == torch.float64 else part.float() for part in (x, y)]
        one, other = (make(*parts).sample(torch.Generator().manual_seed(0)) for parts in ((x, y), wide))
        assert one.dtype == other.dtype and one.shape == other.shape
        return one - other

    return call


SPREAD = lambda y: y.abs().clamp(min=2**-10)  # exact in every precision
PREDICTIONS = {
    "Bits": (lambda x, y: forward_model.Bits(x), lambda y: (y > 0).to(y.dtype)),
    "Patterns": (lambda x, y: forward_model.Patterns(x), lambda y: (y > 0)[:, :2].to(y.dtype)),
    "Gaussian": (lambda x, y: forward_model.Gaussian(x, SPREAD(y)), lambda y: y),
    "Mixture": (
        lambda x, y: mdn.Mixture(*(torch.stack(part, -1) for part in ((x, y), (y, x), (SPREAD(x),) * 2))),
        lambda y: y,
    ),
    "Shades": (lambda x, y: frame_models.Shades(x, event=1), lambda y: y),
}
for name, (make, seen) in PREDICTIONS.items():
    FUNCTIONS[f"{name}, log_prob"] = lambda x, y, make=make, seen=seen: make(x, y).log_prob(seen(y))
    FUNCTIONS[f"{name}, mean"] = lambda x, y, make=make: make(x, y).mean
    FUNCTIONS[f"{name}, sample"] = drawn(make)
    if name in ("Bits", "Patterns", "Gaussian"):
        FUNCTIONS[f"{name}, entropy"] = lambda x, y, make=make: make(x, y).entropy()
ELSEWHERE = {
    "Certain": "one observation, with probability one",
    "FramePrediction": "a Mixture, and what a VAE makes of it",
    "TokenPrediction": "tokens, whole numbers",
    "Prediction": "a protocol",
    "bootstrap_values": "the middle of td_errors, which gives it what it computed itself",
    "plain_forecasts": "frames of a game, chosen and not computed with",
    "listed": "tokens, whole numbers",
    "perplexity": "tokens, whole numbers",
    "frame_mask": "numbers of episodes, whole",
    "place_mask": "booleans",
    "cells_around": "booleans",
    "cropped": "maps of zeros and ones, cut only",
    "distinct_rows": "bytes, compared only",
    "distinct_patches": "bytes",
    "train_eye": "a training on bytes",
    "fit_tokenizer": "a training on bytes",
}
NOTHING = {"one row", "no row", "no column"}  # NaN says that there is nothing to average
# NaN says, as documented: nothing moved or was in front, all were alike, an episode is too short
UNDEFINED = {"measures", "foreground_error", "ranking", "outcome_rankings", "ahead_errors"}
# of frames 0..scale and codes of a VAE: what is huge is neither
BOUNDED = {"measures", "foreground_error", "Shades", "Mixture"}
# observations of any kind are float32 there: 1e250 is infinite
FLOAT32_INSIDE = {"td_errors", "actor_loss", "value_where_cut"}
ROUNDING = {("ErrorNorm", "constant"), ("ErrorNorm", "tiny")}  # a deviation of .1 ulp; one that underflows: 0


def test_every_function_of_tensors_is_in_the_list():
    found = {"ErrorNorm"}
    for chapter in ("agent", "worlds", "latent", "tokens"):
        package = importlib.import_module(f"lwm_nb.{chapter}")
        for entry in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"{package.__name__}.{entry.name}")
            for name in module.__all__ if hasattr(module, "__all__") else ():
                own = getattr(module, name)
                if inspect.isfunction(own):
                    kinds = [p.annotation for p in inspect.signature(own).parameters.values()]
                    found |= {name} if torch.Tensor in kinds else set()
                elif hasattr(own, "log_prob") and hasattr(own, "sample"):
                    found.add(name)
    assert found - set(ELSEWHERE) == {name.split(",")[0] for name in FUNCTIONS} - {"frame_loss"}
    assert set(ELSEWHERE) <= found


def as_given(expected, part):
    """The right value as far as the result's precision can hold it."""
    wide = getattr(part, "dtype", None) == torch.float64
    with np.errstate(over="ignore"):
        return expected if wide else expected.astype(np.float32).astype(float)


def tolerance(x, y, part):
    """Of a result in half precision, whose terms are as large as the inputs; else what float32 keeps."""
    if getattr(part, "dtype", None) in (torch.float16, torch.bfloat16):
        size = max([1.0] + [v.double().abs().max().item() for v in (x, y) if v.numel()])
        return 2 * torch.finfo(part.dtype).eps * size
    return 1e-4


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_right_value_or_one_sentence(name, kind):
    """The value that float64 gives to the same numbers."""
    x, y = INPUTS[kind]
    try:
        result = quiet(FUNCTIONS[name])(x, y)
    except (ValueError, TypeError) as error:
        text = str(error)
        assert 15 < len(text) < 400 and "\n" not in text, text
        assert kind not in ("float32", "float64 and float32"), text
        return
    plain = name.split(",")[0]
    if (plain in BOUNDED and "huge" in kind) or (plain in FLOAT32_INSIDE and kind == "huge float64"):
        return
    found, expected = numbers(result), numbers(quiet(FUNCTIONS[name])(x.double(), y.double()))
    assert len(found) == len(expected)
    for one, other, part in zip(
        found, expected, result if isinstance(result, list) else [result], strict=True
    ):
        assert kind in NOTHING or plain in UNDEFINED or not np.isnan(one).any()
        if (plain, kind) in ROUNDING:
            assert np.isfinite(one).all()
            continue
        other = as_given(other, part)
        least = tolerance(x, y, part)
        if kind == "tiny" and plain != "unrescale":  # near 1 it is as exact as float32 near 1
            least = 1e-3 * np.abs(other[np.isfinite(other)]).max(initial=1e-35)
        rtol = 2e-2 if "bfloat16" in kind else 2e-3
        np.testing.assert_allclose(one, other, rtol=rtol, atol=least)


def test_what_is_refused_is_said():
    """Each sentence names what was given and what is allowed."""
    many = torch.ones(3, 1, 5)
    for call, words in {
        "rows are (3, 1, 5): this memory takes (T, B, 4)": lambda: dqn.Memory(4, 2)(many, many, many[0]),
        "there are 0 rows: burn_in is 2, so give at least 4": lambda: td_errors(*INPUTS["no row"]),
        "have no finite mean and deviation": lambda: error_norm(*INPUTS["huge"]),
        "are too large for torch.float32": lambda: memory_nats(*INPUTS["huge"]),
        "must be (N, D) and (K, D)": lambda: quantisers.nearest(torch.ones(3, 2), torch.ones(0, 2)),
        "needs 1 × 1 pixels": lambda: evaluation.locate(torch.ones(2, 0, 3, 3), THING),
        "there are 0 frames": lambda: tokenizer.median_frame(torch.ones(0, 2, 2)),
    }.items():
        with pytest.raises(ValueError) as found:
            words()
        assert call in str(found.value), str(found.value)
