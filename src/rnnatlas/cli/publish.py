"""`rnnatlas publish`: zoos and runs to the Hugging Face Hub."""

import tempfile
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from rnnatlas.cli.common import Common, print_table, put


def publish(
    path: str,
    /,
    *,
    to: str,
    license: str | None = None,
    private: Annotated[bool, Parameter(negative=())] = False,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    common: Common | None = None,
) -> None:
    """Upload a zoo or a trained run to the Hugging Face Hub, with a card made from what it holds.

    Others then open a zoo with `Zoo.open("hf://USER/NAME")` and load a run with `load("hf://USER/NAME")`; the
    command line takes such addresses, too. Needs rnnatlas[hub], and `hf auth login` once.

    ```
    rnnatlas publish run --to user/encoder --dry-run
    rnnatlas publish zoo --to user/zoo --license cc-by-4.0 --dry-run
    ```

    Args:
        path: The zoo's folder or address, or the run's folder.
        to: The repository: user/name.
        license: What the card gives as the licence.
        private: Make a new repository that others do not see.
        dry_run: Show the files and the card, and upload nothing; needs no network.
    """
    from rnnatlas import hub
    from rnnatlas.zoo import export
    from rnnatlas.zoo.store import Zoo

    common = common or Common()
    name, _ = hub.repository(to)
    if (Path(path) / "settings.yaml").is_file():
        from rnnatlas.evaluation import published

        with hub.reaching(to), tempfile.TemporaryDirectory() as folder:
            uploaded = published.prepared(path, Path(folder), name, license)
            if dry_run:
                _show("model", to, {name: Path(str(own)).stat().st_size for name, own in uploaded.items()})
                put((Path(folder) / "README.md").read_text(encoding="utf-8"))
                return
            place = hub.upload(to, "model", uploaded, private)
    else:
        zoo = Zoo.open(path)
        if dry_run:
            _show("dataset", to, {name: len(read()) for name, read in export.contents(zoo, license)})
            put(export.card(zoo, license))
            return
        place = export.publish(zoo, to, license, private)
    common.say(f"uploaded to {place}; open it as hf://{name}")


def _show(kind: str, to: str, sizes: dict[str, int]) -> None:
    print(f"would upload to the {kind} {to}:\n")
    print_table(["file", "bytes"], [[name, size] for name, size in sizes.items()])
    print()
