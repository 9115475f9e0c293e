"""What the origin of a soak serves, and so the truth about every byte that a client may ever read.

Law: all archives are drawn from the seed before anything starts; the origin only chooses among them.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.support import archives
from tests.support.origin import Answer, Asked, Origin

KB, MB = 1000, 1000**2

_SLOW_SECONDS = 0.7
_CUT_EVERY = 5


@dataclass(frozen=True)
class Version:
    """One archive and what is in it."""

    archive: bytes
    files: Mapping[str, bytes]

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.archive).hexdigest()

    @cached_property
    def sha256s(self) -> dict[str, str]:
        return {path: hashlib.sha256(data).hexdigest() for path, data in self.files.items()}

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.files.values()))


@dataclass(frozen=True)
class Module:
    """A path at the origin and the versions that it may answer. `turns`: each request gets the next one."""

    path: str
    versions: tuple[Version, ...]
    turns: bool = False
    slow: bool = False

    @property
    def mutable(self) -> bool:
        return not self.path.rsplit("/", 1)[-1].isdigit()


def modules(seed: int) -> list[Module]:
    """Some of a few KB, some of megabytes; two handles of one archive, two of equal content in other bytes; two that
    change; a slow one, whose transfer is cut now and then."""
    draw = random.Random(f"{seed}:modules")
    shared = _version(draw, 3 * MB, 4)
    repacked = _version(draw, 300 * KB, 5)
    return [
        *(Module(f"/small/{name}/1", (_version(draw, draw.randint(2, 60) * KB, 3 + name),)) for name in range(4)),
        *(
            Module(f"/large/{number}/1", (_version(draw, round(size * MB), 6),))
            for number, size in enumerate((6, 4, 4, 3, 2, 2))
        ),
        Module("/shared/one/1", (shared,)),
        Module("/shared/other/2", (shared,)),
        Module("/repacked/1", (repacked, _packed(repacked.files, 6), _packed(repacked.files, 9)), turns=True),
        Module("/live/text", tuple(_version(draw, 1500 * KB, 5) for _ in range(3))),
        Module("/live/image", tuple(_version(draw, draw.randint(5, 900) * KB, 4) for _ in range(4))),
        Module("/slow/1", (_version(draw, 1 * MB, 4),), slow=True),
    ]


def truth(served: list[Module]) -> dict[str, dict[str, str]]:
    """The sha256 of each file of each tree that may ever be cached, by the tree's digest."""
    return {version.digest: version.sha256s for module in served for version in module.versions}


class World:
    """The modules at a running origin. Thread-safe."""

    def __init__(self, origin: Origin, seed: int) -> None:
        self.modules = modules(seed)
        self.truth = truth(self.modules)
        self.handles = {origin.serve(module.path, self._answerer(module)): module for module in self.modules}
        self._current = dict.fromkeys((module.path for module in self.modules), 0)
        self._asked = 0
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        """Of all modules, those with equal archives counted once, and of the others the largest version."""
        largest = (max(module.versions, key=lambda version: version.size_bytes) for module in self.modules)
        return sum({version.digest: version.size_bytes for version in largest}.values())

    def digests(self, handle: str) -> set[str]:
        return {version.digest for version in self.handles[handle].versions}

    def paths(self, digest: str) -> list[str]:
        """The modules that may have this archive."""
        return [m.path for m in self.modules if any(version.digest == digest for version in m.versions)]

    def change(self, module: Module) -> None:
        """From now on the origin answers with the next version."""
        with self._lock:
            self._current[module.path] = (self._current[module.path] + 1) % len(module.versions)

    def write_truth(self, file: Path) -> None:
        file.write_text(json.dumps(self.truth))

    def _answerer(self, module: Module) -> Answerer:
        return Answerer(self, module)

    def answer(self, module: Module) -> Answer:
        if module.turns:
            self.change(module)
        with self._lock:
            version = module.versions[self._current[module.path]]
            self._asked += 1
            cut = module.slow and self._asked % _CUT_EVERY == 0
        answer = Answer(version.archive, etag=f'"{version.digest[:16]}"', ranges=True)
        if module.slow:
            answer.gate_after_bytes = len(version.archive) // 2
            answer.cut_after_bytes = len(version.archive) * 3 // 4 if cut else None
            opener = threading.Timer(_SLOW_SECONDS, answer.gate.set)
            opener.daemon = True
            opener.start()
        return answer


@dataclass(frozen=True)
class Answerer:
    """What the origin calls for each request of one module."""

    world: World
    module: Module

    def __call__(self, _: Asked) -> Answer:
        return self.world.answer(self.module)


def _version(draw: random.Random, size_bytes: int, file_count: int) -> Version:
    """So many files, most bytes in the weights; random bytes do not compress, so the archive is as large."""
    files = {"saved_model.pb": archives.saved_model(), "variables/variables.index": draw.randbytes(64)}
    for number in range(file_count - 3):
        files[f"assets/deep/{number}.txt"] = draw.randbytes(draw.randint(1, 900))
    files["variables/variables.data-00000-of-00001"] = draw.randbytes(size_bytes)
    return _packed(files, 1)


def _packed(files: Mapping[str, bytes], level: int) -> Version:
    return Version(gzip.compress(archives.members(files) + archives.END, level, mtime=0), files)
