"""What docs/operations shows for containers fits the code: paths, users, commands, settings, limits."""

from __future__ import annotations

import contextlib
import io
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from hubclient.cli import snapshot
from hubclient.cli.app import app
from hubclient.contract import places
from hubclient.contract.quantities import parse_size
from hubd import config
from hubd.__main__ import main
from hubd.config_values import MB
from hubd.service import STOP_SECONDS
from tests.support.container_files import DOCKERFILE, OPERATIONS, host_paths, instructions, manifest, only, pod

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CLIENT = tomllib.loads((ROOT / "client/pyproject.toml").read_text())["project"]
BUILT = instructions(DOCKERFILE.read_text())
DAEMON, CLIENTS = pod("DaemonSet"), pod("Job")
(CONTAINER,) = DAEMON["containers"]
PATHS = {places.SERVICE_CACHE, places.SERVICE_DIR}


def test_a_dockerfile_is_read_with_its_continued_lines_and_without_comments() -> None:
    text = '# x\nFROM a AS b\nRUN one \\\n    && two\n\nCMD ["run", "--user"]\n'
    found = instructions(text)
    assert found == [("FROM", "a AS b"), ("RUN", "one && two"), ("CMD", '["run", "--user"]')]
    assert only(found, "CMD").words == ["run", "--user"]


def test_the_image_starts_the_daemon_by_a_command_that_hubd_has() -> None:
    assert only(BUILT, "ENTRYPOINT").words == ["hubd"]
    assert "hubd" in PROJECT["scripts"]
    arguments = [*only(BUILT, "CMD").words, *CONTAINER.get("args", [])]
    assert "command" not in CONTAINER, "it would take the entry point's place"
    with contextlib.redirect_stdout(io.StringIO()) as told, pytest.raises(SystemExit) as ended:
        main([*arguments, "--help"])
    assert ended.value.code == 0
    assert places.SERVICE_SOCKET in told.getvalue()


def test_its_health_is_what_hubctl_tells_and_in_time() -> None:
    assert "hubctl" in CLIENT["scripts"]
    check = re.fullmatch(r".*--timeout=(\d+)s.* CMD (\[.*\])", only(BUILT, "HEALTHCHECK").value)
    assert check is not None
    command = ["hubctl", "status"]
    assert command[1] in {command.name for command in typer.main.get_group(app).commands.values()}
    assert check[2] == '["hubctl", "status"]'
    assert float(check[1]) > snapshot.SILENCE_SECONDS
    for probe in (CONTAINER["startupProbe"], CONTAINER["livenessProbe"]):
        assert probe["exec"]["command"] == command
        assert probe["timeoutSeconds"] > snapshot.SILENCE_SECONDS


def test_the_image_has_what_the_project_needs() -> None:
    images = [one.value.split()[0] for one in BUILT if one.name == "FROM"]
    assert len(set(images)) == 1, "what is built for one interpreter does not run with another"
    version = re.match(r"python:(\d+)\.(\d+)-", images[0])
    assert version is not None
    assert PROJECT["requires-python"] == ">=3.11" <= f">={version[1]}.{version[2]}"
    (build,) = (one.value for one in BUILT if one.name == "RUN" and "pip install" in one.value)
    assert "-c constraints.txt './client[cli]' ." in build
    assert "cli" in CLIENT["optional-dependencies"]
    ignored = (OPERATIONS / "Dockerfile.dockerignore").read_text().splitlines()
    needed = ["hubd", "client", "systemd", "constraints.txt", "pyproject.toml", "README.md", "LICENSE"]
    needed.append("config.example.toml")
    assert not set(needed) & set(ignored)
    assert only(BUILT, "ENV").value.startswith("PATH=/opt/hubd/bin:")
    assert ("COPY", "--from=build /opt/hubd /opt/hubd") in BUILT


