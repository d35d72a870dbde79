"""Writes the figures of docs/results/bench-*.json into docs/performance.md and draws its picture.

How the files are made stands in README.md.
"""

import json
import re
from pathlib import Path
from typing import Any

from rnnatlas.benchmarks import registry
from rnnatlas.benchmarks.base import digits, shown
from rnnatlas.benchmarks.report import markdown
from rnnatlas.benchmarks.running import OTHERS, ratio
from rnnatlas.benchmarks.scaling import CURVES
from rnnatlas.benchmarks.zoo_training import ALONE, LITERAL, WAYS, ZOO, find, speed_up

DOCS = Path(__file__).parent.parent / "docs"
PAGE, PICTURE = DOCS / "performance.md", DOCS / "images/scaling.png"
GPU = DOCS / "results/bench-on-a-gpu.json"
PLAIN = DOCS / "results/bench-plain-encoders.json"
PRECISION = DOCS / "results/bench-precision.json"
GPU_PARTS = {
    "passes": ("rnns", "forward and backward, 32 × 41 positions an RNN"),
    "zoo-training": ("rnns", "training step of a zoo"),
    "encoders": ("what", "training step, paper's sizes"),
}
"""Each table of what a GPU gains: what a row is about, and its title."""
CORES, THREADS = WAYS
QUIET = 0.5
"""Load up to which rates of several threads mean something."""

TITLES = {"rnns": "RNNs", "hidden": "hidden units a layer", "time": "steps", "layers": "layers"}


def figures() -> dict[str, dict[str, Any]]:
    """The newest document of each benchmark."""
    files = {name: DOCS / f"results/bench-{name}.json" for name in registry}
    return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items()}


def blocks(documents: dict[str, dict[str, Any]]) -> dict[str, str]:
    """What stands between the page's marks."""
    found = {name: document["benchmarks"][name] for name, document in documents.items()}
    tables = {
        name: f"{origin(documents[name], name)}\n\n{each['note']}\n\n"
        + markdown(registry[name].table(each["rows"]))
        for name, each in found.items()
    }
    runs, zoo = found["run"]["rows"], found["zoo-training"]["rows"]
    text = {
        "summary": summary(found["zoo-training"], runs),
        "roofline": roofline(runs, zoo),
        "plain": beside_plain(json.loads(PLAIN.read_text(encoding="utf-8"))),
        "precision": by_precision(json.loads(PRECISION.read_text(encoding="utf-8"))),
        "gpu": on_a_gpu(json.loads(GPU.read_text(encoding="utf-8"))),
    }
    return text | tables


def on_a_gpu(document: dict[str, Any]) -> str:
    """Tables of what a GPU gains: a row for each population or encoder, a column for each way."""
    parts = [
        f"`{document['command']}`, {document['date']}, commit {document['commit']}, one {document['gpu']}, "
        f"{document['cores']} cores, torch {document['torch']}. Milliseconds of wall-clock time, median "
        "(quartiles)."
    ]
    for part, (subject, title) in GPU_PARTS.items():
        table: dict[str, dict[str, str]] = {}
        for row in document[part]:
            cells = table.setdefault(row[subject], {title: row[subject]})
            cells[f"{row['how']}, ms"] = shown(row["seconds"], 1e3)
            if "steps_a_second" in row:
                cells[f"{row['how']}, RNN-steps/s"] = f"{row['steps_a_second']:,.0f}"
        columns = list(dict.fromkeys(column for cells in table.values() for column in cells))
        rows = [{column: cells.get(column, "") for column in columns} for cells in table.values()]
        parts.append(markdown(rows))
    return "\n\n".join(parts)


def origin(document: dict[str, Any], name: str) -> str:
    """Where figures come from."""
    return (
        f"`{document['command']}`, {document['date']}, commit {document['commit']}, "
        f"{document['cores']} cores of {document['processor']}, backend {document['backend']}, torch "
        f"{document['torch']}; load average before: {document['benchmarks'][name]['load_before']}."
    )


def summary(training: dict[str, Any], runs: list[dict[str, Any]]) -> str:
    """The claims in one paragraph."""
    zoo, load = training["rows"], training["load_before"]
    busy = load is None or load > QUIET

    def factors(contender: str) -> str:
        found = {way: digits(speed_up(zoo, find(zoo, contender, CORES), way)) for way in WAYS}
        text = f"{found[CORES]} times as many"
        return text if busy else f"{text} ({found[THREADS]} times as many)"

    slowest = {other: min(ratio(row, other) for row in runs) for other in OTHERS}
    least = ", ".join(f"{digits(value)} times over {other}" for other, value in slowest.items())
    threads = (
        f" Other programs ran meanwhile (load average {load}), which makes the threads of one process wait "
        "for each other, so the rows of one process with several threads below cannot be interpreted."
    )
    return (
        "Training steps a second, relative to `nn.LSTM` in one process a core"
        f"{'' if busy else ' (in one process with several threads)'}: zoo training makes {factors(ZOO)}; "
        f"with all strings of a batch, as `nn.LSTM` runs them, it makes {factors(LITERAL)}."
        f"{threads if busy else ''} The smallest speed-up of `run` over each other way, of all cases below: "
        f"{least}."
    )


