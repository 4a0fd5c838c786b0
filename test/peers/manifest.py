"""The manifest.json of a golden case."""

import json
import platform
from importlib.metadata import version
from pathlib import Path


def write_manifest(out: Path, kind: str, packages: list[str], fields: dict) -> None:
    versions = {"python": platform.python_version()} | {name: version(name) for name in packages}
    manifest = {"case": kind, **fields, "versions": versions, "schema": "peers-golden/1"}
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1))
