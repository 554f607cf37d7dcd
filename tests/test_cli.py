"""The command line as its users meet it: processes, JSON, interrupts, damaged folders."""

import io
import json
import os
import pickle
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pandas as pd
import pytest
import torch

import lwm_nb.cli as cli
import lwm_nb.command_line.studies as studies
from lwm_nb.command_line.answers import what_is_left
from lwm_nb.foundations.card import read_card
from lwm_nb.foundations.run import Run
from lwm_nb.foundations.studies import read_run, train_run
from lwm_nb.labyrinth.env import Labyrinth
from lwm_nb.panels.session import PlaySession
from lwm_nb.panels.training import TrainingPanel

TINY = (
    "--size 2 --max-steps 50 --num-envs 32 --warmup 2000 --eps-frames 2000 --replay 4000 --hidden-size 16 "
    "--updates 1 --batch-size 16"
).split()
pytestmark = pytest.mark.usefixtures("forks")
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


def call(*words):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = cli.main([str(w) for w in words])
    return code, out.getvalue(), err.getvalue()


def command_refused(*words, code=1):
    """The one line that says why; the same as JSON for a program."""
    got, out, err = call(*words)
    assert (got, out) == (code, ""), (words, got, out, err)
    assert err.count("\n") == 1 and err.startswith("lwm-nb: ") and "Traceback" not in err
    got, out, err = call(*words, "--json")
    assert got == code and set(json.loads(out)) == {"error"} and err.count("\n") == 1
    return err


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "runs" / "one"
    command = ["train", *TINY, "--frames", 6000, "--log-every", 3000, "--episodes", 32, "--out", folder]
    code, out, err = call(*command, "--json")
    assert code == 0, err
    answer = json.loads(out)
    assert answer["run"] == str(folder) and str(folder) in err and out.count("\n") == 1
    return folder, answer


@pytest.fixture
def copied(trained, tmp_path):
    return Path(shutil.copytree(trained[0], tmp_path / "run"))


@pytest.mark.parametrize(
    "words, said",
    [
        ("train --size 1", "from 2 to 64"),
        ("train --size 65", "from 2 to 64"),
        ("train --num-envs 0", "num_envs is 0"),
        ("oracles --size 65", "from 2 to 64"),
        ("oracles --braid 1.5", "from 0 to 1"),
        ("train --braid -0.1", "from 0 to 1"),
        ("train --start middle", "corner"),
        ("train --seed -1", "seed -1"),
        ("eval --random --seed -1", "seed -1"),
        ("reproduce --seeds 0 -1", "seed -1"),
        ("train --device tpu", "unknown device 'tpu'"),
        ("train --device cuda:99", "not available"),
        ("train --episodes 0", "episodes is 0"),
        ("oracles --epsilon 2", "from 0 to 1"),
        ("eval --random --epsilon -1", "from 0 to 1"),
        ("bench labyrinth --repeats 0", "at least one"),
        ("reproduce --workers 0", "at least one"),
        ("runs nowhere", "no folder nowhere"),
        ("eval nowhere", "no run folder nowhere"),
    ],
)
def test_what_the_library_refuses_is_one_line(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert said in command_refused(*words.split())
    assert not list(tmp_path.iterdir()), "nothing is written for a command that is refused"


@pytest.mark.parametrize(
    "words, said",
    [
        ("", "train, eval, oracles, runs, bench, reproduce, resume, sweep"),
        ("fly", "fly"),
        ("train --sise 3", "did you mean --size"),
        ("train --size three", "--size"),
        ("train --size", "--size"),
        ("train --preset best", "paper"),
        ("train --task maze", "no task 'maze'"),
        ("eval", "eval RUN"),
        ("eval here --random", "eval RUN"),
        ("eval a b", "b"),
        ("bench chess", "labyrinth"),
        ("reproduce --seeds", "at least one seed"),
    ],
)
def test_words_that_make_no_sense_are_one_line(words, said):
    assert said in command_refused(*words.split(), code=2)


def test_help_names_every_setting_with_its_sentence(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "--help"])
    shown = capsys.readouterr().out
    assert stop.value.code == 0
    for name in "frames add-ri lam official-no-forget size braid out json".split():
        assert f"--{name}" in shown
    assert "Discount." in shown and "Cells on a side" in shown


