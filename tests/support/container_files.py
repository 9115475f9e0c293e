"""The examples of docs/operations that build and run containers, read so that tests can hold them to the code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

OPERATIONS = Path(__file__).resolve().parents[2] / "docs" / "operations"
DOCKERFILE = OPERATIONS / "Dockerfile"
KUBERNETES = OPERATIONS / "kubernetes.yml"


class Instruction(NamedTuple):
    name: str
    value: str

    @property
    def words(self) -> list[str]:
        """Of the exec form, which no shell reads."""
        return [str(word) for word in json.loads(self.value)]


def instructions(dockerfile: str) -> list[Instruction]:
    """The instructions of a Dockerfile in their order, continued lines joined, comments left out."""
    lines = [line for line in dockerfile.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines()]


def only(found: list[Instruction], name: str) -> Instruction:
    (instruction,) = (one for one in found if one.name == name)
    return instruction


def manifest(kind: str) -> dict[str, Any]:
    """The one object of that kind in kubernetes.yml."""
    (found,) = (entry for entry in yaml.safe_load_all(KUBERNETES.read_text()) if entry["kind"] == kind)
    return dict(found)


def pod(kind: str) -> dict[str, Any]:
    """The pod of the one workload of that kind."""
    return dict(manifest(kind)["spec"]["template"]["spec"])


def host_paths(spec: dict[str, Any]) -> dict[str, str]:
    """Directories of the node, by the name of their volume."""
    return {volume["name"]: volume["hostPath"]["path"] for volume in spec["volumes"] if "hostPath" in volume}
