"""What every transform, loss, network and reader of chapters 1, 2 and 6 says to what it cannot take."""

import inspect
import io
import json
import tarfile
import warnings

import gymnasium
import numpy as np
import pytest
import torch
from refusals import refused

from lwm_nb.agent.forward_model import ForwardNetwork
from lwm_nb.encoder import evaluation, networks, pairs
from lwm_nb.encoder.evaluation import heat_map, neighbour_accuracy, tsne
from lwm_nb.encoder.multiple_runs import aggregate, train_encoders
from lwm_nb.encoder.networks import STACKS, Encoder
from lwm_nb.encoder.pairs import ImageSet, class_index, fetch, load_images, read_cifar10, temporal_pairs
from lwm_nb.encoder.training import EncoderConfig, load_encoder, train_encoder
from lwm_nb.foundations.run import Run
from lwm_nb.foundations.studies import resume_run
from lwm_nb.panels.episodes import load_episode
from lwm_nb.whitening import bench, collapse, losses, transforms
from lwm_nb.whitening.losses import LOSSES
from lwm_nb.whitening.transforms import METHODS, covariance, whiten

X = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
NAN = X.clone()
NAN[3, 2] = torch.nan


class Trap:
    """A pickle that would speak."""

    def __reduce__(self):
        return pytest.fail, ("a file was executed",)


@pytest.mark.parametrize("method", METHODS)
def test_transforms(method):
    assert "takes (n, d)" in refused(lambda: whiten(X[None], method), ValueError)
    assert "NaN or infinite values in column 2" in refused(lambda: whiten(NAN, method), ValueError)
    assert "call x.float()" in refused(lambda: whiten(X.long(), method), TypeError)
    assert "take at least 9 samples" in refused(lambda: whiten(X[:5], method), ValueError)
    assert "eps" in refused(lambda: whiten(X, method, eps=-1.0), ValueError)


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name):
    loss = LOSSES[name]
    assert "must be (n, d), the same" in refused(lambda: loss(X, X[:32]), ValueError)
    assert "must be (n, d)" in refused(lambda: loss(X[0], X[0]), ValueError)
    assert "with n at least" in refused(lambda: loss(X[:0], X[:0]), ValueError)
    assert "call x.float()" in refused(lambda: loss(X.long(), X.long()), TypeError)


# --- every exported function of embeddings, with every kind of number ---------------------------------------


def labels_of(x):
    return torch.arange(len(x)) % 2


def exact_covariance(x):
    """Without the rounding errors that centring a constant leaves."""
    cov = covariance(x.double()).round(decimals=9).to(x.dtype)
    if not cov.isfinite().all():
        raise ValueError("this covariance overflows: there is none to try")
    return cov


def gram(white):
    """Whitened by eigenvectors, whose signs are free: compare products."""
    return white @ white.T


def quiet(function):
    def call(*args, **options):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*args, **options)

    return call


def spectrum_lines(x, y):
    from matplotlib import pyplot as plt

    axes = collapse.plot_spectrum({"x": x})
    plt.close(axes.figure)
    return [line.get_ydata() for line in axes.lines]


def judged(function):
    return lambda x, y: function(x, labels_of(x), y, labels_of(y))


