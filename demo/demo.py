"""The whole way of a module, live: exported, published, hosted, fetched by hubd, loaded, called.

Law: everything lies in one temporary directory, nothing of the user's is touched, and whatever was started is
stopped, after a failure or Ctrl-C too.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
NAME = "demo/half-plus-two/1"
START_TIMEOUT_SECONDS = 20
STOP_TIMEOUT_SECONDS = 10


def main() -> int:
    # SIGTERM ends the demo as Ctrl-C does: by unwinding, so that all is cleaned up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with temporary_home() as home:
            demonstrate(home, stay="--stay" in sys.argv[1:])
    except KeyboardInterrupt:
        say("Interrupted; everything was stopped and removed.")
        return 130
    except (OSError, RuntimeError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


def demonstrate(home: Path, *, stay: bool) -> None:
    environment = own_environment(home)

    say("A publisher exports a SavedModel with TensorFlow, and writes down what it is.")
    run("python", "demo/export_model.py", home / "model", env=environment, quiet=True)
    run("cp", "demo/half-plus-two.md", home / "model/README.md", env=environment)

    say("hubctl publish checks it, packs it, and moves it to where a host serves it.")
    models = home / "models"
    models.mkdir()
    run("hubctl", "publish", home / "model", NAME, "--to", models, env=environment)

    say("hubd host serves it: the archive to programs, and a page about it to people.")
    with host(models, home, environment) as address, daemon_stopped_in_the_end(home / "cache"):
        handle = f"{address}/{NAME}"

        say("A user gets it by its handle. No daemon runs yet: hubctl starts one for this user.")
        run("hubctl", "get", handle, env=environment)

        say("A second get is a hit: same path, no transfer.")
        run("hubctl", "get", handle, env=environment)

        say("A program loads it by the same handle (demo/use_model.py) and calls its signature: x / 2 + 2.")
        run("python", "demo/use_model.py", handle, env=environment, quiet=True)

        say("What the cache holds:")
        run("hubctl", "ls", env=environment)

        say("What the host saw, but for this demo's own looks whether the module is there yet:")
        seen = (home / "host.log").read_text().splitlines(keepends=True)
        print(*(line for line in seen if ": HEAD /" not in line), sep="", end="", flush=True)
        if stay:
            say(f"Its page is {handle}, and all modules are at {address}/. Ctrl-C ends the demo.")
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
    say("Done. The daemon and the host were stopped; the temporary cache goes now.")


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
def host(models: Path, home: Path, env: dict[str, str]) -> Iterator[str]:
    """`hubd host` on a free loopback port, from when it has the module until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    command = ["hubd", "host", str(models), "--listen", listen]
    print(f"$ {shlex.join(command)} &", flush=True)
    with (home / "host.log").open("w") as log:
        # In a session of its own: Ctrl-C reaches the demo, which stops the host when it no longer needs it.
        server = subprocess.Popen(
            [str(BIN / "hubd"), *command[1:], "--cache-dir", str(home / "host")],
            env=env,
            stdin=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not answers(listen, f"/{NAME}"):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"hubd host did not start: {(home / 'host.log').read_text()}")
            time.sleep(0.05)
        yield f"http://{listen}"
    finally:
        server.terminate()
        server.wait(STOP_TIMEOUT_SECONDS)


def answers(address: str, path: str) -> bool:
    connection = http.client.HTTPConnection(address, timeout=STOP_TIMEOUT_SECONDS)
    try:
        connection.request("HEAD", path)
        return connection.getresponse().status == 200
    except OSError:  # nobody listens yet
        return False
    finally:
        connection.close()


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
