"""HTML pages from templates, with everything that comes from outside escaped."""

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np


def render(package: str, template: str, also: Sequence[str] = (), **values: Any) -> str:
    """Fills a template of a package; texts are escaped, `tojson` makes data safe within a script.

    Args:
        package: Where the template is.
        template: Its file.
        also: Packages with templates that it includes, besides this one, which has head.html.
        values: What it shows.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.PackageLoader(name) for name in (package, *also, "rnnatlas.atlas")]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


ARRAYS = {"f4": "Float32Array", "f8": "Float64Array", "i2": "Int16Array", "i4": "Int32Array",
          "u1": "Uint8Array", "u2": "Uint16Array", "u4": "Uint32Array"}  # fmt: skip
"""JavaScript's names of arrays of numbers."""


def packed(value: Any) -> dict[str, str]:
    """An array, or lists and strings, compressed for a page's script (`unpack` of data.js reads it)."""
    if isinstance(value, np.ndarray):
        kind, content = ARRAYS[value.dtype.str[1:]], value.astype(value.dtype.newbyteorder("<")).tobytes()
    else:
        kind, content = "JSON", json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    return {"packed": kind, "data": base64.b64encode(zlib.compress(content)).decode("ascii")}


def unpacked(value: dict[str, str]) -> Any:
    """What `packed` was given."""
    content = zlib.decompress(base64.b64decode(value["data"]))
    if value["packed"] == "JSON":
        return json.loads(content)
    (kind,) = [kind for kind, name in ARRAYS.items() if name == value["packed"]]
    return np.frombuffer(content, f"<{kind}")
