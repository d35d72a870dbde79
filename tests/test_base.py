"""The ground that all packages stand on: registry, settings, seeds, files, tables."""

import dataclasses
import errno
import itertools
import os
import re
import stat
import subprocess
import sys
from typing import Any, Literal

import pyarrow as pa
import pytest
import torch

from rnnatlas import encoders, files, tasks
from rnnatlas.emulation.model import EmulationSettings
from rnnatlas.errors import OutputExists, SettingsError, UnknownName
from rnnatlas.evaluation.supervised import SupervisedSettings
from rnnatlas.properties.predictors import PredictorSettings
from rnnatlas.registry import Registry
from rnnatlas.seeds import stream, torch_generator
from rnnatlas.settings import (
    as_dict,
    at_least_one,
    build,
    check_sections,
    merge,
    preset,
    presets,
    read_yaml,
    settings,
)
from rnnatlas.tables import rows_where
from rnnatlas.zoo.splits import SplitSettings
from rnnatlas.zoo.train import ZooSettings


@settings
class Inner:
    width: int = 3

    def __post_init__(self):
        at_least_one(self, "width")


@settings
class Outer:
    steps: int = 10
    loud: bool = False
    cell: Literal["lstm", "gru"] = "lstm"
    rates: dict[str, float] = dataclasses.field(default_factory=dict)
    schedule: tuple[tuple[int, float], ...] = ((0, 0.1),)
    inner: Inner = Inner()
    other: dict[str, Any] = dataclasses.field(default_factory=dict)


def every_settings():
    """Settings of all that is registered, and of what uses it."""
    for name in encoders.registry:
        yield name, encoders.registry[name].Settings
    for name in tasks.registry:
        yield name, tasks.registry[name].Settings
    yield from {"emulation": EmulationSettings, "predictors": PredictorSettings}.items()
    yield from {"supervised": SupervisedSettings, "zoo": ZooSettings, "split": SplitSettings}.items()


