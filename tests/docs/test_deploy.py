"""The files in deploy/ fit the program and each other: options, ports, users, times, and what the image needs."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sessiond.cli import serve
from sessiond.config.units import parse_duration
from sessiond.endpoint.server.connections import Timeouts
from sessiond.endpoint.server.server import GRACE
from sessiond.endpoint.wire import Limits

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
USER = "10001"


def parse(line: list[str]) -> argparse.Namespace:
    """Parse a command line of `sessiond serve`. It exits where the program would."""
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    assert line[0] == "serve"
    return parser.parse_args(line[1:])


def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8")))


def kubernetes() -> dict[str, dict[str, Any]]:
    """Return the objects by their kind."""
    return {each["kind"]: each for each in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8"))}


def pod() -> dict[str, Any]:
    return dict(kubernetes()["Deployment"]["spec"]["template"]["spec"])


def ours(services: dict[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in services.items() if each["image"].partition(":")[0] == "sessiond"}


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Containerfile with their arguments."""
    lines = (DEPLOY / "Containerfile").read_text(encoding="utf-8").splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines if line[:1].isupper())]


def command_lines() -> Iterator[tuple[str, list[str]]]:
    for name, each in ours(compose()["services"]).items():
        yield f"compose {name}", each["command"]
    for each in [*pod()["initContainers"], *pod()["containers"]]:
        yield f"kubernetes {each['name']}", each["args"]
    yield "Containerfile", yaml.safe_load(dict(instructions())["CMD"])
    (unit,) = re.findall(r"^ExecStart=\S+ (.+)$", (DEPLOY / "sessiond-serve.service").read_text(), re.MULTILINE)
    yield "unit", unit.split()
    for page in sorted(DEPLOY.iterdir()):
        for found in re.findall(r"(?:migrate|bin/sessiond) (serve [a-z].+)$", page.read_text(), re.MULTILINE):
            yield f"comment in {page.name}", found.split()


@pytest.mark.parametrize(
    ("where", "line"), list(command_lines()), ids=lambda each: each if isinstance(each, str) else ""
)
def test_every_command_is_understood(where: str, line: list[str]) -> None:
    """Each option exists and has a valid value. What serves listens to others, on the port that they use."""
    arguments = parse(line)
    if arguments.serve_command is None:
        assert (arguments.host, arguments.port) == ("0.0.0.0", 8377), where


def test_all_processes_serve_the_same_data() -> None:
    """Processes with another database or other objects would not see each other's pushes."""
    for services in (
        {name: each["command"] for name, each in ours(compose()["services"]).items()},
        {each["name"]: each["args"] for each in [*pod()["initContainers"], *pod()["containers"]]},
    ):
        found = [parse(line) for line in services.values()]
        assert len({each.store for each in found}) == 1
        assert [each.serve_command for each in found].count("migrate") == 1
        assert len({each.blobs for each in found if each.serve_command is None}) == 1


def test_a_process_has_time_to_drain() -> None:
    """The balancer notices before the drain is over, and the service manager waits until the process ends."""
    (endpoint,) = pod()["containers"]
    probe = endpoint["readinessProbe"]
    health = re.search(r"inter (\d+)s fall (\d+)", (DEPLOY / "haproxy.cfg").read_text())
    assert health is not None
    times = [
        (endpoint["args"], pod()["terminationGracePeriodSeconds"], probe["periodSeconds"] * probe["failureThreshold"])
    ]
    for each in ours(compose()["services"]).values():
        times.append((each["command"], parse_duration(each["stop_grace_period"]), int(health[1]) * int(health[2])))
    for line, grace, notices in times:
        arguments = parse(line)
        if arguments.serve_command is None:
            assert notices < arguments.drain
            assert arguments.drain + GRACE < grace


