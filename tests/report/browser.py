"""A headless Chromium for tests, driven over --remote-debugging-pipe (DevTools protocol, NUL-terminated JSON)."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Optional

NAMES = ("chromium", "chromium-browser", "google-chrome", "chromium-headless-shell")
TIMEOUT_S = 90.0


def installed() -> Optional[str]:
    """Path of an installed Chromium, None without one."""
    named = os.environ.get("SEPOLICYD_CHROMIUM", "")
    return next((found for name in (named, *NAMES) if name and (found := shutil.which(name))), None)


class Browser:
    """One page of one browser; a context manager."""

    def __init__(self, program: str) -> None:
        self.program = program
        self.profile = tempfile.mkdtemp(prefix="sepolicyd-chromium-")
        self.number = 0
        self.rest = b""
        self.session = ""

    def __enter__(self) -> Browser:
        to_read, self.to = os.pipe()
        self.back, to_write = os.pipe()
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        flags += ["--disable-extensions", "--disable-background-networking", f"--user-data-dir={self.profile}"]
        # the browser reads commands from descriptor 3 and writes answers to 4
        script = f'exec 3<&{to_read} 4>&{to_write}; exec "$0" "$@"'
        self.process = subprocess.Popen(
            ["bash", "-c", script, self.program, *flags, "--remote-debugging-pipe", "about:blank"],
            pass_fds=(to_read, to_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_read)
        os.close(to_write)
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(one["targetId"] for one in targets if one["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)
        os.close(self.to)
        os.close(self.back)
        shutil.rmtree(self.profile, ignore_errors=True)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and return its result. :raises RuntimeError: the browser refuses it, or says nothing in time"""
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.to, data) :]
        while True:
            answer = self._message()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return dict(answer["result"])

    def _message(self) -> dict[str, Any]:
        until = time.monotonic() + TIMEOUT_S
        while b"\0" not in self.rest:
            if not select.select([self.back], [], [], max(0.0, until - time.monotonic()))[0]:
                raise RuntimeError("the browser does not answer")
            piece = os.read(self.back, 1 << 16)
            if not piece:
                raise RuntimeError("the browser has ended")
            self.rest += piece
        head, _, self.rest = self.rest.partition(b"\0")
        return dict(json.loads(head))

    def open(self, page: Path, width: int, height: int = 900, *, script: bool = False) -> None:
        """Load a page in a window of this width; page scripts are switched off unless ``script``."""
        self.call("Emulation.setScriptExecutionDisabled", value=not script)
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.call("Page.navigate", url=page.as_uri())
        until = time.monotonic() + TIMEOUT_S
        while self.run("document.readyState") != "complete" or self.run("location.href") != page.as_uri():
            if time.monotonic() > until:
                raise RuntimeError(f"{page} does not load")
            time.sleep(0.05)

    def run(self, expression: str) -> Any:
        """Value of an expression in the page; works with page scripts switched off."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in done:
            raise RuntimeError(str(done["exceptionDetails"]))
        return done["result"].get("value")

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        done = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(done["data"]))

    def pdf(self) -> bytes:
        done = self.call("Page.printToPDF", printBackground=True, preferCSSPageSize=True)
        return base64.b64decode(done["data"])