def test_trained_run_can_be_judged_again_and_is_only_read(trained):
    folder, answer = trained
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    code, out, err = call("eval", folder, "--episodes", 32, "--json")
    assert code == 0 and json.loads(out)["evaluation"] == answer["evaluation"] and err == ""
    code, out, _ = call("eval", folder, "--episodes", 8, "--epsilon", 1, "--size", 3)
    assert code == 0 and out.splitlines()[1].split()[:2] == ["DQN", "1"]
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_existing_folder_is_left_alone(trained):
    folder, _ = trained
    stamp = (folder / "metrics.csv").stat().st_mtime_ns
    assert "not empty" in command_refused("train", *TINY, "--out", folder)
    file = folder.parent / "file"
    file.write_text("mine")
    command_refused("train", *TINY, "--out", file)
    assert (folder / "metrics.csv").stat().st_mtime_ns == stamp and file.read_text() == "mine"
    file.unlink()


def test_runs_lists_readable_and_unreadable(trained, tmp_path):
    shutil.copytree(trained[0], tmp_path / "good")
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "config.json").write_text("{")
    with open(tmp_path / "good" / "metrics.csv", "a") as file:
        file.write("9999,12,0.")
    code, out, err = call("runs", tmp_path, "--json")
    rows = {r["name"]: r for r in json.loads(out)["runs"]}
    assert code == 0 and err == ""
    assert rows["good"]["status"] == "finished" and rows["good"]["last_frames"] == 6016
    assert rows["bad"]["status"] == "unreadable"
    code, out, _ = call("runs", tmp_path)
    assert code == 0 and "bad: " in out


def test_foreign_and_damaged_folders(copied, tmp_path):
    checkpoint = copied / "checkpoints" / "last.safetensors"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: len(whole) // 2])
    assert "cut off" in command_refused("eval", copied)
    checkpoint.write_bytes(pickle.dumps({"weights": [1, 2]}))
    assert "nothing in it was executed" in command_refused("eval", copied)
    Run.load(copied).save_checkpoint({"w": torch.zeros(3)}, {"step": 1})
    assert "not one of an agent" in command_refused("eval", copied)
    checkpoint.write_bytes(whole)
    config = json.loads((copied / "config.json").read_text())
    config["config"]["settings"]["hidden_size"] = 24
    (copied / "config.json").write_text(json.dumps(config))
    assert "does not fit" in command_refused("eval", copied)
    checkpoint.unlink()
    assert "no checkpoint" in command_refused("eval", copied)
    assert "not a run folder" in command_refused("eval", tmp_path)
    Run.create(tmp_path / "other", {"size": 3}, "encoder")
    assert "cannot be used" in command_refused("eval", tmp_path / "other")


def test_study_continues_and_does_nothing_twice(tmp_path, monkeypatch):
    changes = dict(
        frames=3000, num_envs=32, warmup=2000, eps_frames=2000, replay=4000, hidden_size=16, updates=1,
        batch_size=16, log_every=3000, pretrain=2,
    )  # fmt: skip
    monkeypatch.setattr(studies, "QUICK", changes)
    command = [*"reproduce --quick --size 2 --max-steps 30 --workers 1 --out".split(), tmp_path / "s"]
    code, out, err = call(*command, "--seeds", 0, "--json")
    first = json.loads(out)
    assert code == 0 and first["files"]["report"] is None and "no report: " in err and "3×3" in err
    metrics = tmp_path / "s" / "DQN-s0" / "metrics.csv"
    with open(metrics, "a") as file:
        file.write("3000,4")
    before = metrics.read_bytes()
    code, out, err = call(*command, "--seeds", 0, 1)
    assert code == 0 and metrics.read_bytes() == before, "what was finished is not touched"
    assert "note: " in err and "half-written" in err and "Traceback" not in err
    assert str(tmp_path / "s" / "curves.png") in out and "REHEARSAL" in out
    table = pd.read_csv(tmp_path / "s" / "table.csv")
    assert table[table.method == "DQN+WM"].seeds.tolist() == [2, 2] and len(table) == 10
    monkeypatch.setattr(studies, "QUICK", changes | {"lr": 0.5})
    assert "another lr" in command_refused(*command)


