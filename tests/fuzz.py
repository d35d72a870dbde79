"""Damages what commands read and runs them: `PYTHONPATH=. python tests/fuzz.py config zoo --count 1000`.

A mutant of a checkpoint, a settings file, or a folder of a zoo, run or atlas has bytes changed, or names,
values and shapes that are none. A command may refuse it with one line of printable text, or go on. All else
fails: a traceback, too much memory or time, a crash, a file written beside the output. A table of outcomes
ends it; the exit status tells whether any failed. With --folder, what is damaged is made there once.

`importers/fuzz.py` does the same to checkpoints of all formats.
"""

import argparse
import contextlib
import io
import json
import os
import random
import re
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import torch
from tests.importers.fuzz import damaged, inside, written
from tests.made import make_experiment
from torch import nn

MEMORY, SECONDS = 2 << 30, 30.0
ODD = (
    *("", "null", "true", "-1", "0", "1e999", "-.inf", ".nan", "NaN", "Infinity", "2020-02-31", "9" * 400),
    *("9" * 5000, "[]", "{}", "[[]]", '""', '"\\u202e"', '"\\ud800"', '"../../x"', '"<script>"', "0x1F"),
    *("[" * 500, '{"a":' * 500, "&a [*a]", "1: 2", "? [a]\n: b", "!!python/name:os.system", "1:30", "\0"),
)
"""Texts in the place of values."""
NET = nn.ModuleDict({"rnn": nn.LSTM(4, 4), "head": nn.Linear(4, 4)})
KEPT = (".parquet", ".json", ".yaml", ".safetensors", ".csv", ".tsv", ".md")


KINDS = ("checkpoint", "config", "given", "zoo", "run", "atlas")
GOOD = ("accepted", "refused")
PRINTED = {
    "build.yaml": "zoo build formal-languages --out x --preset demo",
    "train.yaml": "train ZOO --out x --encoder graph",
    "demo.yaml": "demo --out x",
    "embed.yaml": "embed RUN ZOO --out x",
}
"""Settings files, and the commands that print and read them."""
GIVEN = (
    *(("--inputs", name) for name in ("i.npz", "i.npy", "i.csv", "i.parquet")),
    *(("--labels", name) for name in ("l.csv", "l.parquet")),
    *(("--calibrate", name) for name in ("l.csv", "l.parquet")),
)
"""Files that say more of RNNs, and their flags."""


# --- what is damaged -----------------------------------------------------------------------------------


def text(data: bytes, draw: random.Random) -> bytes:
    """A text in which some values or names are others."""
    words = re.split(rb"(\s+|[,:{}\[\]])", data)
    values = [at for at in range(0, len(words), 2) if words[at]]
    for _ in range(draw.choice([1, 1, 2, 5])):
        at = draw.choice(values) if draw.random() < 0.9 else draw.randrange(len(words))
        words[at] = draw.choice(
            [*ODD, "x", words[draw.randrange(len(words))].decode(errors="replace")]
        ).encode()
    return b"".join(words)


def table(data: bytes, draw: random.Random) -> bytes:
    """A Parquet file with a column less, or one that holds others, under the checksums that fit."""
    found = pq.read_table(io.BytesIO(data))
    at = draw.randrange(found.num_columns)
    name, column = found.column_names[at], found.column(at)
    count = len(found)
    others = [
        lambda: pa.nulls(count, column.type),
        lambda: pa.nulls(count),
        lambda: pa.array(["\x1b[31m<b>\u202e"] * count),
        lambda: pa.array([2**62] * count),
        lambda: pa.array([-1.5] * count),
        lambda: pa.array([float("nan")] * count),
        lambda: pa.array([[1.0]] * count),
        lambda: pa.array([{"a": 1}] * count),
        lambda: column.take(pa.array([0] * count)),
    ]
    kind = draw.randrange(len(others) + 3)
    if kind == 0:
        found = found.remove_column(at)
    elif kind == 1:
        found = found.slice(0, draw.randrange(count + 1))
    elif kind == 2:
        names = [f"{other}x" if other == name else other for other in found.column_names]
        found = found.rename_columns(names)
    else:
        found = found.set_column(at, name, others[kind - 3]())
    file = io.BytesIO()
    pq.write_table(found.replace_schema_metadata(found.schema.metadata), file)
    return file.getvalue()


def header(data: bytes, draw: random.Random) -> bytes:
    """A safetensors file whose header says something else."""
    length = int.from_bytes(data[:8], "little")
    changed = text(data[8 : 8 + length], draw)
    return len(changed).to_bytes(8, "little") + changed + data[8 + length :]