FUNCTIONS = {
    "covariance": lambda x, y: covariance(x),
    "newton_schulz": lambda x, y: transforms.newton_schulz(exact_covariance(x)),
    "whitening_matrix": lambda x, y: transforms.whitening_matrix(exact_covariance(x)),
    "shrink": lambda x, y: transforms.shrink(exact_covariance(x), 0.1),
    "whiten": lambda x, y: whiten(x),
    "Whitening": lambda x, y: transforms.Whitening(4)(x),
    "epps_pulley": lambda x, y: losses.epps_pulley(x),
    "spectrum": lambda x, y: collapse.spectrum(x),
    "covariance_rank": lambda x, y: collapse.covariance_rank(x),
    "effective_rank": lambda x, y: collapse.effective_rank(x),
    "rankme": lambda x, y: collapse.rankme(x),
    "mean_cosine": lambda x, y: collapse.mean_cosine(x),
    "collapse_report": lambda x, y: list(collapse.collapse_report(x).values()),
    "plot_spectrum": spectrum_lines,
    "heat_map": lambda x, y: heat_map(x, labels_of(x)),
    "neighbour_accuracy": judged(neighbour_accuracy),
    "probe_accuracy": judged(evaluation.probe_accuracy),
    "whitened": lambda x, y: gram(evaluation.whitened(x, y)[1]),
    "judge": lambda x, y: list(judged(evaluation.judge)(x, y).values()),
    "tsne": quiet(lambda x, y: tsne(x, perplexity=5)),
} | LOSSES
FUNCTIONS |= {f"whiten, {m}": lambda x, y, m=m: whiten(x, m) for m in METHODS[1:]}
FUNCTIONS |= {f"whiten, {m}, eps": lambda x, y, m=m: whiten(x, m, 0.1) for m in METHODS}
ELSEWHERE = {
    "official_style": "the competitor of the bench, which checks no more than the original does",
    "plot_map": "its points are those of tsne",
    "class_index": "labels, see test_images_and_pairs",
    "temporal_pairs": "booleans, see test_images_and_pairs",
}
FREE_OF_SCALE = {"covariance_rank", "effective_rank", "rankme", "mean_cosine", "neighbour_accuracy"}
FREE_OF_SCALE |= {
    "probe_accuracy",
    "whitened",
    "plot_spectrum",
    "info_nce",
    "barlow_twins",
    "w_mse",
    "dw_mse",
}
FREE_OF_SCALE |= {"w_mse_icml", "whiten"}
NOISE = {"tsne", "dw_mse_summed"}  # a layout, and a rounding error: only finite
PHASES = {"epps_pulley", "sigreg"}  # cosines of huge numbers

G = torch.Generator().manual_seed(1)
A = torch.randn(24, 4, generator=G, dtype=torch.float64)
B = 0.8 * A + 0.6 * torch.randn(24, 4, generator=G, dtype=torch.float64)
INPUTS = {
    "float32": (A.float(), B.float()),
    "half": (A.half(), B.half()),
    "half, large": ((400 * A).half(), (400 * B).half()),
    "bfloat16": (A.bfloat16(), B.bfloat16()),
    "half and float32": (A.half(), B.float()),
    "float64 and float32": (A, B.float()),
    "one row": (A[:1].float(), B[:1].float()),
    "no row": (A[:0].float(), B[:0].float()),
    "no column": (A[:, :0].float(), B[:, :0].float()),
    "constant": (torch.full((24, 4), 0.1), torch.full((24, 4), 0.1)),
    "a constant column": ((A * torch.tensor([1, 1, 1, 0])).float() + 0.1, B.float()),
    "zero": (torch.zeros(24, 4), torch.zeros(24, 4)),
    "tiny": ((1e-30 * A).float(), (1e-30 * B).float()),
    "huge": ((1e30 * A).float(), (1e30 * B).float()),
    "tiny float64": (1e-250 * A, 1e-250 * B),
    "huge float64": (1e250 * A, 1e250 * B),
}


def numbers(result):
    parts = result if isinstance(result, list) else [result]
    return [np.asarray(p.detach().double() if isinstance(p, torch.Tensor) else p, dtype=float) for p in parts]


