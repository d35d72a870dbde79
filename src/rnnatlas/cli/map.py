"""`rnnatlas map`: an atlas as one HTML file."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from rnnatlas.cli.common import Common


def map_(
    atlas: Path,
    /,
    *,
    out: Path,
    color: Annotated[str | None, Parameter(name=("--color", "--colour"))] = None,
    layout: str | None = None,
    common: Common | None = None,
) -> None:
    """Draw an atlas as one HTML file that needs no network.

    ```
    rnnatlas map atlas --out map.html --color performance
    ```

    Args:
        atlas: The atlas's folder.
        out: The file.
        color: Column that colours the points at first; readers can choose others.
        layout: Places by another layout than the atlas's own: pca or tsne; umap or pacmap with rnnatlas[map]
            installed.
    """
    from rnnatlas.atlas.index import Atlas

    common = common or Common()
    Atlas.open(atlas).map(out, color, layout)
    common.say(f"open {out.resolve()} in a browser")
