"""`rnnatlas encoders | tasks | formats`: what is registered."""

from rnnatlas.cli.common import Common, print_json, print_table
from rnnatlas.registry import Registry


def encoders(*, json: bool = False, common: Common | None = None) -> None:
    """The encoders: family, size, cost, and the symmetries of RNNs that leave embeddings as they are.

    Size and cost are those of the default settings for LSTMs of the paper's size, 6→32×2→6; floating-point
    operations are those of the matrix products in embedding one RNN.

    ```
    rnnatlas encoders --json
    ```

    Args:
        json: Print one JSON document instead of a table.
    """
    from rnnatlas.encoders import registry
    from rnnatlas.encoders.cost import cost

    records = []
    for name in registry:
        costs = cost(name)
        records.append(
            {
                "name": name,
                "description": registry.description(name),
                "parameters": costs.parameters,
                "flops": costs.flops,
                "queries": costs.queries,
                "symmetries": sorted(registry[name].symmetries),
            }
        )
    if json:
        print_json(records)
        return
    rows = [
        [
            record["name"],
            record["description"],
            record["parameters"],
            record["flops"] / 1e6,
            ", ".join(record["symmetries"]),
        ]
        for record in records
    ]
    print_table([registry.kind, "description", "parameters", "MFLOPs per RNN", "symmetries"], rows)


def tasks(*, json: bool = False, common: Common | None = None) -> None:
    """The tasks that zoos can be built for, one line each.

    ```
    rnnatlas tasks
    ```

    Args:
        json: Print one JSON document instead of a table.
    """
    from rnnatlas.tasks import registry

    _list(registry, json)


def formats(*, json: bool = False, common: Common | None = None) -> None:
    """The checkpoint formats that can be read, one line each.

    ```
    rnnatlas formats
    ```

    Args:
        json: Print one JSON document instead of a table.
    """
    from rnnatlas.importers import registry

    _list(registry, json)


def _list(registry: Registry, json: bool) -> None:
    described = {name: registry.description(name) for name in registry}
    if json:
        print_json([{"name": name, "description": text} for name, text in described.items()])
    else:
        print_table([registry.kind, "description"], list(described.items()))