def odd(data: bytes, draw: random.Random) -> bytes:
    """A checkpoint in which a tensor is another, or has another name."""
    state = dict(NET.state_dict())
    name = draw.choice(list(state))
    value = state[name]
    kinds: list[Callable[[], object]] = [
        lambda: value.to(
            draw.choice([torch.int8, torch.bool, torch.complex64, torch.float64, torch.bfloat16])
        ),
        lambda: value.to_sparse(),
        lambda: torch.empty(value.shape, device="meta"),
        lambda: value.flatten()[:0],
        lambda: value[:1],
        lambda: value.unsqueeze(0),
        lambda: value.sum(),
        lambda: torch.zeros(1).expand(2000, 2000),
        lambda: nn.Parameter(value),
        lambda: torch.full_like(value, draw.choice([float("nan"), 1e38, float("inf"), 0.0])),
        lambda: draw.choice([None, "x", 3, [value], {"a": value}, 10**400]),
    ]
    if draw.random() < 0.4:
        state[draw.choice(["\x1b[31m", "\u202e", "", "rnn.weight_hh_l7", "x" * 3000, "rnn.bias_hh"])] = value
    if draw.random() < 0.3:
        del state[name]
    else:
        state[name] = draw.choice(kinds)()
    return written({"a": state, "b": state} if draw.random() < 0.1 else state)


CHANGES = {
    ".parquet": [damaged, table, table],
    ".safetensors": [damaged, header],
    ".npz": [inside, damaged],
    ".npy": [damaged],
    ".pt": [odd, odd, odd, inside, damaged],
    **{suffix: [text, text, damaged] for suffix in (".json", ".yaml", ".csv", ".tsv", ".md")},
}


def change(folder: Path, draw: random.Random) -> None:
    """Damages one file of a folder, or takes it away."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in KEPT)
    path = draw.choice(files)
    kind = draw.random()
    if kind < 0.05:
        path.unlink()
    elif kind < 0.1:
        path.write_bytes(draw.choice(files).read_bytes())
    elif kind < 0.12:
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(draw.choice(CHANGES[path.suffix])(path.read_bytes(), draw))


# --- commands ------------------------------------------------------------------------------------------


def _filled(command: str, made: Path) -> list[str]:
    places = {"ZOO": str(made / "zoo"), "RUN": str(made / "statistics-0")}
    return [places.get(word, word) for word in command.split()]


def mutants(kind: str, made: Path, at: Path, draw: random.Random) -> list[str]:
    """Makes a mutant of a kind at a place, and gives the command that reads it."""
    run, net = str(made / "statistics-0"), str(made / "net.pt")
    if kind == "checkpoint":
        path = at / "net.pt"
        path.write_bytes(draw.choice(CHANGES[".pt"])((made / "net.pt").read_bytes(), draw))
        return draw.choice(
            [["inspect", str(path)], ["inspect", str(at)], ["predict", run, str(at), "--json"]]
        )
    if kind == "config":
        name, command = draw.choice(list(PRINTED.items()))
        (at / "a.yaml").write_bytes(draw.choice(CHANGES[".yaml"])((made / name).read_bytes(), draw))
        return [*_filled(command, made), "--config", str(at / "a.yaml"), "--print-config"]
    if kind == "given":
        flag, name = draw.choice(GIVEN)
        (at / name).write_bytes(draw.choice(CHANGES[Path(name).suffix])((made / name).read_bytes(), draw))
        command = ["predict", run] if flag == "--calibrate" else ["zoo", "import", "--out", str(at / "out")]
        return [*command, str(made / "given"), flag, str(at / name)]
    name = {"zoo": "zoo", "run": draw.choice(["statistics-0", "interactive-0"]), "atlas": "atlas"}[kind]
    shutil.copytree(made / name, at / name)
    change(at / name, draw)
    own, out = str(at / name), str(at / "out")
    commands = {
        "zoo": [["zoo", "show", own], ["zoo", "verify", own], ["embed", run, own, "--out", out]],
        "run": [["predict", own, net], ["embed", own, net, "--out", out], ["predict", own, net, "--json"]],
        "atlas": [
            ["search", own, "run-00000-step-00040", "--json"],
            ["search", own, "run-00000-step-00040", "--where", "step > 0"],
            ["map", own, "--out", f"{out}.html"],
        ],
    }
    return draw.choice(commands[kind])


def child() -> None:
    """Runs the commands that come on stdin, one a line, and says how each ended."""
    from rnnatlas.cli import main

    answers, commands = os.fdopen(os.dup(1), "w"), sys.stdin
    torch.set_num_threads(1)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    for line in commands:
        out, err = io.StringIO(), io.StringIO()
        wrong, status = None, None
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                main(json.loads(line))
        except SystemExit as ended:
            status = ended.code
        except BaseException as error:
            wrong = f"traceback: {error!r:.300}"
        errors = [each for each in err.getvalue().splitlines() if each.startswith("error: ")]
        if wrong is None and (status not in (0, 1, 2) or len(errors) != (status != 0)):
            wrong = f"status {status} with {errors!r:.300}"
        if any(not (c.isprintable() or c in "\n\t") for c in out.getvalue() + err.getvalue()):
            wrong = wrong or "unprintable output"
        print(
            json.dumps([wrong or ("accepted" if status == 0 else "refused"), (errors or [""])[0]]),
            file=answers,
        )
        answers.flush()


class Child:
    """A process that runs commands; another one after a crash."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, __file__, "child"], stdin=-1, stdout=-1, stderr=subprocess.DEVNULL, text=True
        )

    def run(self, tokens: list[str]) -> tuple[str, str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(tokens), file=self._process.stdin, flush=True)
        ready, _, _ = select.select([self._process.stdout], [], [], SECONDS)
        line = self._process.stdout.readline() if ready else None
        if not line:
            self.stop()
            status = self._process.returncode
            self.__init__()
            return (f"crash {status}" if ready else "hang"), ""
        outcome, sentence = json.loads(line)
        return outcome, sentence

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


