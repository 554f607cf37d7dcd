"""What every transform, loss, network and reader of chapters 1, 2 and 6 says to what it cannot take."""

import io
import json
import tarfile

import gymnasium
import numpy as np
import pytest
import torch

from lwm_nb.agent.forward_model import ForwardModel
from lwm_nb.encoder.evaluation import heat_map, neighbour_accuracy, tsne
from lwm_nb.encoder.multiple_runs import aggregate, resume_encoder, train_encoders
from lwm_nb.encoder.networks import STACKS, Encoder
from lwm_nb.encoder.pairs import ImageSet, class_index, fetch, load_images, read_cifar10, temporal_pairs
from lwm_nb.encoder.training import EncoderConfig, load_encoder, train_encoder
from lwm_nb.foundations.runs import Run
from lwm_nb.panels.episodes import load_episode
from lwm_nb.whitening.losses import LOSSES
from lwm_nb.whitening.transforms import METHODS, whiten

X = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
NAN = X.clone()
NAN[3, 2] = torch.nan


class Trap:
    """A pickle that would speak."""

    def __reduce__(self):
        return pytest.fail, ("a file was executed",)


def said(call, *errors):
    """The sentence with which a call is refused."""
    with pytest.raises(errors) as refused:
        call()
    text = str(refused.value)
    assert 15 < len(text) < 400 and "\n" not in text, text
    return text


@pytest.mark.parametrize("method", METHODS)
def test_transforms(method):
    assert "takes (n, d)" in said(lambda: whiten(X[None], method), ValueError)
    assert "NaN or infinite values in column 2" in said(lambda: whiten(NAN, method), ValueError)
    assert "call x.float()" in said(lambda: whiten(X.long(), method), TypeError)
    assert "take at least 9 samples" in said(lambda: whiten(X[:5], method), ValueError)
    assert "eps" in said(lambda: whiten(X, method, eps=-1.0), ValueError)


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name):
    loss = LOSSES[name]
    assert "must be (n, d), the same" in said(lambda: loss(X, X[:32]), ValueError)
    assert "must be (n, d)" in said(lambda: loss(X[0], X[0]), ValueError)
    assert "with n at least" in said(lambda: loss(X[:0], X[:0]), ValueError)
    assert "call x.float()" in said(lambda: loss(X.long(), X.long()), TypeError)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_that_is_not_finite_stops_the_training(name, tmp_path):
    """Whatever the loss makes of NaN or a collapse: an error, and the earlier state can be loaded."""
    config = EncoderConfig(name, lr=1e30, updates=40, log_every=10, checkpoint_every=1)
    run = Run.create(tmp_path / name, config, "encoder")

    def attempt():
        with run.recording():
            train_encoder(config, run=run)

    said(attempt, FloatingPointError, ValueError)
    assert run.status == "failed" and run.states()
    tensors, _, _ = run.restore_state()
    assert set(tensors) > {"generator"}


@pytest.mark.parametrize("network", STACKS)
def test_encoders(network):
    size = {"small": 8, "rolim": 32, "atari": 84}[network]
    encoder = Encoder((1, size, size), network)
    images = torch.zeros(2, 1, size, size, dtype=torch.uint8)
    assert encoder(images).shape == (2, 16)
    assert "is too small" in said(lambda: Encoder((1, 4, 4), network), ValueError)
    assert "give them as uint8" in said(lambda: encoder(images.float()), TypeError)
    assert "was made for" in said(lambda: encoder(images[:, :, 1:]), ValueError)
    assert "was made for" in said(lambda: encoder(images[0]), ValueError)


def test_world_model():
    model = ForwardModel(4, 3)
    z, action = torch.zeros(5, 2, 4), torch.zeros(5, 2, dtype=torch.long)
    first, hidden = torch.zeros(5, 2, dtype=torch.bool), torch.zeros(2, 128)
    assert model(z, action, first, hidden)[0].shape == (5, 2, 4)
    for wrong in ((z[:, :, :3], action, first), (z[0], action, first), (z, action[:3], first)):
        assert "must be (T, B, 4)" in said(lambda wrong=wrong: model(*wrong, hidden), ValueError)


