"""`rnnatlas evaluate | embed | search | predict | map`, from a trained run to a page."""

import json
import re
import shutil

import pyarrow.parquet as pq
import pytest
import torch

from rnnatlas.atlas.index import Atlas
from rnnatlas.checked import write_table
from rnnatlas.cli import main
from rnnatlas.emulation.emulator import EmulatorSettings
from rnnatlas.emulation.model import EmulationSettings
from rnnatlas.emulation.training import train
from rnnatlas.evaluation import evaluate as evaluation
from rnnatlas.tasks.formal_languages import FormalLanguages
from rnnatlas.zoo.build import build
from rnnatlas.zoo.splits import SplitSettings
from rnnatlas.zoo.train import ZooSettings


def call(capsys, *tokens):
    with pytest.raises(SystemExit) as ended:
        main([str(token) for token in tokens])
    out, err = capsys.readouterr()
    return ended.value.code, out, err


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Holds a zoo and a run of interactive probing that was trained on it."""
    folder = tmp_path_factory.mktemp("cli")
    task = FormalLanguages.from_settings(
        {"tokens": 2, "length": 12, "largest_n": 4, "performance_samples": 20}
    )
    split = SplitSettings(train=0.5, validation=0.2, ood=0.3, new_runs=0.3)
    settings = ZooSettings(runs=20, hidden=4, layers=1, batch=4, snapshots=(0, 40), rollouts=4, split=split)
    emulation = EmulationSettings(
        steps=4, rnns=4, validate_every=2, validation_rollouts=2, emulator=EmulatorSettings(width=8, layers=1)
    )
    zoo = build(task, settings, folder / "zoo", workers=1)
    probing = {"sequences": 1, "steps": 4, "width": 8, "hidden": 8, "layers": 1}
    train(zoo, "interactive", folder / "run", encoder_settings=probing, settings=emulation, progress=False)
    return folder


@pytest.fixture(scope="module")
def evaluated(folder):
    """The same after evaluation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "TRIALS", 8)
        with pytest.raises(SystemExit) as ended:
            main(["evaluate", str(folder / "run"), "--json"])
    assert not ended.value.code
    return folder


@pytest.fixture
def atlas(evaluated, tmp_path, capsys):
    """An atlas of the zoo."""
    status, out, err = call(
        capsys, "embed", evaluated / "run", evaluated / "zoo", "--out", tmp_path / "atlas"
    )
    assert (status, out) == (0, "")
    assert "40 RNNs in" in err
    return tmp_path / "atlas"


@pytest.fixture
def checkpoint(folder, tmp_path):
    """One RNN of the zoo as someone else would have saved it."""
    from rnnatlas.zoo.store import Zoo

    (module,) = Zoo.open(folder / "zoo").population([7]).to_modules()
    torch.save(module.state_dict(), tmp_path / "model.pt")
    return tmp_path / "model.pt"


def test_evaluate_prints_what_was_found_or_json(folder, capsys, monkeypatch):
    monkeypatch.setattr(evaluation, "TRIALS", 8)
    status, out, _ = call(capsys, "evaluate", folder / "run", "--json")
    records = json.loads(out)
    assert status == 0
    assert {"emulation loss, total-variation", "task accuracy"} <= {record["name"] for record in records}
    status, out, _ = call(capsys, "evaluate", folder / "run", folder / "zoo")
    assert status == 0
    assert f"All {len(records)} figures beside their controls: {folder / 'run' / 'figures.tsv'}\n" in out
    lines = [line.split("\t") for line in (folder / "run" / "figures.tsv").read_text().splitlines()]
    assert lines[0][:4] == ["name", "split", "of", "value"]
    found = {tuple(line[:3]): line[3] for line in lines[1:]}
    assert len(lines) == len(records) + 1
    for record in records:
        value = found[record["name"], record["split"], record["of"]]
        assert value == ("" if record["value"] is None else str(record["value"]))
    assert len(out.splitlines()) < 20
    for question in (
        "Does the embedding help the emulator? ",
        "Does the frozen embedding predict the language",
    ):
        assert len(re.findall(rf"^{re.escape(question)}.*(Yes|No|Open): ", out, re.MULTILINE)) == 3