def test_one_unprivileged_user_owns_all_by_number() -> None:
    uid = DAEMON["securityContext"]["runAsUser"]
    assert 1000 < uid < 65534
    assert DAEMON["securityContext"]["runAsGroup"] == uid
    assert DAEMON["securityContext"]["runAsNonRoot"] is True
    assert only(BUILT, "USER").value == f"{uid}:{uid}"
    (users,) = (one.value for one in BUILT if one.name == "RUN" and "useradd" in one.value)
    assert f"groupadd --gid {uid} hubd" in users
    assert f"useradd --uid {uid} --gid {uid}" in users
    assert f"install -d -o hubd -g hubd -m 0755 {places.SERVICE_CACHE} {places.SERVICE_DIR}" in users
    (own,) = DAEMON["initContainers"]
    assert own["command"] == ["chown", f"{uid}:{uid}", places.SERVICE_CACHE, places.SERVICE_DIR]
    assert own["image"] == CONTAINER["image"]
    assert CLIENTS["securityContext"]["runAsUser"] not in (0, uid), "it would be an administrator"


def mounts(container: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {mount["name"]: mount for mount in container["volumeMounts"]}


@pytest.mark.parametrize("spec", [DAEMON, CLIENTS], ids=["daemon", "client"])
def test_cache_and_socket_are_the_services_and_at_the_same_path_everywhere(spec: dict[str, Any]) -> None:
    paths = host_paths(spec)
    assert set(paths.values()) == PATHS
    for container in (*spec.get("initContainers", []), *spec["containers"]):
        for name, path in paths.items():
            assert mounts(container)[name]["mountPath"] == path


def test_only_the_daemon_may_write_and_only_it_makes_the_directories() -> None:
    assert not any(mounts(CONTAINER)[name].get("readOnly") for name in host_paths(DAEMON))
    (client,) = CLIENTS["containers"]
    assert all(mounts(client)[name]["readOnly"] for name in host_paths(CLIENTS))
    made = {volume["hostPath"]["type"] for volume in DAEMON["volumes"] if "hostPath" in volume}
    used = {volume["hostPath"]["type"] for volume in CLIENTS["volumes"]}
    assert (made, used) == ({"DirectoryOrCreate"}, {"Directory"})


def test_the_configuration_is_one_and_lies_where_hubd_looks(tmp_path: Path) -> None:
    ((name, text),) = manifest("ConfigMap")["data"].items()
    (tmp_path / name).write_text(text)
    assert config.load(str(tmp_path / name), user=False).cache.max_size == parse_size("200GB")
    usual = f"{mounts(CONTAINER)['config']['mountPath']}/{name}"
    assert config.usual_file({}, user=False) == usual
    (volume,) = (volume for volume in DAEMON["volumes"] if volume["name"] == "config")
    assert volume["configMap"]["name"] == manifest("ConfigMap")["metadata"]["name"]
    assert volume["configMap"]["defaultMode"] & 0o022 == 0, "the service refuses a file that others can write"


def test_an_upgrade_never_has_two_daemons_and_lets_the_old_one_stop_in_order() -> None:
    assert manifest("DaemonSet")["spec"]["updateStrategy"]["rollingUpdate"]["maxSurge"] == 0
    assert DAEMON["terminationGracePeriodSeconds"] > STOP_SECONDS
    assert DAEMON["hostUsers"] is True


def test_the_memory_suffices_for_all_children_that_unpack() -> None:
    settings = config.Settings()
    children = settings.network.concurrent_fetches * settings.limits.unpack_memory
    daemon = 120 * MB
    assert parse_size(CONTAINER["resources"]["limits"]["memory"] + "B") > children + daemon


def test_clients_set_variables_that_hubclient_reads() -> None:
    source = "".join(path.read_text() for path in (ROOT / "client/hubclient").rglob("*.py"))
    (client,) = CLIENTS["containers"]
    told = re.findall(r"\bHUBD_[A-Z_]+\b", (OPERATIONS / "containers.md").read_text())
    assert "HUBD_TRUST_UID" in told
    for name in (*(entry["name"] for entry in client["env"]), *told):
        assert f'"{name}"' in source


def test_the_mounts_that_the_text_shows_are_those_of_the_manifest() -> None:
    text = (OPERATIONS / "containers.md").read_text()
    shown = re.findall(r"-v (\S+?):(\S+?)(:ro)?(?=\s)", text)
    assert {source for source, _, _ in shown} == {*PATHS, "/etc/hubd"}
    assert all(source == target for source, target, _ in shown)
    assert str(DAEMON["securityContext"]["runAsUser"]) in text
