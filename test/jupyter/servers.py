"""Servers that the tests start: the lab, Python's Jupyter Server, JupyterHub."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import requests

ROOT = Path(__file__).resolve().parent.parent.parent
NODE = shutil.which("node")
BIN = str(ROOT / "src" / "bin.mjs")
TOKEN = "a-token-for-tests"
PATIENCE = 300


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def running(command, url, cwd, **env):
    """Runs `command` until `url` answers; ends it afterwards."""
    log = Path(cwd) / "server.log"
    with open(log, "w") as out:
        server = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            env={**os.environ, **{key: str(value) for key, value in env.items()}},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        until = time.monotonic() + PATIENCE
        while True:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            with contextlib.suppress(requests.ConnectionError):
                if requests.get(url, timeout=10).status_code in (200, 403):
                    break
            time.sleep(0.2)
        yield
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()


@contextlib.contextmanager
def lab(folder):
    """Our server; gives its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    options = ["--no-open", "--port", port, "--token", TOKEN, "--root", folder]
    with running([NODE, BIN, "lab", *options], f"{url}/api", folder):
        yield url


@contextlib.contextmanager
def jupyter_server(folder, *options):
    """Python's Jupyter Server; gives its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    place = [f"--port={port}", f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}"]
    with running([*command, *place, *options], f"{url}/api", folder):
        yield url
