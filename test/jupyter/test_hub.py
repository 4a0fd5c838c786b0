"""The lab as the server of a user of a real JupyterHub: who may come in, and by which way."""

import os
import re
import subprocess
import sys

import pytest
import requests
from jupyter_kernel_client import JupyterKernelClient

from servers import BIN, NODE, ROOT, free_port, running

PROXY = "configurable-http-proxy@5.3.0"
SERVICE_TOKEN = "a-token-of-a-service"
CONFIG = """
c.JupyterHub.bind_url = 'http://127.0.0.1:{port}'
c.JupyterHub.hub_port = {hub}
c.ConfigurableHTTPProxy.api_url = 'http://127.0.0.1:{proxy}'
c.ConfigurableHTTPProxy.command = {command!r}
c.JupyterHub.authenticator_class = 'dummy'
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = 'simple'
c.SimpleLocalProcessSpawner.home_dir_template = {home!r} + '/{{username}}'
c.Spawner.cmd = {cmd!r}
c.Spawner.start_timeout = c.Spawner.http_timeout = 300
c.JupyterHub.services = [{{'name': 'tester', 'api_token': {token!r}}}]
c.JupyterHub.load_roles = [
    {{'name': 'tester', 'services': ['tester'], 'scopes': ['access:servers', 'servers']}}
]
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    port, inner, proxy = free_port(), free_port(), free_port()
    cache = ROOT / "node_modules" / ".cache" / "peftlab" / "proxy"
    config = folder / "jupyterhub_config.py"
    command = [str(cache / "node_modules" / ".bin" / "configurable-http-proxy")]
    if not os.path.exists(command[0]):
        cache.mkdir(parents=True, exist_ok=True)
        npm = ["npm", "install", "--no-audit", "--no-fund", f"--prefix={cache}", PROXY]
        subprocess.run(npm, check=True, capture_output=True)
    text = CONFIG.format(
        port=port,
        hub=inner,
        proxy=proxy,
        command=command,
        home=str(folder),
        cmd=[NODE, BIN, "lab"],
        token=SERVICE_TOKEN,
    )
    config.write_text(text)
    url = f"http://127.0.0.1:{port}"
    hub_command = [sys.executable, "-m", "jupyterhub", "-f", config]
    with running(hub_command, f"{url}/hub/login", folder, CONFIGPROXY_AUTH_TOKEN="proxy"):
        yield url


def log_in(url, name):
    """A browser that has logged in at the hub."""
    browser = requests.Session()
    browser.headers["Accept"] = "text/html"
    browser.get(f"{url}/hub/login")
    form = {"username": name, "password": "x", "_xsrf": browser.cookies.get("_xsrf", path="/hub/")}
    answer = browser.post(f"{url}/hub/login", data=form, allow_redirects=False)
    assert answer.status_code == 302, answer.text
    return browser


@pytest.fixture(scope="module")
def page(hub):
    """Ada's browser, with the page of her lab."""
    browser = log_in(hub, "ada")
    headers = {"Authorization": f"token {SERVICE_TOKEN}"}
    started = requests.post(f"{hub}/hub/api/users/ada/server", headers=headers, timeout=300)
    assert started.status_code in (201, 202), started.text
    requests.get(f"{hub}/hub/api/users/ada/server/progress", headers=headers, timeout=300)
    return browser, browser.get(f"{hub}/user/ada/lab", timeout=300)


def test_a_user_of_the_hub_comes_to_the_page_without_a_token(hub, page):
    answer = page[1]
    assert answer.status_code == 200
    assert answer.url == f"{hub}/user/ada/lab"
    assert '"baseUrl":"/user/ada/"' in answer.text
    assert '"hubUser":"ada"' in answer.text
    assert re.search(r'"token":""', answer.text)


def test_another_user_and_nobody_are_refused(hub, page):
    bob = log_in(hub, "bob")
    assert bob.get(f"{hub}/user/ada/lab").status_code in (403, 404)
    assert bob.get(f"{hub}/user/ada/api/contents").status_code in (403, 404)
    assert requests.get(f"{hub}/user/ada/api/contents").status_code == 403
    wrong = {"Authorization": "token wrong"}
    assert requests.get(f"{hub}/user/ada/api/contents", headers=wrong).status_code == 403


def test_a_code_that_the_hub_has_not_sent_is_refused(hub, page):
    forged = f"{hub}/user/ada/oauth_callback?code=forged&state=forged"
    assert requests.get(forged, headers={"Accept": "text/html"}).status_code == 403


def test_changes_need_the_header_against_forged_requests(hub, page):
    browser, _ = page
    contents = f"{hub}/user/ada/api/contents"
    assert browser.get(contents, headers={"Accept": "application/json"}).status_code == 200
    assert browser.post(contents, json={"type": "file"}).status_code == 403
    xsrf = {"X-XSRFToken": browser.cookies.get("_xsrf", path="/user/ada/")}
    assert browser.post(contents, json={"type": "file"}, headers=xsrf).status_code == 201
    foreign = {**xsrf, "Origin": "http://evil.example"}
    assert browser.post(contents, json={"type": "file"}, headers=foreign).status_code == 403


def test_a_cell_runs_through_the_hub_with_a_token_of_the_hub(hub, page):
    url = f"{hub}/user/ada"
    kernel = JupyterKernelClient(server_url=url, token=SERVICE_TOKEN)
    kernel.start(name="typescript-peftlab")
    reply = kernel.execute("const x: number = 6; console.log(x * 7)", timeout=120)
    kernel.stop()
    assert reply["status"] == "ok"
    assert reply["outputs"][0]["text"] == "42\n"
