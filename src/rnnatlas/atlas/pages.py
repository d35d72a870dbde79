"""HTML pages from templates, with everything that comes from outside escaped."""

from typing import Any


def render(package: str, template: str, **values: Any) -> str:
    """Fills a template of a package; texts are escaped, `tojson` makes data safe within a script."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)