def test_nothing_runs_with_rights() -> None:
    """The user is the same everywhere and is not root; the root file system is read-only."""
    assert dict(instructions())["USER"] == f"{USER}:{USER}"
    assert f"--owner {USER} --group {USER}" in (DEPLOY / "Containerfile").read_text()
    security = pod()["securityContext"]
    assert (security["runAsNonRoot"], str(security["runAsUser"]), str(security["runAsGroup"])) == (True, USER, USER)
    assert pod()["automountServiceAccountToken"] is False
    for each in [*pod()["initContainers"], *pod()["containers"]]:
        assert each["securityContext"] == {
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
    for each in ours(compose()["services"]).values():
        assert (each["read_only"], each["cap_drop"]) == (True, ["ALL"])
        assert each["security_opt"] == ["no-new-privileges:true"]


def test_the_image_has_all_that_the_build_needs() -> None:
    """A file that pyproject.toml names and that is not copied would end the build."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {"pyproject.toml", project["project"]["readme"], *project["project"]["license-files"]}
    needed |= {*wheel["packages"], *wheel["force-include"], *wheel["shared-data"]}
    copied = {
        each for word, rest in instructions() if word == "COPY" and "--from" not in rest for each in rest.split()[:-1]
    }
    assert all((ROOT / each).exists() for each in copied)
    assert [each for each in needed if not any(Path(each).is_relative_to(have) for have in copied)] == []
    (extras,) = re.findall(r'"/source\[([a-z,]+)\]"', (DEPLOY / "Containerfile").read_text())
    assert set(extras.split(",")) <= set(project["project"]["optional-dependencies"])


def test_the_balancer_knows_the_processes() -> None:
    """It has a server for each, routes by device, and waits longer than a request may take."""
    text = (DEPLOY / "haproxy.cfg").read_text(encoding="utf-8")
    servers = dict(re.findall(r"^ +server (\S+) (\S+):8377$", text, re.MULTILINE))
    expected = {
        name for name, each in ours(compose()["services"]).items() if parse(each["command"]).serve_command is None
    }
    assert servers == {name: name for name in expected}
    assert "balance hdr(Sessiond-Device)" in text
    assert "del-header X-Forwarded-User" in text
    timeouts = {name: int(seconds) for name, seconds in re.findall(r"timeout (\S+) (\d+)s", text)}
    assert timeouts["client"] > 120
    assert timeouts["server"] > 120
    assert timeouts["http-keep-alive"] <= Timeouts().idle
    ports = compose()["services"]["balancer"]["ports"]
    assert ports == ["8377:8377"]


def test_the_parts_of_kubernetes_find_each_other() -> None:
    """Labels, ports, secrets; and a body of the largest size gets through."""
    found = kubernetes()
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        found["Deployment"]["spec"]["selector"]["matchLabels"],
        found["Service"]["spec"]["selector"],
        found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector == labels
    assert found["Deployment"]["spec"]["replicas"] > found["PodDisruptionBudget"]["spec"]["minAvailable"]
    (endpoint,) = pod()["containers"]
    (port,) = endpoint["ports"]
    assert port == {"name": "http", "containerPort": 8377}
    for probe in (endpoint["readinessProbe"]["httpGet"], endpoint["livenessProbe"]["tcpSocket"]):
        assert probe["port"] == "http"
    sources = [next(iter(each.values()))["name"] for each in endpoint["envFrom"]]
    assert sources == [found["Secret"]["metadata"]["name"], found["ConfigMap"]["metadata"]["name"]]
    given = {*found["Secret"]["stringData"], *found["ConfigMap"]["data"]}
    assert given == set(compose()["x-endpoint"]["environment"])
    size = found["Ingress"]["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"]
    assert int(size.removesuffix("m")) << 20 > Limits().body


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="needs haproxy")
def test_the_balancer_accepts_its_file(tmp_path: Path) -> None:
    """It has no certificate and can't resolve the names here."""
    text = (DEPLOY / "haproxy.cfg").read_text().replace("ssl crt /usr/local/etc/haproxy/cert.pem alpn http/1.1", "")
    path = tmp_path / "haproxy.cfg"
    path.write_text(re.sub(r"(server \S+) \S+:8377", r"\1 127.0.0.1:8377", text))
    checked = subprocess.run(["haproxy", "-c", "-f", str(path)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
