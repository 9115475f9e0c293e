"""``hubd install --system`` and ``hubd uninstall --system``: the service on this machine.

Law: to install again is to upgrade, and changes only what differs; the configuration, the cache and the user are never
replaced, and only a purge removes them.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

import hubclient.contract
from hubclient.contract import places
from hubd import config, unit_files
from hubd.store.layout import StoreLayout
from hubd.unit_files import SYSTEM, UNITS

USER = "hubd"

_BOOTED = "/run/systemd/system"  # sd_booted(3)
# ProtectHome=yes and PrivateTmp=yes: the service sees nothing of these.
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108
_COMMAND_SECONDS = 400.0  # a start may take TimeoutStartSec


class InstallError(Exception):
    """The service cannot be installed or removed so; the text says why and what to do."""


def install(prefix: str | None, program: str | None, *, start: bool) -> None:
    """Installs the service, or upgrades it. `prefix`: only writes files, as a package holds them. `program`: what the
    unit starts; None: this installation's hubd. Raises `InstallError`, and `ConfigError` for a configuration that would
    keep the service from starting."""
    if program is not None and not os.path.isabs(program):
        raise InstallError(
            f"{program} is no absolute path, and systemd starts nothing else: --program /usr/bin/hubd, say"
        )
    command = [program] if program is not None else own_program()
    if prefix is not None:
        to = unit_files.below(os.path.abspath(prefix))
        write_files({**unit_files.service_files(to, command), to.config: unit_files.first_config()})
        return
    _require_root("install")
    is_booted = require_systemd(needed=start)
    require_reachable([program] if program is not None else _own_files(command))
    for fault in _foreign_pens(command[0]):
        _say(f"warning: {fault}, and so could change what the service runs")
    if os.path.exists(SYSTEM.config):
        config.load(SYSTEM.config, user=False)
    changed = write_files(unit_files.service_files(SYSTEM, command))
    _run("systemd-sysusers", f"{SYSTEM.sysusers}/hubd.conf")
    _run("systemd-tmpfiles", "--create", f"{SYSTEM.tmpfiles}/hubd.conf")
    if not os.path.exists(SYSTEM.config):
        write_files({SYSTEM.config: unit_files.first_config()})
    if is_booted:
        _run("systemctl", "daemon-reload")
    _run("systemctl", "enable", *UNITS)
    if not start:
        _say("the service starts with the next boot, or by: systemctl start hubd")
        return
    if f"{SYSTEM.units}/hubd.socket" in changed:
        _run("systemctl", "stop", *reversed(UNITS))  # else it goes on listening as before
    _run("systemctl", "start", "hubd.socket")
    _run("systemctl", "restart", "hubd.service", remedy="journalctl -u hubd -n 20 says why")
    _say("the service runs; systemctl status hubd, or hubctl status, shows how it is")


def uninstall(*, purge: bool) -> None:
    """Stops and removes the service. `purge`: also its cache, its configuration and its user. Raises `InstallError`,
    and `ConfigError` for a configuration that does not say where the cache is."""
    _require_root("uninstall")
    is_booted = require_systemd(needed=False)
    caches = _caches() if purge else set()  # before anything is gone
    installed = [path for path in unit_files.service_files(SYSTEM, ["hubd"]) if os.path.lexists(path)]
    if not installed and not purge:  # what is in /run/hubd is somebody else's, such as a container's
        _say("there is no service to remove; --purge removes what one may have left")
        return
    if any(path.startswith(SYSTEM.units) for path in installed):
        _run("systemctl", "disable", *(["--now"] if is_booted else []), *reversed(UNITS))
    # As long as it is there, clients ask the service, and start no daemon of their own.
    shutil.rmtree(places.SERVICE_DIR, ignore_errors=True)
    for path in installed:
        os.unlink(path)
        _say(f"removed {path}")
    if is_booted:
        _run("systemctl", "daemon-reload")
    if not purge:
        _say(f"left: the cache, {os.path.dirname(SYSTEM.config)} and the user {USER}; --purge removes them too")
        return
    for cache in caches:
        purge_cache(cache)
    for directory in (
        os.path.dirname(SYSTEM.config),
        f"{SYSTEM.units}/hubd.service.d",
        f"{SYSTEM.units}/hubd.socket.d",
    ):
        if os.path.isdir(directory):
            shutil.rmtree(directory)
            _say(f"removed {directory}")
    _remove_user()


def own_program() -> list[str]:
    """The command that runs now, by a path that will find it again."""
    path = os.path.abspath(sys.argv[0])
    return [path] if os.path.basename(path) == "hubd" else [sys.executable, "-P", "-m", "hubd"]


def require_systemd(*, needed: bool, booted: str = _BOOTED) -> bool:
    """Whether systemd runs this machine. Raises `InstallError` when it does not, and must."""
    if os.path.isdir(booted):
        return True
    if needed:
        raise InstallError(
            f"systemd does not run this machine ({booted} is missing): with --no-start the service is installed for a "
            "boot with systemd, and --prefix DIR only writes its files. Without systemd, have `hubd run` started by "
            "whatever starts services here"
        )
    return False


def require_reachable(paths: Sequence[str]) -> None:
    """Raises `InstallError` if the service's user could not read or run one of these files."""
    for path in dict.fromkeys((*paths, *map(os.path.realpath, paths))):
        hidden = next((place for place in _HIDDEN if path.startswith(place + "/")), None)
        if hidden is not None:
            raise InstallError(f"{path} lies below {hidden}, of which the service sees nothing: {_ELSEWHERE}")
        directory = path
        while directory != "/":
            try:
                mode = os.stat(directory).st_mode
            except OSError as error:
                raise InstallError(f"{directory}: {error.strerror}") from error
            if not mode & (stat.S_IXOTH if directory != path or stat.S_ISDIR(mode) else stat.S_IROTH):
                raise InstallError(f"{directory} is closed to the service's user: open it to all, or {_ELSEWHERE}")
            directory = os.path.dirname(directory)


