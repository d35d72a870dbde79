"""HTML pages from templates, with everything that comes from outside escaped."""

from collections.abc import Sequence
from typing import Any


def render(package: str, template: str, also: Sequence[str] = (), **values: Any) -> str:
    """Fills a template of a package; texts are escaped, `tojson` makes data safe within a script.

    Args:
        package: Where the template is.
        template: Its file.
        also: Packages with templates that it includes.
        values: What it shows.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(name) for name in (package, *also)]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)