class TestSettings:
    def test_survive_plain_values(self):
        made = build(
            Outer,
            {"steps": 5, "inner": {"width": 7}, "schedule": [[0, 1.0], [9, 0.5]], "other": {"a": [True]}},
        )
        assert made == Outer(
            steps=5, inner=Inner(width=7), schedule=((0, 1.0), (9, 0.5)), other={"a": [True]}
        )
        assert build(Outer, as_dict(made)) == made

    @pytest.mark.parametrize(
        ("values", "sentence"),
        [
            ({"stesp": 5}, "unknown setting settings.stesp; did you mean 'steps'"),
            ({"inner": {"widht": 5}}, "settings.inner.widht; did you mean 'width'"),
            ({"inner": {"width": 0}}, "^settings.inner: width should be 1 or more, found 0$"),
            ({"steps": "many"}, "^settings.steps should be a whole number, found 'many'$"),
            ({"steps": 2.5}, "^settings.steps should be a whole number, found 2.5$"),
            ({"steps": True}, "^settings.steps should be a whole number, found true$"),
            (
                {"steps": 2**63},
                "^settings: steps should be finite, and below 2.63 .*found 9223372036854775808$",
            ),
            ({"loud": 3}, "^settings.loud should be true or false, found 3$"),
            ({"cell": "rnn"}, "^settings.cell should be 'lstm' or 'gru', found 'rnn'$"),
            ({"inner": 3}, r"^settings.inner should be settings by name \(width\), found 3$"),
            (
                {"schedule": "1e300"},
                r"^settings.schedule should be a list of lists of 2 \(a whole number, a number\), found '1e3",
            ),
            (
                {"schedule": [[0, 1, 2]]},
                r"^settings.schedule.0 should be a list of 2 \(a whole number, a number\), found \[0",
            ),
            ({"schedule": [[0, float("nan")]]}, "^settings: schedule should be finite"),
            ({"rates": {"flat": "fast"}}, "^settings.rates.flat should be a number, found 'fast'$"),
            ({"rates": {"flat": float("inf")}}, "^settings: rates should be finite"),
        ],
    )
    def test_refuse_what_is_wrong(self, values, sentence):
        with pytest.raises(SettingsError, match=sentence):
            build(Outer, values)

    @pytest.mark.parametrize(("name", "kind"), list(every_settings()))
    def test_take_a_value_or_say_in_one_sentence_what_they_expected(self, name, kind):
        odd = [None, True, "x", -1, 2.5, "1e300", 2**63, 10**400, {}, {"low": 2}]
        lists = [[], [None], ["x"], [0], [[]], [[0, 1]], [[2, 1], [0, 1]], [{}], [{"cell": []}]]
        for field, value in itertools.product(dataclasses.fields(kind), [*odd, *lists]):
            try:
                made = build(kind, {field.name: value}, name)
            except SettingsError as error:
                sentence = str(error)
                assert name in sentence
                assert re.search(r"found|these settings make|did you mean|known are \S", sentence), sentence
                assert "\n" not in sentence
            else:
                assert build(kind, as_dict(made), name) == made

    def test_numbers_may_be_text_as_yaml_takes_some(self):
        made = build(Outer, {"steps": "1e3", "rates": {"flat": "1e-4"}, "schedule": [["0", 1]]})
        assert made == Outer(steps=1000, rates={"flat": 1e-4}, schedule=((0, 1.0),))
        assert [type(value) for value in (made.steps, *made.schedule[0])] == [int, int, float]

    def test_are_finite_however_they_are_made(self):
        for name, kind in every_settings():
            for field in dataclasses.fields(kind):
                if field.type is float:
                    with pytest.raises(SettingsError, match=field.name):
                        kind(**{field.name: float("inf")})
                    with pytest.raises(SettingsError, match=field.name):
                        build(kind, {field.name: float("nan")}, name)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (b"a: [", "should be YAML, but is not, see line 1"),
            (b"a: !!binary b", "should be YAML, but is not, see line 1"),
            (b"\xff\xfe\xff", "cannot be read (it is not text in UTF-8); give another"),
            (b"[1]", "should hold a mapping, found list"),
        ],
    )
    def test_files_that_cannot_be_read_are_named(self, text, message, tmp_path):
        path = tmp_path / "a.yaml"
        path.write_bytes(text)
        with pytest.raises(SettingsError, match=re.escape(f"settings file {path} {message}")):
            read_yaml(path)

    def test_refuse_what_is_no_mapping(self):
        with pytest.raises(SettingsError, match=r"zoo should hold settings by name, such as zoo\.NAME=VALUE"):
            build(Outer, 5, "zoo")
        with pytest.raises(SettingsError, match=r"zoo should hold settings by name, .*found 5"):
            check_sections({"zoo": 5}, ["zoo"])

    def test_later_layers_lie_on_top(self):
        assert merge({"a": {"b": 1, "c": 2}}, None, {"a": {"c": 3}}, {"d": 4}) == {
            "a": {"b": 1, "c": 3},
            "d": 4,
        }

    def test_presets_name_what_they_know(self):
        assert {"demo", "small", "paper"} <= set(presets())
        with pytest.raises(UnknownName, match="small"):
            preset("smal", "formal-languages")
        with pytest.raises(
            UnknownName,
            match=r"^preset 'demo' has no settings for chess; known are formal-languages, .*tiled-digits$",
        ):
            preset("demo", "chess")

    def test_a_preset_may_stand_on_another(self):
        demo, compare = (preset(name, "formal-languages") for name in ("demo", "compare"))
        assert "like" not in compare
        assert compare["zoo"] == demo["zoo"]
        assert compare["encoders"].items() > demo["encoders"].items()


class TestRegistry:
    def test_loads_late_and_suggests(self):
        entries = {"path": ("pathlib:Path", "a path"), "none": ("no.such:thing", "broken")}
        registry = Registry("thing", entries)
        assert registry["path"].__name__ == "Path"
        assert registry.description("none") == "broken"
        with pytest.raises(UnknownName, match="no thing is called 'pth'; did you mean 'path'"):
            registry["pth"]

    def test_packages_can_be_indexed(self):
        import rnnatlas as ra

        assert ra.tasks["formal-languages"].name == "formal-languages"
        assert "interactive" in ra.encoders
        with pytest.raises(UnknownName, match="interactive"):
            ra.encoders["interactiv"]


class TestSeeds:
    def test_a_stream_is_its_name(self):
        assert stream(1, "batches", 3).random() == stream(1, "batches", 3).random()
        paths = [("batches", 3), ("batches", 4), ("rollouts", 3), ("batches", 3, 0), ("batches",)]
        names = [(seed, *path) for seed in (1, 2) for path in paths]
        assert len({stream(*name).random() for name in names}) == len(names)

    @pytest.mark.parametrize("seed", [-1, 2**63])
    def test_refuse_what_a_zoo_cannot_keep(self, seed):
        for make in (stream, torch_generator):
            with pytest.raises(
                SettingsError, match=rf"a seed should be a whole number from 0 .*found {seed}"
            ):
                make(seed, "batches")
        stream(2**63 - 1, "batches")

    def test_torch_generators_too(self):
        draws = {float(torch.rand(1, generator=torch_generator(0, "init", run))) for run in range(20)}
        assert len(draws) == 20