def program(*words, folder, **options):
    command = [sys.executable, "-m", "lwm_nb", *map(str, words)]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen(command, cwd=folder, start_new_session=True, **pipes, **options)


def answer(words, file):
    """Another process that is given a command; what it says on standard error is kept in a file."""
    with open(file, "w") as said, redirect_stderr(said):
        code = cli.main(words)
    sys.exit(code)


@posix
def test_interrupted_training_can_be_loaded(tmp_path, forks):
    process = program("train", *TINY, "--frames", 10_000_000, "--log-every", 3200, folder=tmp_path)
    folder = tmp_path / "runs" / "labyrinth-n2-dqn-s0"
    wait_for(folder / "checkpoints" / "last.safetensors", process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=180)
    assert process.returncode == 130 and out == "" and "Traceback" not in err
    assert "lwm-nb resume runs/labyrinth-n2-dqn-s0" in err.splitlines()[-1]
    assert any(line.startswith("frames 3200 ") for line in err.splitlines()), "a line for each row"
    assert Run.load(folder).status == "interrupted"
    code, out, _ = call("eval", folder, "--episodes", 8)
    assert code == 0 and "DQN" in out
    process = forks.Process(target=answer, args=(["resume", str(folder)], tmp_path / "said"))
    process.start()
    deadline = time.monotonic() + 120
    while Run.load(folder).status != "running":
        assert process.is_alive() and time.monotonic() < deadline
        time.sleep(0.01)
    assert f"is being written by process {process.pid} on" in command_refused("resume", folder)
    assert Run.load(folder).request_stop()
    process.join(180)
    err = (tmp_path / "said").read_text()
    assert process.exitcode == 130 and "continuing from state" in err and "Stopped. Continue with" in err


def test_finished_training_is_not_resumed(trained):
    folder, _ = trained
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    code, out, err = call("resume", folder)
    assert code == 0 and "finished already: nothing to do" in out and err == ""
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


@posix
def test_interrupted_study_stops_all_its_processes(tmp_path):
    """As a terminal does it: the interrupt goes to every process of the group."""
    process = program("reproduce", "--size", 2, "--workers", 1, "--json", folder=tmp_path)
    folder = tmp_path / "runs" / "reproduce-n2"
    wait_for(folder / "DQN-s0" / "lock", process)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=180)
    assert process.returncode == 130 and "continues" in json.loads(out)["error"]
    assert "Traceback" not in err
    assert Run.load(folder / "DQN-s0").status == "interrupted"
    assert not list(folder.glob("DQN-s1")), "what waited was not begun"
    with pytest.raises(ProcessLookupError):
        for _ in range(1200):  # the last helper of multiprocessing ends a moment later
            os.killpg(process.pid, 0)
            time.sleep(0.05)


def wait_for(file, process):
    """Until a file is there; a process that ends without it, or takes two minutes, fails the test."""
    wait_until(file.exists, process)


def wait_until(happened, process):
    for _ in range(2400):
        if happened() or process.poll() is not None:
            break
        time.sleep(0.05)
    if not happened():
        process.kill()
        pytest.fail(f"this did not happen: {process.communicate()}")


