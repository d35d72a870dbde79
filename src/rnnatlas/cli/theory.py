"""`rnnatlas theory`: how many queries tell which function it is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from rnnatlas.cli.common import Common, Seed, at_least, print_json, print_table


def _letters(_: type, value: int) -> None:
    """Makes sure that there are counts for so many letters."""
    if not 2 <= value <= 6:
        raise ValueError(f"should lie between 2 and 6, found {value}")


def theory(
    *,
    out: Path | None = None,
    zoo: Annotated[Path | None, Parameter(negative=())] = None,
    where: str | None = None,
    rnns: Annotated[int, Parameter(validator=at_least(1))] = 200,
    letters: Annotated[int, Parameter(validator=_letters)] = 6,
    seed: Seed = 0,
    json: bool = False,
    common: Common | None = None,
) -> None:
    """How many queries tell which function a black box computes, interactive and fixed in advance.

    Counts are exact, or lie between bounds: for random families, for the family that needs most, for the
    languages aⁿbⁿ⁺ᵐcⁿ⁺ᵐ…, and with answers that may be wrong. With a zoo, the same queries are put to
    trained RNNs. About a minute; docs/theory.md has the proofs.

    ```
    rnnatlas theory --out theory
    rnnatlas theory --zoo zoo --json
    ```

    Args:
        out: Folder for theory.json and the figures as PNG and PDF.
        zoo: Zoo of formal-languages whose RNNs are asked as well.
        where: Which of its snapshots, an SQL condition such as "step = 200"; by default those of the last
            step.
        rnns: RNNs at most, drawn at random.
        letters: Most letters of the languages' alphabets, up to 6.
        seed: Decides everything random.
        json: Print one JSON document instead of tables.
    """
    from rnnatlas.files import check_free, write_json
    from rnnatlas.theory import figures
    from rnnatlas.theory.study import examine, parts, study

    common = common or Common()
    if out is not None:
        check_free(out)
    chosen = _chosen(zoo, where, rnns, seed) if zoo else None
    with _bar(len(parts(seed, letters)) + bool(zoo), common.progress) as show:
        examined = None
        if chosen:
            show("asking RNNs")
            examined = examine(*chosen, seed)
        document = study(seed, letters, show)
    if examined:
        document["zoo"] = {"path": str(zoo), "where": where or "the last step", **examined}
    if out is not None:
        write_json(out / "theory.json", document)
        figures.draw(document, out)
    if json:
        print_json(document)
    else:
        _print(document)


def _chosen(path: Path, where: str | None, most: int, seed: int) -> tuple[Any, list[Any], Any]:
    """RNNs of a zoo, the language of each, and their task."""
    from rnnatlas.errors import UnknownName
    from rnnatlas.seeds import stream
    from rnnatlas.zoo.store import Zoo

    zoo = Zoo.open(path)
    last = f"step = {max(zoo.table['step'].to_pylist(), default=0)}"
    table = zoo.snapshots(where=where or last)
    if not table.num_rows:
        raise UnknownName(f"expected snapshots where {where or last}, found none; give another condition")
    rows = stream(seed, "theory", "rnns").permutation(table.num_rows)[:most]
    table = table.take(sorted(rows.tolist()))
    return zoo.population(table), table["task"].to_pylist(), zoo.task


def _print(document: dict[str, Any]) -> None:
    from rnnatlas.theory.figures import bars, between

    def both(row: dict[str, Any]) -> list[str]:
        return [between(row[f"{kind}_lower"], row[f"{kind}_upper"]) for kind in ("interactive", "fixed")]

    print("Random families: queries needed in the worst case, exact\n")
    columns = ["functions", "families", "interactive, mean", "most", "fixed, mean", "most", "n − 1", "holds"]
    print_table(columns, [list(row.values()) for row in document["random"]])
    print("\nThe family that needs most\n")
    columns = ["functions", "interactive", "fixed", "n − 1"]
    print_table(columns, [[row["functions"], *both(row), row["theorem"]] for row in document["tight"]])
    print("\nLanguages aⁿbⁿ⁺ᵐcⁿ⁺ᵐ…, m from −3 to 2, by what may come next after a prefix\n")
    columns = ["letters", "languages", "query", "interactive", "fixed", "by"]
    rows = document["languages"]
    print_table(columns, [[r["tokens"], r["languages"], r["query"], *both(r), r["by"]] for r in rows])
    print("\n" + bars([row for row in rows if row["query"] == "prefixes, long"]))
    print("\nUp to so many wrong answers in all (long prefixes)\n")
    columns = ["letters", "wrong answers", "interactive", "fixed"]
    print_table(columns, [[row["tokens"], row["wrong"], *both(row)] for row in document["lies"]])
    print("\nEach answer wrong with some probability (four letters): answers that suffice\n")
    columns = ["wrong", "risk", "times each", "interactive", "apart", "fixed", "any strategy, at least"]
    print_table(columns, [list(row.values()) for row in document["noise"]])
    if "zoo" in document:
        _print_zoo(document["zoo"])


def _print_zoo(zoo: dict[str, Any]) -> None:
    print(
        f"\n{zoo['rnns']} RNNs of {zoo['path']}, {zoo['where']}: languages named rightly (95 % intervals)\n"
    )
    columns = ["asked", "queries", "accuracy", "low", "high", "of the languages themselves"]
    print_table(columns, [list(row.values()) for row in zoo["rows"]])
    print(
        f"\n{zoo['wrong answers']:.1%} of answers are wrong. Were they so independently, {zoo['depth']} in a "
        f"row would be right with probability {zoo['expected at that depth']:.3f}."
    )
    if (again := zoo.get("wrong where the same was wrong at another n")) is not None:
        print(f"Where one was wrong, the same at another n was wrong in {again:.0%} of cases.")


@contextmanager
def _bar(parts: int, shown: bool) -> Iterator[Callable[[str], None]]:
    """A bar that says what is being done."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task("", total=parts)
        started = -1

        def show(doing: str) -> None:
            nonlocal started
            started += 1
            bar.update(task, completed=started, description=doing)

        yield show
        bar.update(task, completed=parts)
