"""The ground that all packages stand on: registry, settings, seeds, files, tables."""

import errno
import os
import subprocess
import sys

import pyarrow as pa
import pytest
import torch

from rnnatlas import files
from rnnatlas.errors import OutputExists, SettingsError, UnknownName
from rnnatlas.registry import Registry
from rnnatlas.seeds import stream, torch_generator
from rnnatlas.settings import as_dict, at_least_one, build, check_sections, merge, preset, presets, settings
from rnnatlas.tables import rows_where


@settings
class Inner:
    width: int = 3

    def __post_init__(self):
        at_least_one(self, "width")


@settings
class Outer:
    steps: int = 10
    schedule: tuple[tuple[int, float], ...] = ((0, 0.1),)
    inner: Inner = Inner()


class TestSettings:
    def test_survive_plain_values(self):
        made = build(Outer, {"steps": 5, "inner": {"width": 7}, "schedule": [[0, 1.0], [9, 0.5]]})
        assert made == Outer(steps=5, inner=Inner(width=7), schedule=((0, 1.0), (9, 0.5)))
        assert build(Outer, as_dict(made)) == made

    @pytest.mark.parametrize(
        ("values", "sentence"),
        [
            ({"stesp": 5}, "unknown setting settings.stesp; did you mean 'steps'"),
            ({"inner": {"widht": 5}}, "settings.inner.widht; did you mean 'width'"),
            ({"inner": {"width": 0}}, "^settings.inner: width should be 1 or more, found 0$"),
            ({"steps": "many"}, "settings.steps: .*found 'many'"),
        ],
    )
    def test_refuse_what_is_wrong(self, values, sentence):
        with pytest.raises(SettingsError, match=sentence):
            build(Outer, values)

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
        with pytest.raises(UnknownName, match="no settings for task"):
            preset("demo", "chess")


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

    def test_folders_in_use_are_refused(self, tmp_path):
        assert files.new_folder(tmp_path / "new" / "deep").is_dir()
        files.new_folder(tmp_path / "new" / "deep")  # still empty
        (tmp_path / "file").write_text("x")
        for taken in (tmp_path, tmp_path / "file"):
            with pytest.raises(OutputExists, match="exists already"):
                files.new_folder(taken)


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

    @pytest.mark.parametrize("condition", ["stpe > 1", "step >", "1; DROP TABLE rows", "step > 0) --"])
    def test_bad_conditions_are_one_sentence(self, condition):
        with pytest.raises(UnknownName, match=r"it may use step, split, metrics\.accuracy"):
            rows_where(self.TABLE, condition)

    @pytest.mark.parametrize("condition", ['"metrics.acuracy" > 0.9', 'split = "train" OR "acuracy" > 1'])
    def test_unknown_names_in_double_quotes_are_refused(self, condition):
        with pytest.raises(UnknownName, match=r"no column is called .*single quotes"):
            rows_where(self.TABLE, condition)


def test_importing_the_package_needs_no_torch():
    names = "rnnatlas.cli, rnnatlas.encoders, rnnatlas.tasks, rnnatlas.properties, rnnatlas.importers"
    code = f"import sys, {names}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