def beside_plain(document: dict[str, Any]) -> str:
    """Training steps of each encoder, the plain way and those of this package."""
    parts = [
        f"`{document['command']}`, {document['date']}, commit {document['commit']}, {document['cores']} "
        f"cores of {document['processor']}, backend {document['backend']}, torch {document['torch']}; load "
        f"average before: {document['load_before']}. Preset {document['preset']}; embeddings and losses of "
        f"both ways differ by {max(row['gap'] for row in document['rows']):.0e} at most."
    ]
    for threads in dict.fromkeys(row["threads"] for row in document["rows"]):
        table = []
        for row in document["rows"]:
            if row["threads"] == threads:
                cells = {"one thread" if threads == 1 else f"{threads} threads": row["what"]}
                for way, found in row["processor"].items():
                    cells[f"{way}, ms"] = shown(found["seconds"], 1e3)
                ways = list(row["processor"])[1:]
                cells |= {f"{way}, ×": shown(row["processor"][way]["ratio"]) for way in ways}
                cells |= {f"{way}, × by the clock": shown(row["wall"][way]["ratio"]) for way in ways}
                table.append(cells)
        parts.append(markdown(table))
    return "\n\n".join(parts)


def by_precision(document: dict[str, Any]) -> str:
    """Best losses with products of either kind, of each seed."""
    table = [
        {
            "seed": str(row["seed"]),
            "emulation by": document["encoder"] if what == "encoder" else "the unconditional emulator",
            **{kind: f"{min(row[kind][what].values()):.4f}" for kind in ("float32", "bfloat16")},
        }
        for what in ("encoder", "zero")
        for row in document["rows"]
    ]
    source = document.get("remark") or f"commit {document['commit']}"
    return (
        f"`{document['command']}`, {document['date']}, torch {document['torch']}; {source}. Best loss on "
        f"validation.\n\n{markdown(table)}"
    )


def roofline(runs: list[dict[str, Any]], zoo: list[dict[str, Any]]) -> str:
    shape = {"cell": "lstm", "hidden": 32, "layers": 2, "rnns": 8, "pass": "forward, backward"}
    row = next(row for row in runs if all(row[key] == value for key, value in shape.items()))
    own, other = (1000 * row["seconds"][name]["median"] / row["rnns"] for name in ("run", "torch.nn"))
    operations, ceiling = row["operations"] / row["rnns"], own * row["share_of_peak"]
    step = 1000 / find(zoo, LITERAL, CORES)["per_core_second"]["median"]
    alone = 1000 / find(zoo, ALONE, CORES)["per_core_second"]["median"]
    return (
        "Forward and backward pass of one LSTM of two layers of 32 units on 32 × 41 positions take "
        f"{digits(operations / 1e6)} million floating-point operations in matrix products. A core of this "
        f"machine reached {digits(operations / ceiling / 1e6)} GFLOP/s in a large product; at that rate they "
        f"take **{digits(ceiling)} ms**. `run` takes **{digits(own)} ms**, {row['share_of_peak']:.0%} of "
        f"that rate. `torch.nn` takes {digits(other)} ms, {digits(other / ceiling)} times as long as at the "
        "rate of a large product. The whole training step, with cross-entropy and AdamW, took "
        f"{digits(step)} ms of a core's time, that of `nn.LSTM` {digits(alone)} ms. Zoo training is faster "
        "still because it does less work: a language has at most 10 training strings, so a batch of 32 holds "
        "each of them several times, and running each once, weighted, gives the same gradients."
    )


def fill(page: str, given: dict[str, str]) -> str:
    """The page with everything between its marks replaced."""
    for name, text in given.items():
        mark = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        page, count = mark.subn(lambda match, text=text: f"{match[1]}{text}\n{match[2]}", page)
        assert count == 1, f"the page has no place for {name}"
    return page


def draw(rows: list[dict[str, Any]]) -> None:
    """One panel a curve: milliseconds an RNN, with what the rate of a large product would allow."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(CURVES), figsize=(12, 3.2), layout="constrained", sharey=True)
    for panel, size in zip(panels, CURVES, strict=True):
        own = [row for row in rows if row["size"] == size]
        values = [row["value"] for row in own]
        for name, label, colour in (("torch.nn", "torch.nn", "#d95f02"), ("run", "rnnatlas", "#1b9e77")):
            spreads = [row["seconds"][name] for row in own]
            low, middle, high = (
                [1000 * each[key] / row["rnns"] for each, row in zip(spreads, own, strict=True)]
                for key in ("low", "median", "high")
            )
            panel.plot(values, middle, "o-", label=label, color=colour, markersize=4)
            panel.fill_between(values, low, high, color=colour, alpha=0.25, linewidth=0)
        limits = [1000 * row["seconds"]["run"]["median"] * row["share_of_peak"] / row["rnns"] for row in own]
        panel.plot(values, limits, "--", label="rate of a large product", color="0.4")
        panel.set(xscale="log", yscale="log", xlabel=TITLES[size])
        panel.set_xticks(values, [str(value) for value in values])
        panel.minorticks_off()
    panels[0].set_ylabel("ms an RNN, forward and backward")
    panels[0].legend(frameon=False)
    figure.savefig(PICTURE, dpi=110)


def main() -> None:
    documents = figures()
    PAGE.write_text(fill(PAGE.read_text(encoding="utf-8"), blocks(documents)), encoding="utf-8")
    draw(documents["scaling"]["benchmarks"]["scaling"]["rows"])


if __name__ == "__main__":
    main()
