"""`rnnatlas embed`: RNNs of zoos and checkpoints into an atlas."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from rnnatlas.cli.common import Common, Seed


def embed(
    run: str,
    paths: Annotated[list[str] | None, Parameter(negative=())] = None,
    /,
    *,
    out: Path,
    encoder: str | None = None,
    per_architecture: Annotated[bool, Parameter(negative=())] = False,
    layout: str = "tsne",
    seed: Seed = 0,
    cell: str | None = None,
    head: Annotated[list[str] | None, Parameter(negative=())] = None,
    separate: Annotated[bool, Parameter(negative=())] = False,
    executor: str = "local",
    workers: int | None = None,
    set: Annotated[list[str] | None, Parameter(negative=())] = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    common: Common | None = None,
) -> None:
    """Embed RNNs of zoos and checkpoints into an atlas.

    ```
    rnnatlas embed run zoo checkpoints/ --out atlas
    rnnatlas embed checkpoints/ --encoder invariants --out atlas
    ```

    Without a run, RNNs of all cells and sizes are embedded by principal components of invariants of their
    weights, standardised over these RNNs.

    Args:
        run: The trained run's folder; with --encoder, the first path.
        paths: Zoos (also s3://…, with s3fs installed), checkpoint files, folders of them, globs. What the
            encoder does not take is left out and named, unless you gave it by its own name.
        out: The atlas's folder.
        encoder: invariants, to embed without a run.
        per_architecture: Standardise invariants over the RNNs of each architecture of which there are eight
            or more, so that the architecture itself does not count.
        layout: How places on the map are found: pca or tsne; umap or pacmap with rnnatlas[map] installed.
        seed: Of the layout.
        cell: Which cell RNNs with one gate have, where a file does not say: elman-tanh (assumed, unless
            all such RNNs of the run are elman-relu), elman-relu, leaky-tanh or leaky-relu, with its α where
            the file has none (leaky-relu:0.2). lstm or gru: read no other cells.
        head: Prefix of the output layer's names in checkpoint files, where several would fit; "" for none;
            PREFIX=NAME for the RNN at one prefix, once for each.
        separate: Make each RNN of a file an entry of its own; else a file that holds several, such as encoder
            and decoder, is one network and one entry.
        executor: Where zoos are embedded: local (this process, or several with --workers), ray or slurm.
            Parts that are done are kept when it is stopped; the same command goes on.
        workers: Jobs at a time, of 4096 snapshots each.
        set: Change a setting of the executor, such as executor.partition=long; may be repeated.
        force: Replace an atlas that is there, unless its folder holds something else too.
    """
    from rnnatlas.atlas.embed import embed as embed_paths
    from rnnatlas.atlas.index import CARD, ENTRIES, INDEX
    from rnnatlas.atlas.untrained import BASIS, check_encoder
    from rnnatlas.errors import SettingsError
    from rnnatlas.evaluation import reference
    from rnnatlas.evaluation.model import load
    from rnnatlas.files import making
    from rnnatlas.folders import RUN, kind
    from rnnatlas.zoo.imports import assumed

    common = common or Common()
    settings = common.layered({}, {}, set or [], ["executor"]).get("executor", {})
    if common.print_config:
        flags = {"out": out, "encoder": encoder, "per_architecture": per_architecture, "layout": layout}
        flags |= {"seed": seed, "cell": cell, "head": head, "separate": separate, "force": force}
        flags |= {"executor": executor, "workers": workers}
        common.show(flags, {"executor": settings} if settings else None)
        return
    if encoder is not None:
        check_encoder(encoder)
    elif per_architecture:
        raise SettingsError("--per-architecture is for --encoder invariants, found a run; leave it out")
    elif not paths:
        raise SettingsError(
            f"expected a run and paths to embed after it, found {run} alone; "
            + (
                "add paths"
                if "://" in run or kind(Path(run)) == RUN
                else "give a run before it, or --encoder invariants"
            )
        )
    model = load(run) if encoder is None else encoder
    paths = [*([] if encoder is None else [run]), *(paths or [])]
    with making(
        out, replaces=(CARD, ENTRIES, INDEX, BASIS) if force else ()
    ) as folder:  # before, since an hour of embedding should not end with "exists already"
        options = {"layout": layout, "seed": seed, "cell": cell, "head": head, "separate": separate}
        if executor == "local" and workers is None and not settings:
            atlas = embed_paths(model, paths, **options, per_architecture=per_architecture)
        else:
            from rnnatlas import executors
            from rnnatlas.atlas.parts import embed_in_parts

            runner = executors.make(executor, workers, 1, settings)
            atlas = embed_in_parts(runner, out, model, paths, common.progress, **options)
        atlas.save(folder)
    for reason in atlas.card["left_out"]:
        common.say(f"left out: {reason}")
    if atlas.card.get("basis"):
        common.say(atlas.card["basis"])
    if atlas.card["networks"]:
        common.say(atlas.card["networks"])
    if remark := assumed(atlas.table["notes"].to_pylist()):
        common.say(remark)
    if remark := reference.remark(atlas.table["in_distribution"].to_pylist()):
        common.say(f"{remark}; see the column in_distribution")
    common.say(f"{len(atlas)} RNNs in {out}; look at them with: rnnatlas map {out} --out map.html")
