"""The files of deploy/ against published schemas, and against what the image, the settings and the server know."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from retrieval.workspace import SECTIONS, ServerSettings, Workspace
from server.cli import serve

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
MANIFESTS = sorted(
    file for file in (DEPLOY / "kubernetes").glob("*.yaml") if file.stem not in ("kustomization", "qdrant-values")
)
KUBERNETES = "1.34"
"""The first release that has everything that the manifests use for good: preStop.sleep."""
SETTINGS = {f"SHOPTALK_{name}_{key}".upper() for name, model in SECTIONS.items() for key in model.model_fields}
SECRETS = {"SHOPTALK_STORE_KEY", "SHOPTALK_ENDPOINT_KEY"}
SURROUNDINGS = {"HF_HOME", "HF_HUB_OFFLINE", "HOME"}


def read(file: Path) -> list[dict[str, Any]]:
    return [found for found in yaml.safe_load_all(file.read_text(encoding="utf-8")) if found]


def objects() -> dict[str, dict[str, Any]]:
    return {found["kind"]: found for file in MANIFESTS for found in read(file)}


def pods() -> list[dict[str, Any]]:
    found = objects()
    job = found["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]
    return [found["Deployment"]["spec"]["template"], job]


def literals() -> dict[str, str]:
    (kustomization,) = read(DEPLOY / "kubernetes" / "kustomization.yaml")
    (generated,) = kustomization["configMapGenerator"]
    return dict(item.split("=", 1) for item in generated["literals"])


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.name)
def test_kubernetes_knows_every_field_of_a_manifest(file: Path) -> None:
    validate = pytest.importorskip("kubernetes_validate").validate
    for found in read(file):
        validate(found, KUBERNETES, strict=True)


def test_kustomize_names_every_manifest_and_its_settings_are_good(tmp_path: Path) -> None:
    (kustomization,) = read(DEPLOY / "kubernetes" / "kustomization.yaml")
    assert sorted(kustomization["resources"]) == [file.name for file in MANIFESTS]
    assert set(literals()) <= SETTINGS | SURROUNDINGS
    Workspace.create(tmp_path, {}, "acme/base")
    workspace = Workspace.open(tmp_path, literals())
    assert (workspace.store.kind, workspace.store.shards, workspace.store.replicas) == ("qdrant", 6, 2)
    service = objects()["Service"]["metadata"]["name"]
    assert {service, f"{service}.{kustomization['namespace']}.svc.cluster.local"} <= set(workspace.server.hosts)


def test_each_pod_runs_as_nobody_in_particular_and_writes_to_volumes_only() -> None:
    for pod in pods():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] == 1000
        assert not spec["automountServiceAccountToken"]
        mounted = {volume["name"] for volume in spec["volumes"]}
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] and context["capabilities"]["drop"] == ["ALL"]
            assert not context["allowPrivilegeEscalation"]
            assert {"requests", "limits"} <= set(container["resources"])
            assert {mount["name"] for mount in container["volumeMounts"]} == mounted
            for variable in container["env"]:
                assert variable["name"] in SECRETS | SURROUNDINGS
                assert variable["name"] in SURROUNDINGS or "secretKeyRef" in variable["valueFrom"]


def test_selectors_find_the_servers_and_not_the_job() -> None:
    found = objects()
    server, job = (pod["metadata"]["labels"] for pod in pods())
    chosen = [
        found["Deployment"]["spec"]["selector"]["matchLabels"],
        found["Service"]["spec"]["selector"],
        found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ]
    for labels in chosen:
        assert labels.items() <= server.items() and not labels.items() <= job.items()
    scaled = found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (scaled["kind"], scaled["name"]) == ("Deployment", found["Deployment"]["metadata"]["name"])
    volumes = [volume for pod in pods() for volume in pod["spec"]["volumes"]]
    claims = {volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume}
    assert claims == {found["PersistentVolumeClaim"]["metadata"]["name"]}


def test_the_servers_are_probed_where_they_answer_and_have_the_time_to_stop() -> None:
    pod = pods()[0]["spec"]
    (container,) = pod["containers"]
    assert container["livenessProbe"]["httpGet"]["path"] == container["startupProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["ports"] == [{"name": "http", "containerPort": 8000}]
    asleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > asleep + ServerSettings().shutdown_seconds
    (workspace,) = [mount for mount in container["volumeMounts"] if mount["name"] == "workspace"]
    assert workspace["readOnly"] and "--read-only" in container["args"]


@pytest.mark.parametrize("database", ["qdrant", "milvus"])
def test_the_compose_files_are_as_published_and_name_what_is_there(database: str) -> None:
    files = [DEPLOY / "compose.yaml", DEPLOY / f"compose.{database}.yaml"]
    base, beside = (read(file)[0] for file in files)
    for name in ("index", "server"):
        service = base["services"][name]
        stored = beside["services"][name]["environment"]
        assert set(service["environment"]) | set(stored) <= SETTINGS | SECRETS | SURROUNDINGS
        assert stored["SHOPTALK_STORE_KIND"] == database
        assert stored["SHOPTALK_STORE_URL"].split("//")[1].split(":")[0] in beside["services"]
        assert set(service["build"]["args"]) == set(re.findall(r"^ARG (DEVICE|EXTRAS)", DOCKERFILE, re.MULTILINE))
    assert [volume.endswith(":/workspace:ro") for volume in base["services"]["server"]["volumes"]] == [True]
    # What both `index` and the servers are told of the store, they are told in the same words.
    assert beside["services"]["index"]["environment"] == beside["services"]["server"]["environment"]
    script = Path(sys.executable).with_name("check-jsonschema")
    if script.exists():
        command = [script, "--builtin-schema", "vendor.compose-spec", *files]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_commands_of_the_servers_are_ones_that_serve_knows() -> None:
    (compose,) = read(DEPLOY / "compose.yaml")
    for arguments in (compose["services"]["server"]["command"], pods()[0]["spec"]["containers"][0]["args"]):
        verb, *options = arguments
        assert verb == "serve"
        given = {option for option in options if option.startswith("--")}
        assert given <= {name for parameter in serve.params for name in parameter.opts}


def test_the_proxys_configuration_is_valid(tmp_path: Path) -> None:
    haproxy = shutil.which("haproxy")
    if haproxy is None:
        pytest.skip("haproxy is not installed: apt-get install haproxy")
    done = subprocess.run([haproxy, "-c", "-f", DEPLOY / "haproxy.cfg"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
