"""`rnnatlas explore`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from rnnatlas.cli.common import Common, Seed


def explore(
    paths: Annotated[list[Path], Parameter(negative=())],
    /,
    *,
    out: Path,
    inputs: Annotated[Path | None, Parameter(negative=())] = None,
    labels: Annotated[Path | None, Parameter(negative=())] = None,
    group: str | None = None,
    train: Annotated[bool, Parameter(negative="--no-train")] = True,
    seed: Seed = 0,
    cell: str | None = None,
    head: Annotated[list[str] | None, Parameter(negative=())] = None,
    separate: Annotated[bool, Parameter(negative=())] = False,
    common: Common | None = None,
) -> None:
    """Compare anyone's RNNs: groups, odd ones, which labels explain how they differ, a map and a report.

    Two parts. Within seconds, and without training, RNNs of any cells and sizes are compared by what they
    give out on the same inputs, and the report is there. Then an encoder is trained on them, and the report
    says what can be predicted from its embeddings.

    ```
    rnnatlas explore checkpoints/ --out explored --no-train
    ```

    Args:
        paths: Checkpoint files, folders (with all below them), globs.
        out: Folder for all that is made.
        inputs: Trials that RNNs read, as `zoo import` takes them; without any, defaults that the report
            names.
        labels: What is known of the RNNs, as `zoo import` takes it.
        group: Label of what belongs together and is not parted in cross-validation, such as a subject.
        train: Whether to train an encoder, which takes minutes.
        seed: Decides everything random.
        cell: Which cell RNNs with one gate have, where a file does not say: elman-tanh (assumed),
            elman-relu, leaky-tanh or leaky-relu, with its α where the file has none (leaky-relu:0.2). lstm or
            gru: read no other cells.
        head: Prefix of the output layer's names, where several would fit; "" for none;
            PREFIX=NAME for the RNN at one prefix, once for each.
        separate: Compare RNNs of one file, and checkpoints of one series, as networks of their own; else a
            file that holds several RNNs is one network.
    """
    from rnnatlas.exploration.explore import explore as run

    common = common or Common()
    found = run(
        paths,
        out,
        inputs=inputs,
        labels=labels,
        group=group,
        train=train,
        seed=seed,
        cell=cell,
        head=head,
        separate=separate,
        progress=common.progress,
        say=common.say,
    )
    print(found.report.resolve())