def test_every_function_of_tensors_is_in_the_list():
    modules = (transforms, losses, collapse, bench, evaluation, pairs, networks)
    found = {
        name
        for module in modules
        for name in module.__all__
        if inspect.isfunction(own := getattr(module, name))
        and any(p.annotation is torch.Tensor for p in inspect.signature(own).parameters.values())
    } | {"Whitening", "plot_spectrum"}
    assert found - set(ELSEWHERE) == {name for name in FUNCTIONS if "," not in name}


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_right_value_or_one_sentence(name, kind):
    """The value that float64 gives; for float64 itself, the value of the same numbers at a usual scale."""
    x, y = INPUTS[kind]
    try:
        found = numbers(FUNCTIONS[name](x, y))
    except (ValueError, TypeError) as error:
        text = str(error)
        assert 15 < len(text) < 400 and "\n" not in text, text
        assert kind not in ("float32", "float64 and float32"), text
        return
    if name in NOISE or (name in PHASES and "huge" in kind):
        assert all(np.isfinite(part).all() for part in found)
        return
    if "float64" in kind and "and" not in kind:
        if name.split(",")[0] not in FREE_OF_SCALE:
            assert all(np.isfinite(part).all() for part in found)
            return
        expected = numbers(FUNCTIONS[name](A, B))
    else:
        expected = numbers(FUNCTIONS[name](x.double(), y.double()))
    assert len(found) == len(expected)
    largest = x.double().abs().max().item() if x.numel() else 0.0
    for one, other in zip(found, expected, strict=True):
        least = 1e-3 * min(1, np.abs(other).max(initial=1e-35)) + (1e-6 * min(largest, 1.0)) ** 2
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=least)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_compute_in_float32_under_autocast_and_give_half_its_gradient(name):
    x, y = (part.half().requires_grad_() for part in (A, B))
    plain = LOSSES[name](x, y)
    with torch.autocast("cpu"):
        value = LOSSES[name](x, y)
    value.backward()
    assert value.dtype == torch.float32 and value.item() == plain.item()
    assert x.grad.dtype == torch.float16 and x.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_that_is_not_finite_stops_the_training(name, tmp_path):
    """Whatever the loss makes of NaN or a collapse: an error, and the earlier state can be loaded."""
    config = EncoderConfig(name, lr=1e30, updates=40, log_every=10, checkpoint_every=1)
    run = Run.create(tmp_path / name, config, "encoder")

    def attempt():
        with run.recording():
            train_encoder(config, run=run)

    refused(attempt, (FloatingPointError, ValueError))
    assert run.status == "failed" and run.states()
    tensors, _, _ = run.restore_state()
    assert set(tensors) > {"generator"}


@pytest.mark.parametrize("network", STACKS)
def test_encoders(network):
    size = {"small": 8, "rolim": 32, "atari": 84}[network]
    encoder = Encoder((1, size, size), network)
    images = torch.zeros(2, 1, size, size, dtype=torch.uint8)
    assert encoder(images).shape == (2, 16)
    assert "is too small" in refused(lambda: Encoder((1, 4, 4), network), ValueError)
    assert "give them as uint8" in refused(lambda: encoder(images.float()), TypeError)
    assert "was made for" in refused(lambda: encoder(images[:, :, 1:]), ValueError)
    assert "was made for" in refused(lambda: encoder(images[0]), ValueError)


def test_world_model():
    model = ForwardNetwork(4, 3)
    z, action = torch.zeros(5, 2, 4), torch.zeros(5, 2, dtype=torch.long)
    first, hidden = torch.zeros(5, 2, dtype=torch.bool), torch.zeros(2, 128)
    assert model.unroll(z, action, first, hidden).shape == (5, 2, 128)
    for wrong in ((z[:, :, :3], action, first), (z[0], action, first), (z, action[:3], first)):
        assert "must be (T, B, 4)" in refused(lambda wrong=wrong: model.unroll(*wrong, hidden), ValueError)


def test_images_and_pairs(tmp_path):
    assert "choose one of digits" in refused(lambda: load_images("mnist"), ValueError)
    assert "uint8" in refused(lambda: ImageSet(X, torch.zeros(64).long(), ("a",)), TypeError)
    assert "make no pair" in refused(lambda: class_index(torch.tensor([0, 1])), ValueError)
    for wrong in (torch.tensor([0.0, 0.0]), torch.tensor([-1, -1]), torch.zeros(2, 2).long()):
        assert "give (N,) int64" in refused(lambda wrong=wrong: class_index(wrong), ValueError)
    generator = torch.Generator()
    alone = torch.ones(5, dtype=torch.bool)
    assert "give (T,) bool" in refused(lambda: temporal_pairs(alone.float(), 1, 1, generator), ValueError)
    assert "no two of one episode" in refused(lambda: temporal_pairs(alone, 1, 1, generator), ValueError)
    assert "with a browser" in refused(lambda: load_images("cifar10", tmp_path), FileNotFoundError)
    for content in (b"", b"PK\x03\x04", b"\x1f\x8b\x08" + 20 * b"\0"):
        (tmp_path / "a.tar.gz").write_bytes(content)
        assert "is no complete CIFAR-10 archive" in refused(
            lambda: read_cifar10(tmp_path / "a.tar.gz"), ValueError
        )
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("x/test_batch.bin")
        entry.size = 3_072
        archive.addfile(entry, io.BytesIO(bytes(3_072)))
    assert "is no complete CIFAR-10" in refused(lambda: read_cifar10(tmp_path / "b.tar.gz"), ValueError)