def test_evaluates_on_another_zoo_beside_a_run_whose_own_has_moved(evaluated, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(evaluation, "TRIALS", 8)
    shutil.copytree(evaluated / "run", tmp_path / "run")
    shutil.copytree(evaluated / "zoo", tmp_path / "moved")
    settings = (tmp_path / "run" / "settings.yaml").read_text()
    (tmp_path / "run" / "settings.yaml").write_text(settings.replace(str(evaluated / "zoo"), "gone"))
    own = ZooSettings(runs=9, cell="gru", hidden=5, layers=1, batch=4, snapshots=(0, 40), rollouts=4)
    task = FormalLanguages.from_settings(
        {"tokens": 2, "length": 12, "largest_n": 4, "performance_samples": 20}
    )
    build(task, own, tmp_path / "gru", seed=7, workers=1)
    status, _, err = call(capsys, "evaluate", tmp_path / "run", tmp_path / "gru")
    assert status == 1
    assert "gone" in err
    status, out, _ = call(capsys, "evaluate", tmp_path / "run", tmp_path / "moved", tmp_path / "gru")
    assert status == 0
    first, _, second = out.partition("figures of ")
    assert "Does the embedding help the emulator?" in first
    rows = [line.split("\t") for line in second.splitlines()[1:]]
    assert {row[0] for row in rows[1:]} == {"all", "GRU 4→5→4"}
    assert rows[0][3:6] == ["task accuracy", "best baseline", "step accuracy"]


def test_search_by_id_and_by_file(atlas, checkpoint, capsys):
    id = Atlas.open(atlas).ids[7]
    status, out, _ = call(capsys, "search", atlas, id, "-k", "3", "--where", "step = 40", "--json")
    found = json.loads(out)
    assert status == 0
    assert len(found) == 3
    assert id not in [row["id"] for row in found]
    assert {row["step"] for row in found} == {40}
    status, out, _ = call(capsys, "search", atlas, checkpoint, "-k", "1", "--json")
    assert json.loads(out)[0]["id"] == id
    status, out, _ = call(capsys, "search", atlas, id)
    assert status == 0
    assert "similarity" in out


def test_search_in_an_atlas_without_samples(atlas, capsys):
    table = pq.read_table(atlas / "entries.parquet")
    write_table(atlas / "entries.parquet", table.drop_columns("samples"))
    status, out, _ = call(capsys, "search", atlas, "run-00000-step-00040", "-k", 3)
    assert (status, out.count("\n")) == (0, 4)


def test_search_from_several_and_why(atlas, checkpoint, capsys):
    ids = Atlas.open(atlas).ids
    _, out, _ = call(capsys, "search", atlas, ids[3], checkpoint, ids[9], "-k", "4", "--json")
    found = [row["id"] for row in json.loads(out)]
    assert len(found) == 4
    assert not {ids[3], ids[9]} & {*found}
    for query in (ids[7], checkpoint):
        _, out, _ = call(capsys, "search", atlas, query, "-k", "2", "--why", "--json")
        for row in json.loads(out):
            assert {*row["why"]} == {"agree", "differ", "distance", "most"}
            assert row["why"]["distance"] >= 0
        head, *lines = call(capsys, "search", atlas, query, "-k", "2", "--why")[1].splitlines()
        assert head.split("\t")[-4:] == ["agrees in", "differs in", "responses differ by", "most"]
        assert all(line.split("\t")[-1].startswith("after ^") for line in lines)
    status, _, err = call(capsys, "search", atlas, ids[0], ids[1], "--why")
    assert status == 2
    assert "--why compares with one RNN, found 2 to search from" in err


@pytest.mark.parametrize("k", [0, -1])
def test_search_finds_at_least_one(tmp_path, capsys, k):
    status, out, err = call(capsys, "search", tmp_path, "x", "-k", k)
    assert (status, out) == (2, "")
    assert err == f"error: -k should be 1 or more, found {k}\n"


def test_predict_as_table_and_json(evaluated, checkpoint, capsys):
    status, out, _ = call(capsys, "predict", evaluated / "run", checkpoint, "--json")
    (found,) = json.loads(out)
    assert status == 0
    assert found["performance"]["low"] <= found["performance"]["high"]
    assert set(found["task"]["value"]) == {"b"}
    status, out, _ = call(capsys, "predict", evaluated / "run", checkpoint)
    assert status == 0
    assert "performance" in out
    assert "%" in out


def test_predictions_of_rnns_unlike_the_zoo_are_marked(evaluated, checkpoint, tmp_path, capsys):
    torch.manual_seed(0)
    rnn = torch.nn.ModuleDict({"rnn": torch.nn.GRU(4, 9), "head": torch.nn.Linear(9, 4)})
    torch.save({name: 30 * value for name, value in rnn.state_dict().items()}, tmp_path / "wild.pt")
    tokens = ["predict", evaluated / "run", checkpoint, tmp_path / "wild.pt"]
    _, out, err = call(capsys, *tokens)
    head, known, wild = (line.split("\t") for line in out.splitlines())
    assert head[:3] == ["id", "like the zoo", "more unlike than"]
    assert [known[1], wild[1]] == ["yes", "no"]
    assert all(re.fullmatch(r"\d+\.\d% of held-out RNNs", row[2]) for row in (known, wild))
    assert wild[2].startswith("9")
    assert [cell[0] == "?" for cell in known[3:] + wild[3:]] == [False] * 3 + [True] * 3
    assert "1 of 2 RNNs respond otherwise than the RNNs that the run was trained on" in err
    scores = {row["id"]: row["ood_score"] for row in json.loads(call(capsys, *tokens, "--json")[1])}
    _, _, err = call(capsys, "embed", *tokens[1:], "--out", tmp_path / "out")
    assert "1 of 2 RNNs respond otherwise" in err
    table = Atlas.open(tmp_path / "out").table
    assert dict(zip(*table.select(["id", "ood_score"]).to_pydict().values(), strict=True)) == scores
    assert table["in_distribution"].to_pylist() == [True, False]


def test_what_a_run_of_a_small_zoo_does_not_know_is_said(evaluated, checkpoint, tmp_path, capsys):
    run = shutil.copytree(evaluated / "run", tmp_path / "run")
    (run / "reference.safetensors").unlink()
    _, out, err = call(capsys, "predict", run, checkpoint)
    assert out.splitlines()[1].split("\t")[1:3] == ["unknown", "–"]
    why = "the run's zoo is too small; use one with 19 snapshots or more of the splits train, new"
    assert f"whether RNNs are like the zoo's is not known: {why}" in err
    _, out, _ = call(capsys, "embed", run, evaluated / "zoo", "--out", tmp_path / "atlas")
    ids = Atlas.open(tmp_path / "atlas").ids
    assert f"not known: {why}" in call(capsys, "search", tmp_path / "atlas", ids[0], "--why")[1]
    (run / "predictors.safetensors").unlink()
    why = f"not known: the run has not been evaluated; do so with: rnnatlas evaluate {run}"
    assert why in call(capsys, "search", tmp_path / "atlas", ids[0], "--why")[1]


def test_what_a_checkpoint_does_not_tell_is_said_or_named(atlas, evaluated, tmp_path, capsys):
    path = tmp_path / "elman.pt"
    module = torch.nn.ModuleDict({"rnn": torch.nn.RNN(4, 4), "a": torch.nn.Linear(4, 4)})
    torch.save(module.state_dict(), path)
    run = evaluated / "run"
    for number, command in enumerate(
        (["embed", run, path, "--out", tmp_path / "{}"], ["predict", run, path], ["search", atlas, path])
    ):
        for flags, said in (
            ([], "1 RNN with one gate: nonlinearity assumed tanh"),
            (["--cell", "elman-relu"], None),
            (["--cell", "gru"], "not of cell 'gru'"),
            (["--head", "b"], "head's weights at b.weight, found none"),
        ):
            tokens = [str(token).format(f"{number}{len(flags)}{said}") for token in command]
            status, _, err = call(capsys, *tokens, *flags)
            assert status == (1 if "gru" in flags or "b" in flags else 0)
            assert ("one gate" in err) == (not flags)
            assert said is None or said in err


def test_map_is_written_once(atlas, tmp_path, capsys):
    out = tmp_path / "map.html"
    status, _, err = call(capsys, "map", atlas, "--out", out, "--color", "performance", "--layout", "pca")
    assert status == 0
    assert "map.html in a browser" in err
    assert out.stat().st_size > 1_000_000
    status, _, err = call(capsys, "map", atlas, "--out", out)
    assert status == 1
    assert "exists already" in err


def test_mistakes_are_one_sentence_and_a_status(atlas, evaluated, tmp_path, capsys):
    run, zoo = evaluated / "run", evaluated / "zoo"
    wrong_names = ("did you mean", "nearest are", "no column", "paths to embed", "give a run before")
    for tokens, words in (
        (("evaluate", tmp_path / "nothing"), "expected a trained run at"),
        (("embed", tmp_path / "nothing", zoo, "--out", tmp_path / "a"), "expected a trained run at"),
        (("embed", run, zoo, "--out", atlas), "exists already"),
        (("embed", run, "--out", tmp_path / "a"), f"paths to embed after it, found {run} alone; add paths"),
        (("embed", tmp_path, "--out", tmp_path / "a"), "give a run before it, or --encoder invariants"),
        (("embed", run, tmp_path / "nothing.pt", "--out", tmp_path / "b"), "there is no file"),
        (("embed", run, zoo, "--layout", "tsn", "--out", tmp_path / "c"), "did you mean 'tsne'"),
        (("search", tmp_path / "nothing", "x"), "is not an atlas"),
        (("search", atlas, "run-0000"), "nearest are"),
        (("search", atlas, Atlas.open(atlas).ids[0], "--where", "nonsense = 1"), "no column is called"),
        (("predict", run, tmp_path / "nothing.pt"), "there is no file"),
        (("map", atlas, "--out", tmp_path / "m.html", "--color", "performnce"), "did you mean 'performance'"),
    ):
        status, out, err = call(capsys, *tokens)
        assert (status, out) == (2 if words.startswith(wrong_names) else 1, ""), tokens
        assert err.startswith("error: ")
        assert words in err
        assert err.count("\n") == 1, err


def test_what_is_given_in_place_of_another_is_named(atlas, evaluated, tmp_path, capsys):
    run, zoo, out = evaluated / "run", evaluated / "zoo", ("--out", tmp_path / "out")
    first = f"found a zoo; give a run first, as in rnnatlas evaluate RUN {zoo}, or train one: rnnatlas train"
    inside = "found a folder with 1 "
    for tokens, words in (
        (("embed", zoo, run, *out), f"{zoo} should be a trained run, {first}"),
        (("evaluate", zoo), first),
        (("predict", zoo, run), first),
        (("predict", atlas, zoo), "found an atlas; give the run that made it"),
        (("evaluate", evaluated), f"{inside}trained run in it; give {run}"),
        (("evaluate", run, atlas), "should be a zoo, found an atlas; give the zoo that it was made of"),
        (("train", run, *out), "should be a zoo, found a trained run; give the zoo that it was trained on"),
        (("zoo", "show", evaluated), f"should be a zoo, {inside}zoo in it; give {zoo}"),
        (("search", run, "x"), f"an atlas, found a trained run; make one with: rnnatlas embed {run} PATH"),
        (("map", zoo, *out), f"an atlas, found a zoo; make one with: rnnatlas embed RUN {zoo} --out"),
        (("map", tmp_path, *out), f"an atlas, {inside}atlas in it; give {atlas}"),
        (
            ("embed", run, atlas, *out),
            "should be checkpoint files, found an atlas; give the zoo or the files",
        ),
        (("predict", run, run), "checkpoint files, found a trained run; give the zoo or the files that hold"),
        (("predict", run, evaluated), f"checkpoint files, {inside}zoo in it; give {zoo}"),
        (("inspect", zoo), f"found a zoo; see what it holds with: rnnatlas zoo show {zoo}"),
        (("explore", run, *out), "checkpoint files, found a trained run"),
    ):
        status, printed, err = call(capsys, *tokens)
        assert (status, printed) == (1, ""), tokens
        assert words in err, tokens
        assert err.count("\n") == 1, err


def test_runs_of_an_experiment_are_named(evaluated, tmp_path, capsys):
    for seed in range(6):
        shutil.copytree(evaluated / "run", tmp_path / "runs" / f"encoder-{seed}")
    runs = ", ".join(str(tmp_path / "runs" / f"encoder-{seed}") for seed in range(4))
    _, _, err = call(capsys, "evaluate", tmp_path)
    assert f"found a folder with 6 trained runs in it; give one of {runs} or 2 others\n" in err


def test_settings_of_others_make_no_run(evaluated, checkpoint, tmp_path, capsys):
    (tmp_path / "settings.yaml").write_text("seed: 3\n")
    status, out, _ = call(capsys, "predict", evaluated / "run", tmp_path)
    assert (status, len(out.splitlines())) == (0, 2)


def test_embed_replaces_an_atlas_when_told_to_and_nothing_else(atlas, evaluated, checkpoint, capsys):
    tokens = ["embed", evaluated / "run", checkpoint, "--out", atlas]
    assert "exists already" in call(capsys, *tokens)[2]
    assert call(capsys, *tokens, "--force")[0] == 0
    assert len(Atlas.open(atlas)) == 1
    (atlas / "map.html").write_text("made by someone")
    assert "exists already" in call(capsys, *tokens, "--force")[2]
    assert sorted(path.name for path in atlas.iterdir()) == ["atlas.json", "entries.parquet", "map.html"]
    assert [path.name for path in atlas.parent.iterdir() if path.is_dir()] == ["atlas"]


def test_a_failed_replacement_leaves_the_old_atlas(atlas, evaluated, tmp_path, capsys):
    tokens = ["embed", evaluated / "run", tmp_path / "no.pt", "--out", atlas, "--force"]
    assert call(capsys, *tokens)[0] == 1
    assert len(Atlas.open(atlas)) == 40


def test_an_embedding_that_fails_leaves_nothing(evaluated, tmp_path, capsys):
    status, _, _ = call(capsys, "embed", evaluated / "run", tmp_path / "no.pt", "--out", tmp_path / "atlas")
    assert status == 1
    assert list(tmp_path.iterdir()) == []


def test_atlas_whose_run_is_gone_takes_another_place(atlas, evaluated, checkpoint, tmp_path, capsys):
    card = json.loads((atlas / "atlas.json").read_text())
    (atlas / "atlas.json").write_text(json.dumps({**card, "run": str(tmp_path / "gone")}))
    status, _, err = call(capsys, "search", atlas, checkpoint)
    assert status == 1
    assert "gone" in err
    status, _, _ = call(capsys, "search", atlas, checkpoint, "--run", evaluated / "run")
    assert status == 0


@pytest.mark.parametrize("command", ["evaluate", "embed", "search", "predict", "map"])
def test_help_has_an_example(command, capsys):
    status, out, _ = call(capsys, command, "--help")
    assert status == 0
    assert f"rnnatlas {command}" in out


def test_a_few_labels_recalibrate_predictions_of_another_architecture(evaluated, tmp_path, capsys):
    folder = tmp_path / "nets"
    folder.mkdir()
    rows = ["file,performance,step,notes"]
    for number in range(12):
        torch.manual_seed(number)
        net = torch.nn.ModuleDict({"rnn": torch.nn.GRU(4, 6), "head": torch.nn.Linear(6, 4)})
        torch.save(net.state_dict(), folder / f"net_{number}.pt")
        rows += [f"net_{number}.pt,{0.6 + 0.02 * number},{40 * (number % 2)},mine"] if number < 10 else []
    known = tmp_path / "known.csv"
    known.write_text("\n".join(rows))
    command = ["predict", evaluated / "run", folder]
    _, out, _ = call(capsys, *command, "--json")
    before = json.loads(out)
    status, out, err = call(capsys, *command, "--calibrate", known, "--json")
    after = json.loads(out)
    assert status == 0
    assert [row["id"] for row in after] == [row["id"] for row in before]
    assert {tuple(row["recalibrated"]) for row in after} == {("performance", "step")}
    assert all(0.5 < row["performance"]["value"] < 0.9 for row in after), "as those in the file"
    assert all(row["performance"]["low"] < row["performance"]["high"] for row in after)
    assert "performance of GRU 4→6→4: recalibrated; on 10 labelled RNNs" in err
    status, out, _ = call(capsys, *command, "--calibrate", known)
    assert status == 0
    assert "?0." not in out.replace("\t", ""), "what is recalibrated is not doubted"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,performance\nsomething.pt,0.5\n", "a column that names the files"),
        ("file,speed\na.pt,1\n", "should have a column named as a property that the run predicts"),
        ("file,performance\na.pt,0.5\nb.pt,0.6\n", "3 RNNs of one architecture or more, found 2 at most"),
        ("file,performance\na.pt,0.5\nb.pt,0.5\nc.pt,0.5\n", "should differ, found 3 equal ones of GRU"),
        ("file,performance\na.pt,good\nb.pt,bad\nc.pt,bad\n", "should hold numbers, found 'good'"),
        ("file,performance\n", "should hold a row for each network"),
    ],
)
def test_labels_that_recalibrate_nothing_are_answered_in_a_sentence(
    evaluated, tmp_path, capsys, text, message
):
    for name in "abcd":
        torch.manual_seed(ord(name))
        net = torch.nn.ModuleDict({"rnn": torch.nn.GRU(4, 6), "head": torch.nn.Linear(6, 4)})
        torch.save(net.state_dict(), tmp_path / f"{name}.pt")
    (tmp_path / "known.csv").write_text(text)
    status, _, err = call(
        capsys, "predict", evaluated / "run", tmp_path / "*.pt", "--calibrate", tmp_path / "known.csv"
    )
    assert status == 1
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_a_folder_of_all_sizes_is_embedded_and_searched_without_a_run(tmp_path, capsys):
    for number in range(6):
        torch.manual_seed(number)
        size = 3 + number % 2
        torch.save(torch.nn.LSTM(size, 5).state_dict(), tmp_path / f"net_{number}.pt")
    out = tmp_path / "atlas"
    status, _, err = call(
        capsys, "embed", tmp_path / "net_*.pt", "--encoder", "invariants", "--out", out, "--layout", "pca"
    )
    assert status == 0
    assert "5 principal components of invariants of the weights" in err
    assert len(Atlas.open(out)) == 6
    shutil.copy(tmp_path / "net_3.pt", tmp_path / "query.pt")
    status, found, err = call(capsys, "search", out, tmp_path / "query.pt", "-k", "2", "--why", "--json")
    first, second = json.loads(found)
    assert status == 0
    assert "net_3.pt" in first["id"]
    assert first["similarity"] > 0.999 > second["similarity"]
    assert "no RNN was run" in first["why"]["most"]
    assert "based on 5 principal components" in err
    for tokens, message in (
        (["embed", tmp_path / "net_0.pt", "--out", tmp_path / "x"], "give a run before it, or --encoder"),
        (["embed", "a", "b", "--per-architecture", "--out", tmp_path / "x"], "is for --encoder invariants"),
        (["embed", tmp_path, "--encoder", "graph", "--out", tmp_path / "x"], "'invariants' alone"),
    ):
        status, _, err = call(capsys, *tokens)
        assert (status, message in err) == (2, True)
