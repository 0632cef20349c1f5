"""A class of users at work, driven from outside through the hub's address.

HTTP and websockets as a browser speaks them: login form with its xsrf field, OAuth between hub and server by cookies,
the contents API, a terminal, a kernel. Nothing but the standard library.
"""

from __future__ import annotations

import base64
import json
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.cookiejar import CookieJar
from typing import Any, Optional

from tests.vm.image import password
from tests.vm.websocket import WebSocket, WebSocketError

HOST = "127.0.0.1"
WAIT_S = 420.0  # JupyterLab takes 30-60 s to start under software emulation, several times that on a busy host

PLOT = """%matplotlib inline
import matplotlib.pyplot as plot, numpy
plot.plot(numpy.sin(numpy.linspace(0, 6, 100)))
plot.show()"""


class ClassError(Exception):
    """Something that a class does every day did not work."""


@dataclass
class Report:
    """What one user did: step -> seconds, and the first thing that failed."""

    user: str
    seconds: dict[str, float] = field(default_factory=dict)
    failure: str = ""

    @property
    def ok(self) -> bool:
        return not self.failure


class User:
    """One browser."""

    def __init__(self, name: str, port: int, patience: float = WAIT_S) -> None:
        self.name = name
        self.port = port
        self.patience = patience
        self.jar = CookieJar()
        self.tls = ssl.create_default_context()
        self.tls.check_hostname = False  # the certificate is self-signed, as in the published procedure
        self.tls.verify_mode = ssl.CERT_NONE
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=self.tls),
            urllib.request.HTTPCookieProcessor(self.jar),
        )

    # -- HTTP ---------------------------------------------------------------------------------------------------------

    def url(self, path: str) -> str:
        return f"https://{HOST}:{self.port}{path}"

    def xsrf(self, prefix: str) -> str:
        """The xsrf cookie that a browser would send to this path: the one with the longest path that fits."""
        fitting = [cookie for cookie in self.jar if cookie.name == "_xsrf" and prefix.startswith(cookie.path)]
        return str(max(fitting, key=lambda cookie: len(cookie.path)).value) if fitting else ""

    def ask(
        self, method: str, path: str, body: Optional[Any] = None, form: Optional[dict[str, str]] = None
    ) -> tuple[int, bytes]:
        headers = {"X-XSRFToken": self.xsrf(path), "Accept": "application/json, text/html"}
        data = None
        if form is not None:
            data = urllib.parse.urlencode(form).encode()
        elif body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        request = urllib.request.Request(self.url(path), data=data, method=method, headers=headers)  # noqa: S310
        try:
            with self.opener.open(request, timeout=self.patience) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError as error:
            raise ClassError(f"{self.name}: {method} {path}: {error}") from error

    def expect(self, method: str, path: str, body: Optional[Any] = None, codes: tuple[int, ...] = (200, 201, 204)) -> Any:
        code, data = self.ask(method, path, body)
        if code not in codes:
            raise ClassError(f"{self.name}: {method} {urllib.parse.unquote(path)} answered {code}: {gist(data)}")
        return json.loads(data) if data[:1] in (b"{", b"[") else data

    @property
    def base(self) -> str:
        return f"/user/{self.name}"

    def api(self, path: str) -> str:
        return f"{self.base}/api/{urllib.parse.quote(path)}"

    # -- what a student does ------------------------------------------------------------------------------------------

    def log_in(self) -> None:
        self.ask("GET", "/hub/login")
        form = {"username": self.name, "password": password(self.name), "_xsrf": self.xsrf("/hub/")}
        code, data = self.ask("POST", "/hub/login?next=%2Fhub%2Fhome", form=form)
        if code != 200 or b"logout" not in data.lower():
            raise ClassError(f"{self.name}: logging in answered {code}: {gist(data)}")

    def start_server(self) -> None:
        self.expect("POST", f"/hub/api/users/{self.name}/server", {}, codes=(201, 202, 400))
        until = time.monotonic() + self.patience
        while True:
            model = self.expect("GET", f"/hub/api/users/{self.name}")
            server = model.get("servers", {}).get("", {})
            if server.get("ready"):
                break
            if time.monotonic() > until:
                raise ClassError(f"{self.name}: the server was not ready after {self.patience:.0f} s")
            if not server and not model.get("pending"):
                raise ClassError(f"{self.name}: the server did not start")
            time.sleep(1.0)
        code, data = self.ask("GET", f"{self.base}/lab")  # OAuth with the hub, by redirects and cookies
        if code != 200 or b"jupyter-config-data" not in data:
            raise ClassError(f"{self.name}: JupyterLab answered {code}: {gist(data)}")

    def files(self) -> None:
        """Notebooks and files with blanks and accents in their names: make, read, change, rename, copy, remove."""
        folder = "été exercises"
        self.expect("PUT", self.api(f"contents/{folder}"), {"type": "directory"})
        names = ("my notes.txt", "ñandú 東京.txt", "quote's & more.txt")
        for name in names:
            path = self.api(f"contents/{folder}/{name}")
            for text in ("first\n", "second, over the first\n"):
                self.expect("PUT", path, {"type": "file", "format": "text", "content": text})
            if self.expect("GET", path)["content"] != "second, over the first\n":
                raise ClassError(f"{self.name}: {name} does not hold what was written")
        notebook = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        path = self.api(f"contents/{folder}/Übung 1.ipynb")
        self.expect("PUT", path, {"type": "notebook", "format": "json", "content": notebook})
        self.expect("POST", path + "/checkpoints")
        self.expect("PATCH", path, {"path": f"{folder}/Übung eins.ipynb"})
        self.expect("POST", self.api(f"contents/{folder}"), {"copy_from": f"{folder}/Übung eins.ipynb"})
        for entry in self.expect("GET", self.api(f"contents/{folder}"))["content"]:
            self.expect("DELETE", self.api(f"contents/{entry['path']}"))
        self.expect("DELETE", self.api(f"contents/{folder}"))

    def socket(self, path: str) -> WebSocket:
        request = urllib.request.Request(self.url(path))  # noqa: S310
        self.jar.add_cookie_header(request)
        mark = "&" if "?" in path else "?"
        path = f"{path}{mark}_xsrf={urllib.parse.quote(self.xsrf(path))}"
        return WebSocket(HOST, self.port, path, {"Cookie": request.get_header("Cookie") or ""}, self.tls, self.patience)

    def terminal(self, command: str = "echo $((6*7))_is_it; pwd; ls -la; id -un", mark: str = "42_is_it") -> str:
        """Open a terminal, type a command, wait for `mark`; what the terminal showed."""
        name = self.expect("POST", self.api("terminals"), {})["name"]
        link = self.socket(f"{self.base}/terminals/websocket/{name}")
        shown = ""
        try:
            link.send(json.dumps(["stdin", command + "\r"]))
            while mark not in shown:
                kind, *rest = json.loads(link.receive())
                if kind == "stdout":
                    shown += rest[0]
        finally:
            link.close()
        self.expect("DELETE", self.api(f"terminals/{name}"))
        return shown

    def kernel(self) -> Kernel:
        return Kernel(self)

    def compute(self) -> None:
        kernel = self.kernel()
        try:
            told = kernel.execute("import os, subprocess\nprint(sum(i * i for i in range(1000)))")
            if "332833500" not in told.text:
                raise ClassError(f"{self.name}: the kernel computed {told.text[:200]!r}")
            kernel.execute("print(open(os.path.expanduser('~/result é.txt'), 'w').write('done'))")
            told = kernel.execute("print(subprocess.run(['ls', '-l', '.'], capture_output=True).returncode)")
            if told.text.strip() != "0":
                raise ClassError(f"{self.name}: a command in a cell ended with {told.text[:200]!r}")
            told = kernel.execute(PLOT)
            if not told.image.startswith(b"\x89PNG"):
                raise ClassError(f"{self.name}: the plot gave no picture: {told.text[-500:]}")
        finally:
            kernel.close()

    def stop_server(self) -> None:
        self.expect("DELETE", f"/hub/api/users/{self.name}/server", codes=(202, 204))
        until = time.monotonic() + self.patience
        while self.expect("GET", f"/hub/api/users/{self.name}").get("servers"):
            if time.monotonic() > until:
                raise ClassError(f"{self.name}: the server had not stopped after {self.patience:.0f} s")
            time.sleep(1.0)


