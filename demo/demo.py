"""The whole way of a module, live: exported, packed, served over HTTP, fetched by hubd, loaded, called.

Law: everything lies in one temporary directory, nothing of the user's is touched, and whatever was started is
stopped, after a failure or Ctrl-C too.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
STOP_TIMEOUT_SECONDS = 10


def main() -> int:
    # SIGTERM ends the demo as Ctrl-C does: by unwinding, so that all is cleaned up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with temporary_home() as home:
            demonstrate(home)
    except KeyboardInterrupt:
        say("Interrupted; everything was stopped and removed.")
        return 130
    except (OSError, RuntimeError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


def demonstrate(home: Path) -> None:
    environment = own_environment(home)

    say("A publisher exports a SavedModel with TensorFlow, packs it, and puts the archive on any web server.")
    site = home / "site"
    (site / "demo/half-plus-two").mkdir(parents=True)
    run("python", "demo/export_model.py", home / "model", env=environment, quiet=True)
    run("tar", "-C", home / "model", "-czf", site / "demo/half-plus-two/1", ".", env=environment)
    with web_server(site, home / "web.log") as address, daemon_stopped_in_the_end(home / "cache"):
        handle = f"{address}/demo/half-plus-two/1"

        say("A user gets it by its handle. No daemon runs yet: hubctl starts one for this user.")
        run("hubctl", "get", handle, env=environment)

        say("A second get is a hit: same path, no transfer.")
        run("hubctl", "get", handle, env=environment)

        say("A program loads it by the same handle (demo/use_model.py) and calls its signature: x / 2 + 2.")
        run("python", "demo/use_model.py", handle, env=environment, quiet=True)

        say("What the cache holds:")
        run("hubctl", "ls", env=environment)

        say("What the web server saw, all in all:")
        print((home / "web.log").read_text(), end="", flush=True)
    say("Done. The daemon and the web server were stopped; the temporary cache goes now.")


def own_environment(home: Path) -> dict[str, str]:
    """The caller's environment, with every place that hubd would use moved below `home`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HUBD_", "TFHUB_"))}
    (home / "runtime").mkdir(mode=0o700)
    return environment | {
        "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "TFHUB_CACHE_DIR": str(home / "cache"),
        "XDG_RUNTIME_DIR": str(home / "runtime"),
        "XDG_STATE_HOME": str(home / "state"),
        "CUDA_VISIBLE_DEVICES": "-1",
    }


def say(text: str) -> None:
    print(f"\n# {text}", flush=True)


def run(*command: str | Path, env: dict[str, str], quiet: bool = False) -> None:
    """Show the command, run it, and fail with it. `quiet`: what it says on stderr is shown only if it fails."""
    print(f"$ {shlex.join(map(str, command))}", flush=True)
    program = shutil.which(str(command[0]), path=env["PATH"])
    if program is None:
        raise RuntimeError(f"{command[0]} is not installed")
    finished = subprocess.run(
        [program, *command[1:]],
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE if quiet else None,
        check=False,
    )
    if finished.returncode != 0:
        sys.stderr.buffer.write(finished.stderr or b"")
        raise RuntimeError(f"{command[0]} failed with status {finished.returncode}")


@contextlib.contextmanager
def temporary_home() -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="hubd-demo-"))
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def web_server(site: Path, log: Path) -> Iterator[str]:
    """Python's own file server on a free loopback port; it ignores the query ``?tf-hub-format=compressed``."""
    command = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(site), "0"]
    print(f"$ {shlex.join(['python', *command[1:]])} &", flush=True)
    with log.open("w") as log_file:
        # In a session of its own: Ctrl-C reaches the demo, which stops the server when it no longer needs it.
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log_file,
            text=True,
            start_new_session=True,
        )
    try:
        assert server.stdout is not None
        greeting = server.stdout.readline()  # Serving HTTP on 127.0.0.1 port 43615 (http://127.0.0.1:43615/) ...
        if "port " not in greeting:
            raise RuntimeError(f"the web server did not start: {log.read_text()}")
        yield f"http://127.0.0.1:{greeting.split('port ')[1].split()[0]}"
    finally:
        server.terminate()
        server.wait(STOP_TIMEOUT_SECONDS)


@contextlib.contextmanager
def daemon_stopped_in_the_end(cache: Path) -> Iterator[None]:
    try:
        yield
    finally:
        stop_daemon(cache)


def stop_daemon(cache: Path) -> None:
    """Stop the daemon that holds the cache, and wait until it is gone. It is nobody's child, hence the pidfd."""
    try:
        pid = int(json.loads((cache / "daemon.lock").read_text())["pid"])
        process = os.pidfd_open(pid)
    except (OSError, ValueError, KeyError):
        return  # it never started, or has ended
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, number)
            if select.select([process], [], [], STOP_TIMEOUT_SECONDS)[0]:
                return
    finally:
        os.close(process)


if __name__ == "__main__":
    sys.exit(main())
