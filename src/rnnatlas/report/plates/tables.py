"""The paper's table of task predictions, ours beside the published numbers, as CSV and for LaTeX."""

from pathlib import Path

from rnnatlas.files import write_text
from rnnatlas.report.claims import Records
from rnnatlas.report.experiment import Results
from rnnatlas.report.published import PUBLISHED
from rnnatlas.report.words import name

NAME = "table-2"
COLUMNS = {"supervised": "trained end to end", "embedding": "frozen"}


def write(results: Results, folder: Path) -> None:
    """Losses of task predictions on OOD; nothing for tasks that the paper does not have."""
    theirs, records = PUBLISHED.get(results.zoo.card["task"]["name"]), Records(results.table)
    if theirs is None:
        return
    published = {"supervised": theirs.supervised, "embedding": theirs.pretrained}
    rows = []
    for encoder in results.encoders:
        cells = []
        for of in COLUMNS:
            interval = records.figure(theirs.score, "ood", (encoder, of))
            cells.append("" if interval is None else str(interval))
            cells.append("" if encoder not in published[of] else f"{published[of][encoder]:.3f}")
        rows.append([name(encoder), *cells])
    head = ["encoder", *(text for title in COLUMNS.values() for text in (title, f"{title}, published"))]
    lines = [",".join(f'"{cell}"' for cell in row) for row in (head, *rows)]
    write_text(folder / f"{NAME}.csv", "\n".join(lines) + "\n")
    body = [" & ".join(cell.replace("−", "$-$").replace("–", "--") or "--" for cell in row) for row in rows]
    latex = [
        f"% {theirs.score} on OOD, 95 % intervals; kind figure of results.parquet",
        r"\begin{tabular}{lrrrr}",
        " & ".join(head) + r" \\ \hline",
        *(f"{line} \\\\" for line in body),
        r"\end{tabular}",
    ]
    write_text(folder / f"{NAME}.tex", "\n".join(latex) + "\n")
