"""A container for a program: namespaces of its own, and a root directory with what it needs to run and what is mounted.

``python container.py PLAN PROGRAM ARGUMENT...``, as root, is what a container runtime is to the kernel: mounts and
processes of its own, ids of its own if the plan maps them, an unprivileged user without capabilities, and a root that
nobody can write to. Nothing outside of it changes, and it ends with its program. Standard library only, and no part of
a package: it is run by its path.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

_CLONE_NEWNS, _CLONE_NEWPID, _CLONE_NEWUSER = 0x00020000, 0x20000000, 0x10000000  # linux/sched.h
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18  # linux/mount.h
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38  # linux/prctl.h
_REPOSITORY = Path(__file__).resolve().parents[2]
_SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc/ssl", "/etc/ld.so.cache", "/dev")
_MAPPED_IDS = 65536


@dataclass(frozen=True)
class Mount:
    """A file or directory of the host, and where the container sees it."""

    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True)
class Plan:
    """`uid`: whose the program is, as the container sees it. `first_uid`: the host's id that is 0 in the container,
    which has 65,536 of them; None: the host's ids, no user namespace."""

    uid: int
    mounts: tuple[Mount, ...] = ()
    first_uid: int | None = None

    def command(self, *program: str) -> list[str]:
        """The command line that runs the program in this container."""
        return [sys.executable, __file__, json.dumps(asdict(self)), *program]


def main() -> None:
    written, *program = sys.argv[1:]
    given = json.loads(written)
    plan = Plan(**{**given, "mounts": tuple(Mount(**mount) for mount in given["mounts"])})
    (unmapped, tell_unmapped), (mapped, tell_mapped) = os.pipe(), os.pipe()
    _call("unshare", _CLONE_NEWNS)
    root = _made_root(plan)
    _call("unshare", _CLONE_NEWPID)  # of the next child, which the namespace ends with
    child = os.fork()
    if child == 0:
        _close(root)
        if plan.first_uid is not None:
            _call("unshare", _CLONE_NEWUSER)  # no longer possible in a changed root
            os.write(tell_unmapped, b".")
            os.read(mapped, 1)
        os.chroot(root)
        os.chdir("/")
        _become(plan.uid)
        os.execv(program[0], program)
    os.close(tell_unmapped)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: os.kill(child, number))
    if plan.first_uid is not None:
        os.read(unmapped, 1)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{child}/{name}").write_text(f"0 {plan.first_uid} {_MAPPED_IDS}\n")
        os.write(tell_mapped, b".")
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF)


def _made_root(plan: Plan) -> Path:
    """The container's root, the image's part of it read-only, belonging to the container's root user."""
    _mount("", "/", "", _MS_REC | _MS_PRIVATE)
    root = Path("/mnt")  # covered for this namespace alone
    image = {*map(Path, _SYSTEM), _REPOSITORY, Path(sys.prefix), Path(sys.base_prefix)}
    image |= {Path(entry).resolve() for entry in sys.path if entry and os.path.isdir(entry)}
    sources = [Mount(str(path), str(path)) for path in sorted(image) if path.exists()]
    # Opened first: what is mounted over them afterwards does not hide them.
    opened = [(os.open(mount.source, os.O_PATH), mount) for mount in (*sources, *plan.mounts)]
    _mount("tmpfs", str(root), "tmpfs", 0, "mode=755")
    made = {root / "proc"}
    for source, mount in opened:
        target = root / mount.target.lstrip("/")
        made.update(target.parents)
        if os.path.isdir(f"/proc/self/fd/{source}"):
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        _mount(f"/proc/self/fd/{source}", str(target), "", _MS_BIND | _MS_REC)
        if mount.read_only:
            _mount("", str(target), "", _MS_REMOUNT | _MS_BIND | _MS_RDONLY)
        os.close(source)
    (root / "proc").mkdir()
    for directory in made:
        if os.stat(directory).st_dev == os.stat(root).st_dev:  # no part of a mount
            os.chown(directory, plan.first_uid or 0, plan.first_uid or 0)
    return root


def _close(root: Path) -> None:
    """The last mounts, from within the namespace of processes."""
    _mount("proc", str(root / "proc"), "proc", 0)
    _mount("", str(root), "", _MS_REMOUNT | _MS_BIND | _MS_RDONLY)


def _become(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # forgotten when the ids change


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    _call("mount", source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())


def _call(name: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{name} {arguments}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main()
