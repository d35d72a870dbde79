"""The command `rnnatlas`, also as `python -m rnnatlas`: Ctrl-C ends it with a sentence from the start."""

import os
import signal
from typing import Any


def _stop(*_: Any) -> None:
    """Ends the process while it is still being loaded, and nothing has been done."""
    os.write(2, b"error: interrupted; nothing was written\n")
    os._exit(130)


if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as it is in the background of a shell
    signal.signal(signal.SIGINT, _stop)
signal.signal(signal.SIGTERM, _stop)

from rnnatlas.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
