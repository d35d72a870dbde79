"""`rnnatlas map`: an atlas as one HTML file."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from rnnatlas.cli.common import Common


def map_(
    atlas: Path,
    others: Annotated[list[Path] | None, Parameter(negative=())] = None,
    /,
    *,
    out: Path,
    color: Annotated[str | None, Parameter(name=("--color", "--colour"))] = None,
    layout: Annotated[list[str] | None, Parameter(negative=())] = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    common: Common | None = None,
) -> None:
    """Draw an atlas as one HTML file that needs no network.

    ```
    rnnatlas map atlas --out map.html --color performance
    ```

    Args:
        atlas: The atlas's folder.
        others: Atlases of the same RNNs by other encoders; readers can switch between encoders.
        out: The file.
        color: Column that colours the points at first; readers can choose others.
        layout: The layout that is shown first: pca or tsne; umap or pacmap with rnnatlas[map] installed.
            Given several times, readers can switch between them, the atlas's own and PCA.
        force: Replace the file where it is there already.
    """
    from rnnatlas.atlas.index import Atlas

    common = common or Common()
    Atlas.open(atlas).map(out, color, layout, [Atlas.open(other) for other in others or []], force)
    common.say(f"open {out.resolve()} in a browser")