def test_programs_read_one_json_object(tmp_path):
    scripts = Path(sys.executable).parent
    command = [scripts / "lwm-nb", "oracles", "--size", "2", "--episodes", "32", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    rows = {row["method"]: row for row in json.loads(done.stdout)["oracles"]}
    assert rows["Bayes-optimal"]["exact"] == 3.625, "29/8 steps by hand"
    assert rows["random"]["exact"] == pytest.approx(26)


LOOK = "eval --random --size 2 --episodes 8".split()


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "cp437", "ascii"])
def test_a_terminal_that_lacks_a_character_gets_a_substitute(encoding, monkeypatch):
    """Issue 12.10: the table holds an ε; an answer must not be lost over it."""
    out, err = io.BytesIO(), io.BytesIO()
    for name, stream in (("stdout", out), ("stderr", err)):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(stream, encoding, write_through=True))
    assert cli.main(LOOK) == 0 and b"random" in out.getvalue() and b"?" in out.getvalue(), err.getvalue()


def test_a_process_in_such_a_terminal(tmp_path):
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-X", "importtime", "-m", "lwm_nb", *LOOK]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, env=env)
    assert done.returncode == 0 and b"random" in done.stdout, done.stderr
    assert b"pandas" in done.stderr and b"sklearn" not in done.stderr, "a second, for nothing that eval needs"


