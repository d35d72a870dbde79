"""The figures of the paper, drawn from an experiment's results for print."""

import pyarrow as pa

from rnnatlas.report.checks import Checks
from rnnatlas.report.experiment import Results
from rnnatlas.report.plates import ablations, comparisons, maps, properties, tables, training
from rnnatlas.report.plates.base import FOLDER, Plate, save, style


def write(results: Results, checks: Checks, raw_map: pa.Table | None) -> list[Plate]:
    """Writes every figure to the experiment's folder as PDF and PNG, what they show, and the table."""
    experiment = results.experiment
    made_by = " ".join(filter(None, ("rnnatlas", experiment.version, experiment.commit)))
    about = f"{made_by}: {experiment.command or 'experiment.json'}"
    with style():
        drawn = all_plates(results, checks, raw_map)
        save(results.folder / FOLDER, drawn, about)
    tables.write(results, results.folder / FOLDER)
    return drawn


def all_plates(results: Results, checks: Checks, raw_map: pa.Table | None) -> list[Plate]:
    """Every figure that the experiment has the numbers for; to be called in `base.style`."""
    drawn = [
        comparisons.losses(results),
        comparisons.task(results),
        comparisons.published(results),
        properties.emulated(results, checks),
        properties.properties(results, checks),
        maps.maps(results, raw_map),
        maps.neighbours(results, checks),
        training.curves(results),
        training.seeds(results, checks),
        ablations.losses(results, checks),
        comparisons.costs(results),
    ]
    return [plate for plate in drawn if plate is not None]