def test_a_foreign_cifar_file_is_neither_read_nor_removed(tmp_path):
    from lwm_nb.encoder.pairs import CIFAR10

    mine = tmp_path / "cifar-10-binary.tar.gz"
    mine.write_text("my thesis")
    assert "wrong checksum" in refused(lambda: fetch(CIFAR10, tmp_path, download=True), ValueError)
    assert mine.read_text() == "my thesis"


def test_judging():
    labels = torch.arange(64) % 2
    assert "must be finite" in refused(lambda: heat_map(NAN, labels), ValueError)
    assert "must be (n, d) and (n,)" in refused(lambda: heat_map(X, labels[:9]), ValueError)
    assert "has less than 2 images" in refused(lambda: heat_map(X[:3], torch.tensor([0, 0, 1])), ValueError)
    assert "neighbours" in refused(lambda: neighbour_accuracy(X, labels, X, labels, k=65), ValueError)
    assert "perplexity" in refused(lambda: tsne(X, perplexity=64), ValueError)
    assert "must be finite" in refused(lambda: tsne(NAN), ValueError)
    assert "must be finite" in refused(lambda: neighbour_accuracy(NAN, labels, X, labels), ValueError)
    assert "whole numbers" in refused(lambda: heat_map(X, labels - 1), ValueError)
    assert "two classes" in refused(lambda: evaluation.probe_accuracy(X, 0 * labels, X, labels), ValueError)


@pytest.mark.parametrize("value", [0.0, 0.1, 1.0])
def test_the_map_of_a_collapsed_encoder_is_a_point_and_the_interpreter_lives(value):
    with pytest.warns(UserWarning, match="all embeddings are equal"):
        points = tsne(torch.full((40, 4), value))
    assert points.shape == (40, 2) and not points.any()


def test_studies_of_encoders(tmp_path):
    assert "choose one of" in refused(lambda: train_encoders(["wmse"], 1, 1, tmp_path), ValueError)
    assert "choose at least 1" in refused(lambda: train_encoders([], 1, 1, tmp_path), ValueError)
    assert "train one first" in refused(lambda: aggregate(tmp_path), FileNotFoundError)
    for text in ("{", "[]", '{"methods": 1, "runs": 2}'):
        (tmp_path / "study.json").write_text(text)
        assert "is damaged" in refused(lambda: aggregate(tmp_path), ValueError)
    other = Run.create(tmp_path / "other", {}, "labyrinth-agent")
    assert "not an encoder" in refused(lambda: load_encoder(other), ValueError)
    refused(lambda: resume_run(other.path), ValueError)
    config = {"method": "a", "task": {"name": "images"}, "settings": {"loss": "mse", "updats": 3}}
    wrong = Run.create(tmp_path / "wrong", config, "encoder")
    assert "did you mean 'updates'?" in refused(lambda: resume_run(wrong.path), ValueError)
    (tmp_path / "study.json").write_text(json.dumps({"methods": {"a": {"updats": 3}}, "runs": 1}))
    assert "did you mean 'updates'?" in refused(lambda: aggregate(tmp_path), ValueError)


def test_recordings(tmp_path):
    file = tmp_path / "episode.npz"
    np.savez(file, frames=np.array([Trap()], dtype=object))
    assert "nothing in it was executed" in refused(lambda: load_episode(file), ValueError)
    for content in (b"", b"no archive", file.read_bytes()[:-30]):
        file.write_bytes(content)
        refused(lambda: load_episode(file), ValueError)
    refused(lambda: load_episode(tmp_path / "none.npz"), FileNotFoundError)


def test_a_game_that_does_not_exist_has_close_names():
    import ale_py

    gymnasium.register_envs(ale_py)
    assert "Did you mean: `Freeway`?" in refused(
        lambda: gymnasium.make("ALE/Freewy-v5"), gymnasium.error.Error
    )