def test_images_and_pairs(tmp_path):
    assert "choose one of digits" in said(lambda: load_images("mnist"), ValueError)
    assert "uint8" in said(lambda: ImageSet(X, torch.zeros(64).long(), ("a",)), TypeError)
    assert "make no pair" in said(lambda: class_index(torch.tensor([0, 1])), ValueError)
    generator = torch.Generator()
    alone = torch.ones(5, dtype=torch.bool)
    assert "no two of one episode" in said(lambda: temporal_pairs(alone, 1, 1, generator), ValueError)
    assert "with a browser" in said(lambda: load_images("cifar10", tmp_path), FileNotFoundError)
    for content in (b"", b"PK\x03\x04", b"\x1f\x8b\x08" + 20 * b"\0"):
        (tmp_path / "a.tar.gz").write_bytes(content)
        assert "is no complete CIFAR-10 archive" in said(
            lambda: read_cifar10(tmp_path / "a.tar.gz"), ValueError
        )
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("x/test_batch.bin")
        entry.size = 3_072
        archive.addfile(entry, io.BytesIO(bytes(3_072)))
    assert "is no complete CIFAR-10" in said(lambda: read_cifar10(tmp_path / "b.tar.gz"), ValueError)


def test_a_foreign_cifar_file_is_neither_read_nor_removed(tmp_path):
    from lwm_nb.encoder.pairs import CIFAR10

    mine = tmp_path / "cifar-10-binary.tar.gz"
    mine.write_text("my thesis")
    assert "wrong checksum" in said(lambda: fetch(CIFAR10, tmp_path, download=True), ValueError)
    assert mine.read_text() == "my thesis"


def test_judging():
    labels = torch.arange(64) % 2
    assert "must be finite" in said(lambda: heat_map(NAN, labels), ValueError)
    assert "must be (n, d) and (n,)" in said(lambda: heat_map(X, labels[:9]), ValueError)
    assert "has less than 2 images" in said(lambda: heat_map(X[:3], torch.tensor([0, 0, 1])), ValueError)
    assert "neighbours" in said(lambda: neighbour_accuracy(X, labels, X, labels, k=65), ValueError)
    assert "perplexity" in said(lambda: tsne(X, perplexity=64), ValueError)


def test_studies_of_encoders(tmp_path):
    assert "choose one of" in said(lambda: train_encoders(["wmse"], 1, 1, tmp_path), ValueError)
    assert "choose at least 1" in said(lambda: train_encoders([], 1, 1, tmp_path), ValueError)
    assert "train one first" in said(lambda: aggregate(tmp_path), FileNotFoundError)
    for text in ("{", "[]", '{"methods": 1, "runs": 2}'):
        (tmp_path / "study.json").write_text(text)
        assert "is damaged" in said(lambda: aggregate(tmp_path), ValueError)
    other = Run.create(tmp_path / "other", {}, "labyrinth-agent")
    for call in (load_encoder, lambda run: resume_encoder(run.path)):
        assert "not an encoder" in said(lambda call=call: call(other), ValueError)
    wrong = Run.create(tmp_path / "wrong", {"loss": "mse", "updats": 3}, "encoder")
    assert "did you mean 'updates'?" in said(lambda: resume_encoder(wrong.path), ValueError)
    (tmp_path / "study.json").write_text(json.dumps({"methods": {"a": {"updats": 3}}, "runs": 1}))
    assert "did you mean 'updates'?" in said(lambda: aggregate(tmp_path), ValueError)


def test_recordings(tmp_path):
    file = tmp_path / "episode.npz"
    np.savez(file, frames=np.array([Trap()], dtype=object))
    assert "nothing in it was executed" in said(lambda: load_episode(file), ValueError)
    for content in (b"", b"no archive", file.read_bytes()[:-30]):
        file.write_bytes(content)
        said(lambda: load_episode(file), ValueError)
    said(lambda: load_episode(tmp_path / "none.npz"), FileNotFoundError)


def test_a_game_that_does_not_exist_has_close_names():
    import ale_py

    gymnasium.register_envs(ale_py)
    assert "Did you mean: `Freeway`?" in said(lambda: gymnasium.make("ALE/Freewy-v5"), gymnasium.error.Error)
