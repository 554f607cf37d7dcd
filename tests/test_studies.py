"""Studies, sweeps, cards and figures where people were let down: each test is a kind of fault."""

import json
from contextlib import suppress
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from refusals import refused

import lwm_nb.cli  # noqa: F401 - registers every trainer
from lwm_nb.atari.frames import AtariTask
from lwm_nb.encoder.multiple_runs import aggregate, train_encoders
from lwm_nb.encoder.training import EncoderConfig, ImageTask, load_encoder, train_encoder
from lwm_nb.foundations.card import card_html, make_card
from lwm_nb.foundations.plotting import colour, learning_curves
from lwm_nb.foundations.run import Run
from lwm_nb.foundations.studies import (
    DescentConfig,
    Quadratic,
    judge_run,
    make_jobs,
    resume_run,
    run_job,
    study_figure,
    study_rows,
    train_run,
)
from lwm_nb.foundations.sweep import grid, read_grid, sweep, sweep_jobs, sweep_rows
from lwm_nb.foundations.tasks import TRAINERS, find_trainer, settings_of
from lwm_nb.labyrinth.task import LabyrinthTask
from lwm_nb.worlds.games import GameTask

pytestmark = pytest.mark.usefixtures("forks")
TASK, TOY = Quadratic(), find_trainer("descent")
PAIRS = {
    "toy": (TASK, TOY, DescentConfig(updates=20, log_every=10), {"updates": 40}, {"lr": 0.1}),
    "encoder": (
        ImageTask(),
        find_trainer("encoder"),
        EncoderConfig(updates=20, log_every=10, checkpoint_every=5),
        {"updates": 40},
        {"loss": "mse", "lr": 1e-2},
    ),
}