class TestFiles:
    @staticmethod
    def fail_halfway(target):
        with files.replacing(target) as partial:
            partial.write_text("half")
            raise OSError(errno.ENOSPC, "full")

    def test_appear_whole_or_not_at_all(self, tmp_path):
        target = tmp_path / "a.txt"
        files.write_text(target, "old")
        with pytest.raises(OSError, match="full"):
            self.fail_halfway(target)
        assert target.read_text() == "old"
        assert os.listdir(tmp_path) == ["a.txt"]  # noqa: PTH208

    def test_folders_appear_whole_or_not_at_all(self, tmp_path):
        with files.making(tmp_path / "deep" / "new") as folder:
            files.write_text(folder / "a.txt", "whole")
            assert not (tmp_path / "deep" / "new").exists()
        assert (tmp_path / "deep" / "new" / "a.txt").read_text() == "whole"
        (tmp_path / "empty").mkdir()
        with pytest.raises(ZeroDivisionError), files.making(tmp_path / "empty") as folder:  # noqa: PT012
            files.write_text(folder / "a.txt", "half")
            raise ZeroDivisionError
        assert sorted(os.listdir(tmp_path)) == ["deep", "empty"]  # noqa: PTH208
        assert not any((tmp_path / "empty").iterdir())
        with pytest.raises(OutputExists, match="exists already"), files.making(tmp_path / "deep"):
            pass

    @pytest.mark.parametrize(("mask", "file", "folder"), [(0o077, 0o600, 0o700), (0o022, 0o644, 0o755)])
    def test_permissions_are_those_that_the_umask_leaves(self, mask, file, folder, tmp_path):
        before = os.umask(mask)
        try:
            files.write_text(tmp_path / "a.txt", "a")
            with files.making(tmp_path / "new") as new:
                assert stat.S_IMODE(new.stat().st_mode) == 0o700
                files.write_text(new / "b.txt", "b")
        finally:
            after = os.umask(before)
        modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a.txt", "new", "new/b.txt")]
        assert (after, modes) == (mask, [file, folder, file])

    def test_errors_name_what_was_to_be_written(self, tmp_path):
        long = tmp_path / ("x" * 250)  # no room for the rest of a temporary name
        with pytest.raises(OSError, match="too long") as found:
            files.write_text(long, "a")
        assert found.value.filename == str(long)
        with pytest.raises(OSError, match="too long") as found, files.making(long):
            pass
        assert found.value.filename == str(long)
        with pytest.raises(FileNotFoundError) as found, files.making(tmp_path / "new") as folder:
            (folder / "deep" / "a.txt").write_text("a")
        assert found.value.filename == str(tmp_path / "new" / "deep" / "a.txt")

    def test_folders_in_use_are_refused(self, tmp_path):
        assert files.new_folder(tmp_path / "new" / "deep").is_dir()
        files.new_folder(tmp_path / "new" / "deep")  # still empty
        (tmp_path / "file").write_text("x")
        for taken in (tmp_path, tmp_path / "file"):
            with pytest.raises(OutputExists, match="exists already"):
                files.new_folder(taken)

    def test_what_killed_processes_left_is_in_nobodys_way_and_goes(self, tmp_path):
        out, left = tmp_path / "out", [".out.abcd_123.partial", "out/.a.json.abcd_123.partial"]
        out.mkdir()
        for name in left:
            (tmp_path / name).mkdir()
            os.utime(tmp_path / name, (0, 0))
        mine = tmp_path / ".out.notes.partial"
        mine.touch()
        os.utime(mine, (0, 0))
        with files.making(out) as folder:
            files.write_text(folder / "a.txt", "whole")
        assert sorted(os.listdir(tmp_path)) == [mine.name, "out"]  # noqa: PTH208
        assert os.listdir(out) == ["a.txt"]  # noqa: PTH208
        (tmp_path / left[1]).touch()
        with pytest.raises(OutputExists):
            files.check_free(out)

    @pytest.mark.parametrize("at_once", [True, False])
    def test_an_old_folder_is_there_until_the_new_one_is(self, tmp_path, at_once, monkeypatch):
        if not at_once:
            monkeypatch.setattr(files, "_exchange", lambda one, other: False)
        out = tmp_path / "out"
        for text in ("old", "new"):
            with files.making(out, replaces=["a.txt"]) as folder:
                files.write_text(folder / "a.txt", text)
                assert text == "old" or (out / "a.txt").read_text() == "old"
            assert (out / "a.txt").read_text() == text
        assert os.listdir(tmp_path) == ["out"]  # noqa: PTH208

    def test_the_slower_of_two_that_make_one_folder_is_told(self, tmp_path):
        out = tmp_path / "out"
        with (
            pytest.raises(OutputExists, match="out exists already"),
            files.making(out),
            files.making(out) as faster,
        ):
            files.write_text(faster / "a.txt", "first")
        assert (out / "a.txt").read_text() == "first"
        assert os.listdir(tmp_path) == ["out"]  # noqa: PTH208


