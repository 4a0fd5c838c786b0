"""The lab's server for clients in Python: over HTTP and WebSocket, and behind Python's own JupyterLab."""

import os
from pathlib import Path

import nbformat
import pytest
import requests
from jupyter_kernel_client import JupyterKernelClient
from nbformat.sign import MemorySignatureStore, NotebookNotary

from servers import TOKEN, jupyter_server, lab


def run(url, code):
    """Runs `code` in a new kernel of the server at `url`; gives what it printed."""
    kernel = JupyterKernelClient(server_url=url, token=TOKEN)
    kernel.start(name="typescript-peftlab")
    try:
        reply = kernel.execute(code, timeout=120)
    finally:
        kernel.stop()
    assert reply["status"] == "ok", reply
    return "".join(output.get("text", "") for output in reply["outputs"])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    with lab(folder) as url:
        yield url, folder


def test_a_cell_runs_for_a_client_in_python(server):
    assert run(server[0], "const x: number = 6; console.log(x * 7)") == "42\n"


def test_pythons_jupyterlab_runs_cells_in_a_kernel_of_the_lab(server, tmp_path):
    gateway = [f"--gateway-url={server[0]}", f"--GatewayClient.auth_token={TOKEN}"]
    with jupyter_server(tmp_path, *gateway) as url:
        headers = {"Authorization": f"token {TOKEN}"}
        specs = requests.get(f"{url}/api/kernelspecs", headers=headers).json()
        assert list(specs["kernelspecs"]) == ["typescript-peftlab"]
        assert run(url, "const x: number = 5; console.log(x * 7)") == "35\n"


def test_signatures_are_those_of_nbformat(server):
    """A notebook saved by the lab has the digest that nbformat makes with the same secret."""
    url, folder = server
    notebook = nbformat.v4.new_notebook(metadata={"flag": True, "none": None, "small": 1e-7})
    notebook.cells = [
        nbformat.v4.new_markdown_cell("# Ä title\n\nwith lines"),
        nbformat.v4.new_code_cell(
            "1 + 1\n2 + 2",
            outputs=[
                nbformat.v4.new_output("display_data", {"text/html": "<b>a</b>\n<i>b</i>"}),
                nbformat.v4.new_output(
                    "display_data",
                    {"application/json": {"y": [0.1, 1e22, 3, -2.5e-9, False, None], "é": "z"}},
                ),
                nbformat.v4.new_output("stream", text="a\nb\n"),
            ],
        ),
    ]
    for cell in notebook.cells:
        cell.metadata.trusted = True
    headers = {"Authorization": f"token {TOKEN}"}
    body = {"type": "notebook", "format": "json", "content": notebook}
    saved = requests.put(f"{url}/api/contents/signed.ipynb", json=body, headers=headers)
    assert saved.status_code == 200, saved.text
    secret = (data_folder() / "notebook_secret").read_bytes()
    notary = NotebookNotary(secret=secret, store_factory=MemorySignatureStore)
    digest = notary.compute_signature(nbformat.read(folder / "signed.ipynb", as_version=4))
    assert digest in (data_folder() / "signatures.json").read_text()


def data_folder():
    return Path(os.environ["PEFTLAB_DATA_DIR"])
