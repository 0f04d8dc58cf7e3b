"""The overlays as `kubectl kustomize` makes them, and what it takes."""

import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from deploy.overlays import OVERLAYS, Overlay

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
KUBECTL = shutil.which("kubectl")
MISSING = "NOT TESTED: deploy/kubernetes, as there is no kubectl here; .ci/run says how to install it"
NAMES = [overlay.name for overlay in OVERLAYS]
Object = dict[str, Any]


def overlay_of(name: str) -> Overlay:
    return next(overlay for overlay in OVERLAYS if overlay.name == name)


@cache
def text_of(folder: Path) -> str:
    """What a folder's kustomization makes; an error of it is the test's."""
    assert KUBECTL is not None
    ran = subprocess.run([KUBECTL, "kustomize", str(folder)], capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def objects(name: str, kind: str = "") -> list[Object]:
    """The objects of an overlay, of one kind or all."""
    found = yaml.safe_load_all(text_of(KUBERNETES / "overlays" / name))
    return [one for one in found if not kind or one["kind"] == kind]
