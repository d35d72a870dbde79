"""`rnnatlas encoders | tasks | formats`: what is registered."""

from rnnatlas.cli.common import Common, print_json, print_table
from rnnatlas.registry import Registry


def encoders(*, json: bool = False, common: Common | None = None) -> None:
    """The encoders, one line each.

    ```
    rnnatlas encoders --json
    ```

    Args:
        json: Print one JSON document instead of a table.
    """
    from rnnatlas.encoders import registry

    _list(registry, json)


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
    from rnnatlas.zoo.importers import registry

    _list(registry, json)


def _list(registry: Registry, json: bool) -> None:
    described = {name: registry.description(name) for name in registry}
    if json:
        print_json([{"name": name, "description": text} for name, text in described.items()])
    else:
        print_table([registry.kind, "description"], list(described.items()))
