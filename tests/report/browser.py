"""Headless Chromium by its own protocol: pages as people see them, without another package."""

import base64
import contextlib
import itertools
import json
import os
import subprocess
from pathlib import Path
from typing import Any


class Page:
    """One page.

    Args:
        process: The browser, which reads commands from a pipe and writes to another.
        read: What it writes.
        write: What it reads.
    """

    def __init__(self, process: Any, read: Any, write: Any):
        self.process, self._read, self._write = process, read, write
        self._numbers = itertools.count(1)
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """What the browser answers to a command."""
        number = next(self._numbers)
        command = {"id": number, "method": method, "params": params}
        if self._session:
            command["sessionId"] = self._session
        self._write.write(json.dumps(command).encode() + b"\0")
        self._write.flush()
        while True:
            answer = json.loads(self._message())
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def _message(self) -> bytes:
        message = bytearray()
        while (byte := self._read.read(1)) != b"\0":
            assert byte, "the browser ended"
            message += byte
        return bytes(message)

    def open(self, path: Path, width: int, dark: bool = False) -> None:
        """Shows a file in a window of some width, and waits until its charts are drawn."""
        self.resize(width, dark)
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.value("new Promise(done => { const look = () => document.body?.dataset.ready ? done() : "
                   "setTimeout(look, 20); look(); })")  # fmt: skip

    def resize(self, width: int, dark: bool = False) -> None:
        """Changes the window's width and the colour scheme that its owner prefers."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives, awaited where it is a promise."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def pdf(self) -> bytes:
        """The page as it is printed."""
        printed = self.call("Page.printToPDF", preferCSSPageSize=False, paperWidth=8.27, paperHeight=11.69)
        return base64.b64decode(printed["data"])

    def screenshot(self) -> bytes:
        """The whole page as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(shot["data"])


@contextlib.contextmanager
def browsing(chromium: str, profile: Path):
    """A `Page` of a browser that ends with the context."""
    command_read, command_write = os.pipe()
    answer_read, answer_write = os.pipe()

    def ends() -> None:  # Chromium reads from 3 and writes to 4
        os.dup2(os.dup(command_read), 3)
        os.dup2(os.dup(answer_write), 4)

    flags = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
    ]
    process = subprocess.Popen(
        [chromium, *flags, "--remote-debugging-pipe", f"--user-data-dir={profile}"],
        preexec_fn=ends,
        close_fds=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(command_read)
    os.close(answer_write)
    with open(answer_read, "rb") as read, open(command_write, "wb") as write:  # noqa: PTH123
        try:
            yield Page(process, read, write)
        finally:
            process.terminate()
            process.wait(20)