def outcomes(count: int, seed: int, kinds: Sequence[str], made: Path) -> Iterator[tuple[str, int, str, str]]:
    """Kind, number, outcome and sentence of each mutant."""
    runner = Child()
    for kind in kinds:
        for number in range(count):
            draw = random.Random(f"{seed} {kind} {number}")
            with tempfile.TemporaryDirectory() as folder:
                at = Path(folder) / "given"
                at.mkdir()
                tokens = mutants(kind, made, at, draw)
                outcome, sentence = runner.run(tokens)
                if {path.name for path in Path(folder).iterdir()} != {"given"}:
                    outcome = "wrote elsewhere"
                yield kind, number, outcome, sentence
    runner.stop()


def prepare(made: Path) -> None:
    """A zoo, runs, an atlas, a checkpoint and settings files."""
    make_experiment(made)
    (made / "net.pt").write_bytes(written(NET.state_dict()))
    (made / "given").mkdir()
    for number in range(6):
        state = {name: weight * (1 + number / 9) for name, weight in NET.state_dict().items()}
        (made / "given" / f"{number}.pt").write_bytes(written(state))
    tokens = [[1, 2, 0, 3]] * 5
    np.savez(made / "i.npz", inputs=tokens, mask=np.ones((5, 4), bool), targets=tokens)
    np.save(made / "i.npy", np.random.default_rng(0).normal(size=(5, 6, 4)))
    (made / "i.csv").write_text("\n".join("1,2,0,3" for _ in range(5)))
    pq.write_table(pa.table({"inputs": tokens}), made / "i.parquet")
    names = [f"{number}.pt" for number in range(6)]
    labels = {"file": names, "performance": [number / 9 for number in range(6)]}
    pyarrow.csv.write_csv(pa.table(labels), made / "l.csv")
    pq.write_table(pa.table(labels), made / "l.parquet")
    for name, command in PRINTED.items():
        tokens = [sys.executable, "-m", "rnnatlas", *_filled(command, made), "--print-config"]
        (made / name).write_bytes(subprocess.run(tokens, capture_output=True, check=True).stdout)


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=KINDS, help=", ".join(KINDS))
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    counts: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        made = chosen.folder or Path(folder) / "made"
        if not made.exists():
            prepare(made)
        for kind, number, outcome, said in outcomes(chosen.count, chosen.seed, chosen.kinds, made):
            counts[kind, outcome if outcome in GOOD else "failed"] += 1
            if outcome not in GOOD:
                print(f"{kind} {number} of seed {chosen.seed}: {outcome} {said}", flush=True)
    for (kind, outcome), number in sorted(counts.items()):
        print(kind, outcome, number, sep="\t")
    return int(any(outcome == "failed" for _, outcome in counts))


if __name__ == "__main__":
    sys.exit(child() if sys.argv[1:] == ["child"] else main())