def files(path):
    return {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", PAIRS)
def test_resume_of_a_finished_run_changes_nothing(kind, tmp_path):
    """Point 1: rows and weights of a finished run stay, whatever one asks for."""
    task, trainer, config, longer, _ = PAIRS[kind]
    run = train_run(tmp_path / "run", task, trainer, config)
    before = files(run.path)
    for settings in (config, replace(config, **longer)):
        refused(
            lambda settings=settings: trainer.train(run, task, settings, resume=True), words="has finished"
        )
    assert resume_run(run.path).status == "finished"
    assert files(run.path) == before


def test_encoder_resumed_with_other_settings_is_refused(tmp_path):
    """Point 1: two trainings are never mixed in one folder, also when it is not one of a study."""

    def stop(row):
        if row["updates"]:
            raise KeyboardInterrupt

    task, trainer, config, _, other = PAIRS["encoder"]
    with pytest.raises(KeyboardInterrupt):
        train_run(tmp_path / "run", task, trainer, replace(config, updates=40), log=stop)
    bare = Run.create(tmp_path / "bare", {}, "encoder")
    with pytest.raises(KeyboardInterrupt):
        train_encoder(config, run=bare, log=stop)
    for run in (Run.load(tmp_path / "run"), bare):
        before = files(run.path)
        again = partial(train_encoder, replace(config, **other), run=run, resume=True)
        refused(again, ValueError, "was begun with another loss, .*lr: choose another folder")
        assert files(run.path) == before and run.states()
    assert resume_run(tmp_path / "run").status == "finished"
    assert load_encoder(Run.load(tmp_path / "run"))


PLACES = {"encoder": ImageTask(), "agent": LabyrinthTask(2), "ppo": LabyrinthTask(2)}
PLACES |= {"pixel-agent": AtariTask("freeway")}


def begun(path, kind, end):
    """A run of the smallest settings, with a row, a state and weights, that ended in this way."""
    trainer = find_trainer(kind)
    config = trainer.quick(trainer.config(), 4)
    small = dict(checkpoint_every=2, num_envs=2, warmup=500, replay=1_000)
    config = replace(config, **{k: v for k, v in small.items() if k in settings_of(config)})
    run = Run.create(path, {"settings": settings_of(config)}, kind)
    with suppress(KeyboardInterrupt), run.recording():
        run.log(step=1)
        run.save_state({"x": torch.zeros(1)}, {"settings": settings_of(config)})
        run.save_checkpoint({"x": torch.zeros(1)}, {})
        if end == "interrupted":
            raise KeyboardInterrupt
    return run, config


@pytest.mark.parametrize("end", ["finished", "interrupted"])
@pytest.mark.parametrize("kind", [kind for kind in TRAINERS if kind != "descent"])  # a toy without checks
def test_no_trainer_touches_what_another_training_left(kind, end, tmp_path):
    """Point 1, for all that can be trained: other settings, the same again, a beginning over an old one."""
    run, config = begun(tmp_path / "run", kind, end)
    task, before = PLACES.get(kind, GameTask("catch")), files(run.path)
    attempt = partial(find_trainer(kind).train, run, task)
    never = "has finished|cannot be resumed"  # the latter: controllers, whoever asks
    if end == "finished":
        refused(partial(attempt, config, resume=True), words=never)
    refused(partial(attempt, replace(config, seed=7), resume=True), words=f"{never}|begun with another seed")
    refused(partial(attempt, config), FileExistsError, "holds a training already")
    assert files(run.path) == before and run.status == end


def test_a_row_is_one_task_and_one_setting(tmp_path):
    """Point 3: two tasks, or two settings, under one name are not averaged."""
    for task, lr, seeds in ((TASK, 0.02, (0, 1)), (Quadratic(noise=2.0), 0.02, (2, 3)), (TASK, 0.1, (4, 5))):
        config = DescentConfig(updates=20, log_every=10, lr=lr)
        for job in make_jobs(tmp_path, {"plain": config}, seeds, task, TOY, episodes=4):
            run_job(job)
    rows = study_rows(tmp_path).query("noise == 0")
    assert rows.seeds.tolist() == [2, 2, 2]
    names = ["plain (noise=0.3, lr=0.02)", "plain (noise=0.3, lr=0.1)", "plain (noise=2, lr=0.02)"]
    assert sorted(rows.method) == names
    for name, seeds in zip(names, ((0, 1), (4, 5), (2, 3))):
        points = [TOY.load(Run.load(tmp_path / f"plain-s{seed}")) for seed in seeds]
        by_hand = np.mean([((x - 1) ** 2).sum() for x in points])
        assert np.isclose(rows.set_index("method").loc[name, "mean"], by_hand)


def test_grown_grid_finds_its_cells(tmp_path):
    """Point 4: what is done is found by its settings, not by the name of its folder."""
    short = dict(updates=20, log_every=10)
    for done, axes in (
        (0, dict(lr=[0.02])),
        (2, dict(lr=[0.02, 0.1])),
        (4, dict(lr=[0.02, 0.1], momentum=[0.0, 0.5])),
        (8, dict(lr=[0.02, 0.1], momentum=[0.0, 0.5], size=[4, 5])),
    ):
        table = grid((0, 1), **short, **axes)
        outcomes = [run_job(job) for job in sweep_jobs(table, tmp_path, TASK, TOY)]
        assert outcomes.count("skipped") == done and outcomes.count("trained") == len(table) - done
    assert len(list(tmp_path.glob("*/config.json"))) == 16
    rows = sweep_rows(table, tmp_path, TASK, TOY)
    assert len(rows) == 16 and (rows.seeds == 2).all(), "eight cells, two strengths of noise each"


def test_seed_in_a_grid_is_honoured_or_refused(tmp_path):
    """Point 5, seeds."""
    file = tmp_path / "grid.toml"
    for text, seeds in (("[fixed]\nseed = 4", [4]), ("[grid]\nseed = [7]", [7]), ("seeds = 3", [3])):
        file.write_text(text)
        assert read_grid(file).seed.tolist() == seeds
    file.write_text("seeds = [0]\n[fixed]\nseed = 4")
    refused(lambda: read_grid(file), ValueError, "grid.toml: seeds is .* and seed is .*: give one of them")


@pytest.mark.parametrize("name", ["lr", "momentum", "updates", "seed", "size", "noise", "preset"])
@pytest.mark.parametrize("value", [float("nan"), np.nan, np.float32("nan")])
def test_nan_in_a_grid_is_refused(name, value):
    """Point 5, NaN: never a silent default, whatever the field and the type."""
    for given in (value, [value], np.array([1.0, value])):
        refused(partial(grid, **{name: given}), ValueError, f"{name} is nan: give a number")


def test_empty_cells_and_arrays_mean_what_they_say(tmp_path):
    """Point 5: an empty cell of a CSV file is the default, arrays are lists, all else is one sentence."""
    (tmp_path / "grid.csv").write_text("lr,updates,size,seed\n0.1,20,,0\n,,5,1\n0.02,40,4,2\n")
    jobs = sweep_jobs(pd.read_csv(tmp_path / "grid.csv"), tmp_path / "out", TASK, TOY)
    assert [(j.config.lr, j.config.updates, j.task.size) for j in jobs] == [
        (0.1, 20, 4),
        (0.02, 60, 5),
        (0.02, 40, 4),
    ]
    table = grid(np.arange(2), lr=np.array([0.02, 0.1], np.float32), size=np.array([3, 4]))
    jobs = sweep_jobs(table, tmp_path / "out", TASK, TOY)
    assert len(jobs) == 8 and {type(j.config.seed) for j in jobs} == {int} == {
        type(j.task.size) for j in jobs
    }
    for cell, words in (
        (np.ones(2), "lr is array"),
        ("0.1", "lr is '0.1'"),
        (True, "lr is True"),
        (1j, "lr is 1j"),
    ):
        table = pd.DataFrame([{"lr": cell, "seed": 0}], dtype=object)
        call = partial(sweep_jobs, table, tmp_path / "out", TASK, TOY)
        refused(call, TypeError, f"row 0 of the grid: config {words}.*must be float")


def concurrent(table, out, pipe):
    pipe.send(sweep(table, out, TASK, TOY, workers=2, episodes=4, show=lambda status: None))


def test_two_sweeps_on_one_folder(forks, tmp_path):
    """Point 6: each run is trained once, and both end well."""
    table = grid((0, 1, 2), lr=[0.02, 0.1], updates=4_000, log_every=1_000, checkpoint_every=500)
    started = []
    for _ in range(2):
        receive, send = forks.Pipe(duplex=False)
        process = forks.Process(target=concurrent, args=(table, tmp_path / "out", send))
        process.start()
        started.append((process, receive))
    for process, receive in started:
        assert receive.poll(120)
        result = receive.recv()
        process.join(60)
        assert (result.status == "finished").all() and result.error.isna().all() and process.exitcode == 0
    for job in sweep_jobs(table, tmp_path / "out", TASK, TOY):
        assert Run.load(job.path).metrics().updates.tolist() == [1_000, 2_000, 3_000, 4_000]
        assert run_job(job) == "skipped"
    assert len(list((tmp_path / "out").glob("*/config.json"))) == 6, "nothing was put aside"


def test_methods_of_one_colour_and_curves_without_numbers(tmp_path):
    """Point 8: second dashed, third dotted; a curve of NaN only is left out with a note."""
    names = [f"lam={i / 100:g}" for i in range(100)]
    same = [name for name in names if colour(name) == colour("lam=0.5")][:3]
    ax = learning_curves({n: ([1, 2, 3], [[3, 2, 1]]) for n in same}, xlabel="x", ylabel="y")
    drawn = {line.get_label(): line for line in ax.lines}
    assert [drawn[n]._unscaled_dash_pattern[1] for n in same] == [None, (4, 1.5), (1, 1)]
    for curves in ({"a": ([1, 2], [[np.nan] * 2] * 3)}, {"a": ([1], [[np.nan]]), "b": ([1], [[2.0]])}):
        for logy in (False, True):
            ax = learning_curves(curves, xlabel="x", ylabel="y", logy=logy)
            assert "no numbers yet: a" in [t.get_text() for t in ax.texts]
    methods = {n: DescentConfig(updates=20, log_every=10, lr=0.01 + i / 100) for i, n in enumerate(same)}
    for job in make_jobs(tmp_path / "study", methods, (0,), TASK, TOY, episodes=4):
        run_job(job)
    assert len(study_figure(tmp_path / "study").axes[0].texts) == 3
    assert card_html(make_card([tmp_path / "study"])).count("<img") == 1


def test_a_collapsed_encoder_is_put_together(tmp_path):
    """Point 9: all its embeddings are one point, and the interpreter lives to say so."""
    config = EncoderConfig(lr=0.5, updates=60, log_every=60)
    table = train_encoders(["mse"], 1, 1, tmp_path, config)
    assert table.result.tolist() == ["trained"], table.error.tolist()
    with pytest.warns(UserWarning, match="the encoder has collapsed: the map is a point") as said:
        tables = aggregate(tmp_path)
    points = tables["maps"][["x", "y"]].to_numpy()
    assert len(points) > 100 and np.isfinite(points).all() and (points == points[0]).all()
    assert not [str(w.message) for w in said if "invalid value" in str(w.message)]
    assert (tmp_path / "aggregate" / "maps.png").stat().st_size > 1_000


def test_card_of_runs_judged_on_one_episode(tmp_path):
    """Point 13: no interval, and the page says so."""
    for seed in (0, 1):
        config = DescentConfig(updates=20, log_every=10, seed=seed)
        judge_run(train_run(tmp_path / f"s{seed}", TASK, TOY, config), episodes=1)
    for paths in ([tmp_path], [tmp_path / "s0"]):
        card = make_card(paths)
        assert {row["episodes"] for row in card["rows"]} == {len(card["runs"])}
        assert "not known" in card_html(card) or len(card["runs"]) > 1
        json.dumps(card, allow_nan=False)


def test_grid_file_with_a_byte_order_mark(tmp_path):
    """Point 20: as some Windows editors save it."""
    text = "seeds = [0]\n[grid]\nlr = [0.1, 0.02]\n"
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "grid.toml").write_text(text, encoding=encoding)
        assert read_grid(tmp_path / "grid.toml").lr.tolist() == [0.1, 0.02]
