"""Writes the kustomize base and overlays of `deploy/kubernetes`.

    python -m deploy.generate                                       # those that are committed
    python -m deploy.generate --into FOLDER --name ours --zones a,b,c --nodes eu-1a,eu-1b,eu-1c \\
        --users 3000000 --pins 20000000 --edges 300000000 --feeds-per-second 900 --log kafka://kafka:9092/feedmesh
"""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from cli.pods import SCALED
from cli.schema import SERVICES
from deploy import manifests, overlays
from deploy.manifests import Object
from deploy.overlays import EVERYWHERE, IN_THE_FIRST, OVERLAYS, WITH_THE_LOG, Overlay

INTO = Path(__file__).parent / "kubernetes"
HEAD = "# Made by `make manifests` (deploy/generate.py): change that.\n"
KUSTOMIZATION = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
Files = Iterator[tuple[str, str]]  # path, text


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """A string; what other readers of YAML take for a boolean, such as the zone y, in quotes."""
    quoted = "'" if text.lower() in ("y", "n") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=quoted)


_Dumper.add_representer(str, _text)


def text_of(objects: Iterable[Object]) -> str:
    """Objects as a file of YAML."""
    documents = (yaml.dump(one, Dumper=_Dumper, sort_keys=False, width=120) for one in objects)
    return HEAD + "---\n".join(documents)


def base() -> Files:
    """What all overlays share: without a zone, of each zone, of those that have the log's service, and of the first alone."""
    policies = "network-policies.yaml"
    common = {"disruption-budgets.yaml": [manifests.disruption_budget(service) for service in SERVICES]}
    common |= {
        policies: list(manifests.network_policies()),
        "shared.yaml": manifests.shared(),
        "web.yaml": [manifests.pages()],
    }
    labels = [{"pairs": manifests.ALL, "includeTemplates": True}]
    yield from _folder("base", common, {"labels": labels})
    yield from _folder(
        "base/zone", {f"{service}.yaml": _service(service) for service in EVERYWHERE}, {"labels": labels}
    )
    yield from _folder(
        "base/log", {f"{service}.yaml": _service(service) for service in WITH_THE_LOG}, {"labels": labels}
    )
    first = {f"{service}.yaml": _service(service) for service in IN_THE_FIRST}
    first[f"{manifests.MAKES_MODELS}.yaml"] = [manifests.learning()]
    yield from _folder("base/first-zone", first, {"labels": labels})


def _service(service: str) -> list[Object]:
    if service in SCALED:
        return [manifests.headless(service), manifests.deployment(service), manifests.autoscaler(service)]
    return [manifests.headless(service), manifests.stateful_set(service)]


def _folder(folder: str, files: dict[str, list[Object]], more: Object) -> Files:
    yield f"{folder}/kustomization.yaml", text_of([{**KUSTOMIZATION, "resources": sorted(files), **more}])
    for name, objects in files.items():
        yield f"{folder}/{name}", text_of(objects)


def overlay_files(overlay: Overlay, base_at: str = "../../base") -> Files:
    """One overlay; base_at: the base, as seen from its folder."""
    top = f"overlays/{overlay.name}"
    yield f"{top}/cluster.toml", HEAD + overlays.cluster_file(overlay)
    yield f"{top}/namespace.yaml", text_of([manifests.namespace()])
    resources = ["namespace.yaml", base_at, *(f"zone-{zone}" for zone in overlay.zones)]
    if overlay.log:
        resources.append("kafka.yaml")
        yield f"{top}/kafka.yaml", text_of([overlays.kafka_policy(overlay)])
    kustomization = {
        **KUSTOMIZATION,
        "namespace": "feedmesh",
        "resources": resources,
        "configMapGenerator": [{"name": "feedmesh", "files": ["cluster.toml"]}],
        "generatorOptions": {"disableNameSuffixHash": True},  # running pods follow a change of the file
        "images": [{"name": "feedmesh", "newName": "feedmesh", "newTag": "0.1.0"}],
    }
    yield f"{top}/kustomization.yaml", text_of([kustomization])
    for number, zone in enumerate(overlay.zones):
        yield from _zone(overlay, number, f"{top}/zone-{zone}", f"../{base_at}")


def _zone(overlay: Overlay, number: int, folder: str, base_at: str) -> Files:
    zone = overlay.zones[number]
    resources = [f"{base_at}/zone"]
    if overlay.log or not number:
        resources.append(f"{base_at}/log")
    if not number:
        resources.append(f"{base_at}/first-zone")
    patches: list[Object] = [{"path": "numbers.yaml"}]
    if overlay.nodes:
        for kind, version in (("StatefulSet", "apps/v1"), ("Deployment", "apps/v1")):
            patch = {
                "apiVersion": version,
                "kind": kind,
                "metadata": {"name": "any"},
                "spec": overlays.on_nodes(overlay.nodes[number]),
            }
            patches.append({"target": {"kind": kind}, "patch": yaml.safe_dump(patch, sort_keys=False)})
    kustomization = {
        **KUSTOMIZATION,
        "resources": resources,
        "nameSuffix": f"-{zone}",
        "labels": [overlays.zone_labels(zone)],
        "patches": patches,
    }
    yield f"{folder}/kustomization.yaml", text_of([kustomization])
    yield f"{folder}/numbers.yaml", text_of(overlays.numbers(overlay, zone))


def everything() -> dict[str, str]:
    """The committed files, by path."""
    return dict([*base(), *(file for overlay in OVERLAYS for file in overlay_files(overlay))])


def write(files: dict[str, str], into: Path) -> None:
    """Write files below a folder."""
    for path, text in files.items():
        (into / path).parent.mkdir(parents=True, exist_ok=True)
        (into / path).write_text(text)


def main() -> None:
    """Write the committed overlays, or one of one's own."""
    parser = argparse.ArgumentParser(prog="python -m deploy.generate", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--into", type=Path, default=INTO, help="the folder to write to")
    parser.add_argument("--name", help="an overlay of this name in place of those that are committed")
    parser.add_argument("--zones", default="a", help="its zones, such as a,b,c")
    parser.add_argument(
        "--nodes", default="", help="what the nodes of each zone are labelled as topology.kubernetes.io/zone"
    )
    for name in ("users", "pins", "edges"):
        parser.add_argument(f"--{name}", type=int, default=100_000)
    parser.add_argument("--feeds-per-second", type=float, default=50)
    parser.add_argument("--log", default="", help="where the log is, if not in roadrunner: kafka://host:port/prefix")
    given = parser.parse_args()
    if not given.name:
        write(everything(), given.into)
        return
    zones, nodes = tuple(given.zones.split(",")), tuple(filter(None, given.nodes.split(",")))
    if nodes and len(nodes) != len(zones):
        parser.error(f"--nodes {given.nodes}: one for each of the zones {given.zones} is needed, or none")
    overlay = Overlay(given.name, zones, given.users, given.pins, given.edges, given.feeds_per_second, given.log, nodes)
    write(dict([*base(), *overlay_files(overlay)]), given.into)


if __name__ == "__main__":
    main()
