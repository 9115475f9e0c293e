"""The command line: ``hubd run`` (the default), ``host``, ``check-config``, ``install`` and ``uninstall``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace

from hubclient.contract import places
from hubclient.contract.errors import HubError
from hubd import __version__, config, logs


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; the exit code is 0 (done), 1 (failed) or 2 (usage, or a bad configuration)."""
    if sys.stderr is None:  # it was closed, and its number is the next file's: one of the cache, else
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help", "--version")):
        given.insert(0, "run")
    options = _parser().parse_args(given)
    try:
        match options.command:
            case "host":
                return _host(options)
            case "check-config":
                return _check_config(options)
            case "install" | "uninstall":
                return _install(options)
        return _run(options)
    except (config.ConfigError, HubError) as error:
        logs.complain(error)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hubd",
        description="Owns this machine's cache of TensorFlow Hub modules.",
        epilog="See also: hubctl --help",
    )
    parser.add_argument("--version", action="version", version=f"hubd {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="run the daemon (the default)",
        description="Runs the daemon until SIGTERM or Ctrl-C. Without --user it is the machine's service: cache "
        f"{places.SERVICE_CACHE}, socket {places.SERVICE_SOCKET}.",
    )
    run.add_argument("--config", metavar="FILE", help="settings (TOML); default: $HUBD_CONFIG, else the usual place")
    run.add_argument("--user", action="store_true", help="a daemon for this user alone, with a cache of its own")
    run.add_argument("--cache-dir", metavar="DIR", help="the cache; default: cache.dir, else $TFHUB_CACHE_DIR")
    run.add_argument("--socket", metavar="PATH", help="where to listen; default: api.socket, else $HUBD_SOCKET")
    host = commands.add_parser(
        "host",
        help="serve modules to others over HTTP",
        description="Serves DIR/<publisher>/<model>/<version>, SavedModels or <version>.tar.gz, over the TF Hub "
        "protocol, with a page about each. New versions appear when they are renamed into place.",
    )
    host.add_argument("root", metavar="DIR", help="the modules")
    host.add_argument("--listen", metavar="ADDRESS", default="127.0.0.1:8501", help="default: %(default)s")
    host.add_argument("--base-url", metavar="URL", help="where clients reach it, as when a proxy is in front")
    host.add_argument("--cache-dir", metavar="DIR", help="where packed archives are kept; default: below ~/.cache")
    check = commands.add_parser(
        "check-config",
        help="check a configuration file",
        description="Says whether a daemon would take a configuration, and what is wrong with it. Nothing is changed.",
    )
    check.add_argument("file", metavar="FILE")
    check.add_argument("--user", action="store_true", help="check it as a per-user daemon's")
    install = commands.add_parser(
        "install",
        help="install this machine's service, or upgrade it",
        description="Installs the service for systemd, with a socket that outlives restarts, and starts it. To install "
        "again is to upgrade.",
    )
    install.add_argument("--system", action="store_true", required=True, help="for all users of this machine")
    install.add_argument("--no-start", action="store_true", help="start it with the next boot only")
    install.add_argument("--prefix", metavar="DIR", help="only write the files below DIR, as a package has them")
    install.add_argument("--program", metavar="PATH", help="the hubd that the service runs; default: this one")
    uninstall = commands.add_parser(
        "uninstall",
        help="remove this machine's service",
        description="Stops and removes the service. The cache, the configuration and the user hubd are left.",
    )
    uninstall.add_argument("--system", action="store_true", required=True, help="for all users of this machine")
    uninstall.add_argument("--purge", action="store_true", help="also remove the cache, the configuration and the user")
    return parser


def _install(options: argparse.Namespace) -> int:
    from hubd import installing

    try:
        if options.command == "install":
            installing.install(options.prefix, options.program, start=not options.no_start)
        else:
            installing.uninstall(purge=options.purge)
    except (installing.InstallError, OSError) as error:
        print(f"hubd: {error}", file=sys.stderr)
        return 1
    return 0


def _host(options: argparse.Namespace) -> int:
    import asyncio

    from hubd.publishing import hosting

    logs.apply(config.LogSettings())
    cache_dir = options.cache_dir or hosting.usual_cache_dir(options.root, os.environ)
    try:
        terms = hosting.checked(hosting.Terms(options.root, cache_dir, options.listen, options.base_url))
        asyncio.run(hosting.serve(terms))
    except hosting.HostUnusable as error:
        logs.complain(error)
        return 1
    return 0


def _check_config(options: argparse.Namespace) -> int:
    from hubd.network.tls import Trust

    is_draft = os.path.abspath(options.file) != config.SERVICE_FILE
    settings = config.load(options.file, user=options.user, is_draft=is_draft)
    Trust(
        settings.network.ca_bundle
    )  # the start would fail with it; files of credentials may be closed to whoever asks
    print(f"{options.file}: ok")
    return 0


def _run(options: argparse.Namespace) -> int:
    # Imported here, so that --help and a bad file answer at once.
    import asyncio
    import faulthandler

    from hubd import systemd
    from hubd.api.listening import SocketUnusable, path_of
    from hubd.objects import standard_places
    from hubd.reload import Source
    from hubd.service import serve
    from hubd.store.adoption import CacheUnusable

    faulthandler.enable()  # a daemon that hung, and that systemd aborts, says where
    environ = standard_places.take(os.environ)
    named = options.config or environ.get("HUBD_CONFIG")
    source = Source(
        os.path.abspath(named or config.usual_file(environ, user=options.user)),
        is_named=bool(named),
        user=options.user,
        environ=environ,
        cache_dir=options.cache_dir,
        socket=options.socket,
    )
    settings, place = source.load()
    logs.apply(settings.log)
    try:
        if (passed := systemd.listening_socket()) is not None:
            source = replace(source, socket=path_of(passed))
            stated, place = place, source.load()[1]
            if (options.socket or settings.api.socket) and stated.socket != place.socket:
                logging.warning("the socket is %s, which was passed on, and not %s", place.socket, stated.socket)
        asyncio.run(serve(source, settings, place, passed))
    except (CacheUnusable, SocketUnusable, systemd.Unusable) as error:
        logs.complain(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