class TestTables:
    TABLE = pa.table(
        {
            "step": [0, 100, 200],
            "split": ["train", "ood", "train"],
            "metrics": [{"accuracy": 0.1}, {"accuracy": 0.5}, {"accuracy": None}],
        }
    )

    @pytest.mark.parametrize(
        ("condition", "rows"),
        [
            ("step >= 100", [1, 2]),
            ("split = 'train' AND step > 0", [2]),
            ("accuracy > 0.2", [1]),
            ('"metrics.accuracy" IS NULL', [2]),
            ("step < 0", []),
            ('"METRICS.accuracy" > 0.2 AND "Accuracy" < 1', [1]),
            ('split = \'the "tran" split\' OR "step" = 0', [0]),
        ],
    )
    def test_conditions_choose_rows(self, condition, rows):
        assert rows_where(self.TABLE, condition).tolist() == rows

    BOTH = pa.table(
        {
            "step": [1, 2],
            "predicted": [
                {"step": 9, "performance": 0.1, "task": "a"},
                {"step": 9, "performance": 0.9, "task": "b"},
            ],
            "task": [{"b": 1, "c": 5}, {"b": 2, "c": 5}],
            "labels": [{"b": 3, "performance": 7.0}, {"b": 4, "performance": 7.0}],
            "metrics": [{"performance": 0.9, "größe": 1}, {"performance": 0.1, "größe": 2}],
        }
    )
    """Short names that several columns have."""

    @pytest.mark.parametrize(
        ("condition", "rows"),
        [
            ("performance > 0.5", [0]),
            ("metrics.performance > .5", [0]),
            ("Predicted.Performance > .5", [1]),
            ('predicted."performance" > .5 OR "metrics"."performance" > .5', [0, 1]),
            ("labels.performance = 7", [0, 1]),
            ("step = 2", [1]),
            ("predicted.step = 9 AND step = 1", [0]),
            ("b = 4", [1]),
            ("task.b = 1 AND c = 5", [0]),
            ("task = 'b'", [1]),
            ("größe = 2", [1]),
            ("task <> 'metrics.performance > 1' AND step > 1.5", [1]),
            ("step = (SELECT max(step) FROM rows)", [1]),
            ("step = 1 -- the first", [0]),
        ],
    )
    def test_a_short_name_is_one_column_and_a_long_name_any(self, condition, rows):
        assert rows_where(self.BOTH, condition).tolist() == rows

    @pytest.mark.parametrize(
        "condition",
        [
            "step IN (WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c)",
            f"(SELECT count(*) FROM {', '.join(f'rows r{i}' for i in range(25))}) > 0",
        ],
    )
    def test_endless_conditions_end(self, condition):
        with pytest.raises(SettingsError, match="takes too long; it should be one on single rows"):
            rows_where(self.BOTH, condition)

    @pytest.mark.parametrize(
        "condition", ["1) UNION SELECT (99", "hex(zeroblob(1e9)) > 0", "step = '\udcff'"]
    )
    def test_conditions_that_are_none_are_refused(self, condition):
        with pytest.raises(UnknownName, match="should be one"):
            rows_where(self.BOTH, condition)

    def test_numbers_and_other_values_of_all_kinds(self):
        dates = pa.array([0, 1], pa.timestamp("s"))
        table = pa.table({"large": pa.array([2**64 - 1, 1], pa.uint64()), "when": dates, "list": [[1], [2]]})
        for condition in ("large > 1e18", "\"when\" LIKE '1970-01-01 00:00:00%'", "list = '[1]'"):
            assert rows_where(table, condition).tolist() == [0], condition

    @pytest.mark.parametrize(
        "condition", ["stpe > 1", "step >", "1; DROP TABLE rows", "step > 0) --", "metrics.acuracy > 1"]
    )
    def test_bad_conditions_are_one_sentence(self, condition):
        with pytest.raises(UnknownName, match=r"(it may use|there are) step, split, metrics\.accuracy"):
            rows_where(self.TABLE, condition)

    @pytest.mark.parametrize(
        ("condition", "hint"),
        [('"metrics.acuracy" > 0.9', "mean 'metrics.accuracy'"), ('split = "train"', "single quotes")],
    )
    def test_unknown_names_in_double_quotes_are_refused(self, condition, hint):
        with pytest.raises(UnknownName, match=f"no column is called .*{hint}"):
            rows_where(self.TABLE, condition)


def test_importing_the_package_needs_no_torch():
    names = "rnnatlas.cli, rnnatlas.encoders, rnnatlas.tasks, rnnatlas.properties, rnnatlas.importers"
    code = f"import sys, {names}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