@dataclass
class Told:
    """What a cell said: its text (streams, results, tracebacks) and its last picture."""

    text: str = ""
    image: bytes = b""
    status: str = ""


class Kernel:
    """An IPython kernel of a user."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.id = user.expect("POST", user.api("kernels"), {"name": "python3"})["id"]
        self.session = uuid.uuid4().hex
        self.link = user.socket(f"{user.base}/api/kernels/{self.id}/channels?session_id={self.session}")

    def execute(self, code: str) -> Told:
        """Run a cell to its end. :raises ClassError: the kernel died or said nothing"""
        number = uuid.uuid4().hex
        header = {"msg_id": number, "msg_type": "execute_request", "username": "", "session": self.session, "version": "5.3"}
        header["date"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell", "buffers": []}
        told = Told()
        ended = {"reply": False, "idle": False}
        try:
            self.link.send(json.dumps(message))
            while not all(ended.values()):
                self.take(json.loads(self.link.receive()), number, told, ended)
        except WebSocketError as error:
            raise ClassError(f"{self.user.name}: the kernel did not finish a cell: {error}") from error
        return told

    @staticmethod
    def take(message: dict[str, Any], number: str, told: Told, ended: dict[str, bool]) -> None:
        if message.get("parent_header", {}).get("msg_id") != number:
            return
        kind, content = message["header"]["msg_type"], message["content"]
        if kind == "stream":
            told.text += content["text"]
        elif kind in ("display_data", "execute_result"):
            picture = content["data"].get("image/png", "")
            told.image = base64.b64decode(picture) or told.image
            told.text += content["data"].get("text/plain", "")
        elif kind == "error":
            told.text += "\n".join(content["traceback"])
        elif kind == "execute_reply":
            told.status, ended["reply"] = content["status"], True
        elif kind == "status" and content["execution_state"] == "idle":
            ended["idle"] = True

    def close(self) -> None:
        self.link.close()
        self.user.expect("DELETE", self.user.api(f"kernels/{self.id}"))


def gist(data: bytes) -> str:
    return " ".join(data.decode(errors="replace").split())[:300]


def wait_for_hub(port: int, seconds: float, alive: Callable[[], None]) -> float:
    """Until the hub answers; the seconds it took. `alive` raises when waiting is pointless. :raises ClassError:"""
    began = time.monotonic()
    nobody = User("nobody", port)
    while True:
        alive()
        try:
            if nobody.ask("GET", "/hub/health")[0] == 200:
                return time.monotonic() - began
        except ClassError:
            pass
        if time.monotonic() - began > seconds:
            raise ClassError(f"the hub did not answer in {seconds:.0f} s")
        time.sleep(1.0)


def lesson(name: str, port: int, stop: bool = True, patience: float = WAIT_S) -> Report:
    """Everything a student does in a lesson; the report names the first step that failed."""
    user = User(name, port, patience)
    report = Report(name)
    steps: list[Callable[[], object]] = [user.log_in, user.start_server, user.files, user.terminal, user.compute]
    for step in steps + ([user.stop_server] if stop else []):
        began = time.monotonic()
        try:
            step()
        except (ClassError, WebSocketError) as error:
            report.failure = f"{step.__name__}: {error}"
            return report
        report.seconds[step.__name__] = time.monotonic() - began
    return report


def whole_class(names: tuple[str, ...], port: int, stop: bool = True, patience: float = WAIT_S) -> list[Report]:
    """All at the same time."""
    with ThreadPoolExecutor(len(names)) as pool:
        return list(pool.map(lambda name: lesson(name, port, stop, patience), names))