_ELSEWHERE = "install hubd where every user can run it, such as by python3 -m venv /opt/hubd"


def write_files(files: Mapping[str, str]) -> set[str]:
    """Writes what differs from what is there, each file whole or not at all; the paths that it wrote."""
    written = set()
    for path, text in files.items():
        try:
            with suppress(FileNotFoundError), open(path, "rb") as there:
                if there.read() == text.encode():
                    continue
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            new = f"{path}.new"
            with suppress(FileNotFoundError):
                os.unlink(new)
            with open(new, "x", encoding="utf-8") as file:
                file.write(text)
                os.fchmod(file.fileno(), 0o644)
            os.replace(new, path)
        except OSError as error:
            raise InstallError(f"{path} cannot be written: {error.strerror}") from error
        written.add(path)
        _say(f"wrote {path}")
    return written


def purge_cache(root: str) -> None:
    """Removes a cache, and of its directory only what is hubd's."""
    layout = StoreLayout(root)
    if not os.path.isfile(layout.version_file):
        with suppress(OSError):
            os.rmdir(root)  # where it is empty: what nobody has used
        return
    try:
        for directory in filter(os.path.lexists, layout.directories):
            shutil.rmtree(directory)
        for path in (layout.cachedir_tag, layout.daemon_lock, layout.version_file):  # by which it is known, last
            with suppress(FileNotFoundError):
                os.unlink(path)
        os.rmdir(root)
        _say(f"removed {root}")
    except OSError as error:  # such as a link that the service's user has put there: it is not followed
        _say(f"left {root}: {error.strerror or error}")


def _require_root(command: str) -> None:
    if os.geteuid() != 0:
        raise InstallError(f"only root can do that: sudo {' '.join(own_program())} {command} --system")


def _own_files(command: Sequence[str]) -> list[str]:
    """What must be readable for this installation to run: the program, the interpreter, the code of both packages."""
    return [command[0], sys.executable, __file__, str(hubclient.contract.__file__)]


def _foreign_pens(program: str) -> list[str]:
    path = os.path.realpath(program)
    fault = places.fault_of_ancestors(path, (0,))
    status = os.stat(path)
    if status.st_uid != 0:
        fault = f"{path} belongs to uid {status.st_uid}"
    return [fault] if fault is not None else []


def _caches() -> set[str]:
    """The one that the configuration names, and the unit's `CacheDirectory`, which systemd makes in any case."""
    settings = config.load(SYSTEM.config if os.path.exists(SYSTEM.config) else None, user=False)
    return {settings.cache.dir or places.SERVICE_CACHE, places.SERVICE_CACHE}


def _remove_user() -> None:
    if subprocess.run(["getent", "passwd", USER], capture_output=True, check=False).returncode == 0:
        _run("userdel", USER)
        _say(f"removed the user {USER}")


def _run(*command: str, remedy: str = "") -> None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=_COMMAND_SECONDS
        )
    except FileNotFoundError:
        raise InstallError(f"{command[0]} is missing on this machine: the service needs systemd") from None
    except subprocess.TimeoutExpired:
        raise InstallError(f"`{' '.join(command)}` did not end within {_COMMAND_SECONDS:.0f} s") from None
    if done.returncode != 0:
        said = " ".join(done.stderr.split())
        raise InstallError(f"`{' '.join(command)}` failed: {said}" + (f"; {remedy}" if remedy else ""))


def _say(text: str) -> None:
    print(text, flush=True)