def test_standard_error_may_be_closed(tmp_path):
    """Issue 12.10: what there is to say beside the answer is lost, the answer is not."""
    command = shlex.join([sys.executable, "-m", "lwm_nb", *LOOK]) + " 2>&-"
    done = subprocess.run(command, shell=True, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0 and "random" in done.stdout


BRIEF = (
    "--size 2 --max-steps 50 --num-envs 32 --warmup 1700 --replay 2100 --hidden-size 16 --frames 2500".split()
)


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_training_is_not_lost_over_its_answer(encoding, closed, monkeypatch, tmp_path):
    """Issue 12.10: as in a terminal that lacks the letters of the table, or hears nothing beside it."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding, write_through=True) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", None if closed else err)  # None is what Python makes of 2>&-
    assert cli.main(["train", *BRIEF, "--out", str(tmp_path / "run")]) == 0
    said = out.buffer.getvalue()
    assert b"DQN" in said and b"?" in said and Run.load(tmp_path / "run").status == "finished"


def test_commands_that_are_printed_can_be_pasted(trained, tmp_path):
    """Issue 12.19: a folder with a space is quoted."""
    folder = Path(shutil.copytree(trained[0], tmp_path / "my runs"))
    assert f"lwm-nb eval '{folder}'" in command_refused("train", *TINY, "--out", folder)
    (folder / "evaluation.json").unlink()
    assert f"lwm-nb resume '{folder}'" in command_refused("card", folder, "--out", tmp_path / "card.html")
    left = what_is_left(folder)
    assert left.count(f"'{folder}'") == 2 and shlex.split(left.split("with: ")[1].split(";")[0])[2] == str(
        folder
    )


def test_every_printed_command_is_quoted():
    """Issue 12.19, as a kind: no sentence of the library puts a value into a command without quoting it."""
    spoken = re.compile(r"""f["'][^"'\n]*(lwm-nb|jupyter|python) [a-z]+ [^"'\n]*\{""")
    for file in Path(cli.__file__).parent.rglob("*.py"):
        assert not spoken.search(file.read_text()), f"{file}: write the command with shlex.join"
    assert spoken.search('say(f"go on: lwm-nb resume {folder}")')


def test_any_environment_of_gymnasium_can_be_trained(tmp_path):
    words = "--env CartPole-v1 --frames 3000 --num-envs 4 --warmup 400 --replay 2000 --hidden-size 16".split()
    code, out, err = call("train", *words, "--episodes", 4, "--out", tmp_path / "cart", "--json")
    assert code == 0, err
    rows = json.loads(out)["evaluation"]
    assert [row["epsilon"] for row in rows] == [0.01, 0.0] and rows[0]["mean"] >= 8
    assert Run.load(tmp_path / "cart").config["task"]["name"] == "gym"


POLICY = (
    "--trainer ppo --frames 1000 --num-envs 8 --horizon 16 --hidden 16 --log-every 500 --checkpoint-every 200"
).split()


def test_practice_is_trained_stopped_resumed_judged_and_played_beside(tmp_path):
    """Any trainer of the registry: its flags, presets, run folders, and what it says when it cannot."""
    one, labyrinth = tmp_path / "one", ["--size", 2, "--max-steps", 40]
    stages = ["--preset", "explorer", "--stages", "2:1 2,3~0.5:2"]
    words = ["train", *POLICY, *stages, *labyrinth, "--episodes", 16]
    code, out, err = call(*words, "--out", one, "--json")
    assert code == 0, err
    rows = json.loads(out)["evaluation"]
    assert [(row["method"], row["epsilon"]) for row in rows] == [("PPO", 0.01), ("PPO", 0.0)]
    code, out, _ = call("eval", one, "--episodes", 16, "--json")
    assert code == 0 and json.loads(out)["evaluation"] == rows
    code, out, _ = call("eval", one, "--episodes", 8, "--size", 4, "--epsilon", 1)
    assert code == 0 and out.splitlines()[1].split()[:2] == ["PPO", "1"]

    def asked(row):
        if row["updates"] == 4:
            Run.load(tmp_path / "two").request_stop()

    run, (trainer, task, config) = Run.load(one), read_run(Run.load(one))
    with pytest.raises(KeyboardInterrupt):
        train_run(tmp_path / "two", task, trainer, config, log=asked)
    code, out, err = call("resume", tmp_path / "two", "--episodes", 16)
    assert code == 0 and "continuing from state" in err and "PPO" in out, err
    theirs = Run.load(tmp_path / "two").load_checkpoint()[0]
    assert all(torch.equal(value, theirs[name]) for name, value in run.load_checkpoint()[0].items())
    session = PlaySession(Labyrinth(3, render_mode="rgb_array"), policies={"PPO": trainer.load(run)})
    assert session.choices["PPO"] in range(4) and set(session.policies) == {"PPO"}
    for more, said in {
        ("--env", "CartPole-v1", "--preset", "explorer"): "leave stages empty",
        ("--stages", "3;4"): "stages has '3;4'",
        ("--num-envs", "0"): "num_envs is 0",
    }.items():
        refusal = ["train", "--trainer", "ppo", *more, "--out", tmp_path / "no"]
        assert said in command_refused(*refusal) and not (tmp_path / "no").exists()


def test_an_actor_with_a_map_explores_larger_labyrinths_than_it_was_trained_on(tmp_path):
    labyrinth = ["--size", 3, "--max-steps", 90]
    words = ["train", *POLICY, "--preset", "planner", "--stages", "2:1 3:1", *labyrinth, "--episodes", 16]
    code, _, err = call(*words, "--out", tmp_path / "one", "--json")
    assert code == 0, err
    larger = ["--size", 8, "--max-steps", 640, "--episodes", 16, "--json"]
    code, out, err = call("eval", tmp_path / "one", *larger)
    assert code == 0, err
    assert all(row["unfinished"] == 0 and row["mean"] < 200 for row in json.loads(out)["evaluation"])
    refused = command_refused(*words, "--obs-noise", 0.1, "--out", tmp_path / "no")
    assert "it needs a labyrinth with obs_noise 0" in refused and not (tmp_path / "no").exists()


def test_practice_is_swept_and_has_a_card_whose_command_trains_it(tmp_path):
    grid, page = tmp_path / "grid.toml", tmp_path / "card.html"
    grid.write_text(
        "seeds = [0]\n[fixed]\nsize = 2\nmax_steps = 40\nframes = 512\nnum_envs = 8\nhorizon = 16\n"
        "log_every = 512\n[grid]\nhidden = [16, 8]\n"
    )
    words = ["--trainer", "ppo", "--workers", 1, "--episodes", 8, "--json"]
    code, out, err = call("sweep", grid, "--out", tmp_path / "sweep", *words)
    assert code == 0, err
    rows = json.loads(out)["rows"]
    assert {(row["hidden"], row["epsilon"]) for row in rows} == {(h, e) for h in (8, 16) for e in (0.01, 0.0)}
    runs = sorted((tmp_path / "sweep").glob("hidden8-*"))
    code, out, err = call("card", *runs, "--out", page, "--quick-seeds", 3, "--workers", 1)
    assert code == 0 and "hidden=8" in out, err
    command = shlex.split(read_card(page)["runs"][0]["command"])[3:]
    train, (_, task, config) = cli.parse(command), read_run(Run.load(runs[0]))
    assert type(train).choice.trainer.kind == "ppo" and train.parts() == (task, config)
    code, out, err = call("verify", page, "--workers", 1)
    assert code == 0 and "equal bit for bit" in out, err


@pytest.mark.parametrize("columns", ["1", "9", "0", "x"])
def test_help_in_a_narrow_terminal_ends(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(SystemExit):
        cli.main(["sweep", "--help"])
    assert "--workers" in capsys.readouterr().out


def test_world_models_are_swept_and_have_a_card_that_is_verified_and_a_panel(tmp_path):
    grid, page = tmp_path / "grid.toml", tmp_path / "card.html"
    grid.write_text(
        'seeds = [0, 1]\npreset = "cube"\n[fixed]\ngame = "cube-crash"\nupdates = 2\nbatch_size = 4\n'
        "horizon = 8\n[grid]\nhidden = [16, 8]\n"
    )
    words = ["--task", "game", "--trainer", "world-model", "--workers", 1, "--episodes", 8, "--json"]
    code, out, err = call("sweep", grid, "--out", tmp_path / "sweep", *words)
    assert code == 0, err
    rows, measures = json.loads(out)["rows"], {"mse 1", "mse 8", "changed 8", "cube 1", "cube 8"}
    assert {row["measure"] for row in rows} >= measures and {row["hidden"] for row in rows} == {8, 16}
    runs = sorted((tmp_path / "sweep").glob("hidden8-*"))
    code, out, err = call("card", *runs, "--out", page, "--quick-seeds", 3, "--workers", 1)
    assert code == 0 and "mse 8" in out and "hidden=8" in out, err
    code, out, err = call("verify", page, "--workers", 1)
    assert code == 0 and "equal bit for bit" in out, err
    panel = TrainingPanel(tmp_path / "sweep")
    assert panel.column.value == "eval_mean" and {"loss", "changed"} <= set(panel.column.options)
    assert len(panel.table.children) == 4 and bytes(panel.curves.value).startswith(b"\x89PNG")


def test_a_plotting_backend_that_is_not_installed_is_not_asked(tmp_path):
    words = ["train", *TINY, "--frames", "2100", "--episodes", "8", "--out", str(tmp_path / "run")]
    env = os.environ | {"MPLBACKEND": "a_screen_that_is_not_here", "COLUMNS": "5"}
    done = subprocess.run([sys.executable, "-m", "lwm_nb", *words], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_worlds_are_trained_judged_and_studied(tmp_path):
    one, study = tmp_path / "one", tmp_path / "all"
    words = ["--game", "cube-crash", "--updates", 2, "--episodes", 8]
    code, out, err = call("worlds", "train", "cube", *words, "--out", one, "--json")
    assert code == 0, err
    rows = json.loads(out)["evaluation"]
    perfect = [row for row in rows if row["forecast"] == "real game" and row["measure"] == "mse"]
    assert {row["mean"] for row in perfect} == {0.0}
    code, out, err = call("worlds", "eval", one, "--episodes", 4)
    assert code == 0 and "freeze" in out and "cube" in out, err
    words = ["--presets", "cube", "--seeds", 0, "--workers", 1, *words]
    for _ in range(2):
        code, out, err = call("worlds", "all", *words, "--out", study)
        assert code == 0 and (study / "figure.png").exists(), err
    wrong = {
        ("eval", tmp_path / "none"): "no run folder",
        ("train", "cube", "--settings", "dark", "--out", tmp_path / "x"): "JSON object",
    }
    for words, said in wrong.items():
        code, out, err = call("worlds", *words)
        assert (code, out) == (1, "") and said in err and err.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_latent_world_models_and_controllers(tmp_path):
    data, world = tmp_path / "data", tmp_path / "world"
    game = ["--settings", '{"segments": 6, "max_steps": 40}', "--episodes", 12]
    code, out, err = call("latent", "gather", data, *game, "--held-out", 4, "--json")
    assert code == 0 and json.loads(out)["rows"]["held_out"] > 40, err
    words = ["latent", "train", "quick", *game, "--updates", 4, "--out", world, "--json"]
    code, out, err = call(*words)
    assert code == 0, err
    rows = {row["measure"]: row for row in json.loads(out)["evaluation"]}
    assert 0.9 < rows["foreground error"]["untrained"] < 1.1 and rows["inverse"]["model"] <= 1
    code, again, err = call("latent", "eval", world, "--json")
    assert code == 0 and json.loads(again)["evaluation"] == json.loads(out)["evaluation"], err
    pytest.importorskip("stable_baselines3")
    one = tmp_path / "controller"
    words = ["controller", "train", world, "--steps", 64, "--episodes", 4, "--out", one]
    code, out, err = call(*words)
    assert code == 0 and "hold right + jump" in out, err
    code, out, err = call("controller", "watch", one, "--film", tmp_path / "film.gif", "--json")
    assert code == 0 and json.loads(out)["rows"] > 3 and (tmp_path / "film.gif").exists(), err
    for words, said in {
        ("controller", "eval", world): "not a controller",
        ("latent", "eval", one): "not a latent world model",
        ("latent", "train", "--game", "soni", "--out", tmp_path / "x"): "no game 'soni'",
        ("controller", "train", tmp_path / "none"): "no run folder",
    }.items():
        assert said in command_refused(*words)
    assert not (tmp_path / "x").exists()


def test_tokens_are_trained_resumed_judged_and_watched(tmp_path):
    one = tmp_path / "one"
    change = {"warmup": 8, "tokenizer_updates": 4, "world_warmup": 2, "collect": 2, "world_updates": 1}
    change |= {"actor_updates": 1, "rollouts": 4, "horizon": 2, "width": 16, "heads": 2, "gate": 0.0}
    change = json.dumps(change | {"eval_episodes": 4, "hidden": 8})
    words = ["--change", change, "--epochs", 2, "--episodes", 4]
    code, out, err = call("tokens", "train", *words, "--out", one, "--json")
    assert code == 0 and len(json.loads(out)["evaluation"]) == 2, err
    code, out, err = call("tokens", "resume", one)
    assert code == 0 and "nothing to do" in out, err
    code, out, err = call("tokens", "eval", one, "--episodes", 4)
    assert code == 0 and "temperature" in out, err
    code, out, err = call("tokens", "watch", one, "--episodes", 1)
    assert code == 0 and (one / "media" / "imagination.gif").exists(), err
    code, out, err = call("tokens", "play", one)
    assert code == 0 and (one / "play.ipynb").exists(), err
    wrong = {
        ("eval", tmp_path / "none"): "no run folder",
        ("train", "--change", "dark", "--out", tmp_path / "x"): "JSON object",
        ("train", "iris", "--out", tmp_path / "x"): "laptop",
    }
    for words, said in wrong.items():
        code, out, err = call("tokens", *words)
        assert (code, out) == (1, "") and said in err and err.count("\n") <= 2
    assert not (tmp_path / "x").exists()


def test_commands_of_the_readme_are_understood():
    text = (Path(__file__).parents[1] / "README.md").read_text()
    found = re.findall(r"^lwm-nb (.*)$|`lwm-nb ([^`]*)`", text, re.MULTILINE)
    commands = [line or inline for line, inline in found]
    assert len(commands) > 12
    for command in commands:
        assert cli.parse(shlex.split(command, comments=True))


def test_json_names_the_command_as_it_is_typed(tmp_path):
    train = "encoders train --losses mse --runs 1 --updates 2 --log-every 2 --workers 1 --out"
    for name, words in (
        ("oracles", "oracles --size 2 --episodes 8".split()),
        ("encoders train", [*train.split(), tmp_path / "encoders"]),
    ):
        code, out, err = call(*words, "--json")
        assert code == 0 and json.loads(out)["command"] == name, err
