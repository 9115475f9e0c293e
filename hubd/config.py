"""The daemon's settings: frozen, read from TOML, checked as a whole.

Law: a setting that nobody reads does not exist here, and an unknown key is an error that names the nearest known one.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    StrictBool,
    ValidationError,
    model_validator,
)

from hubclient.contract import handles, places
from hubclient.contract.errors import HandleInvalid
from hubd import config_access, config_urls, trusted
from hubd.config_stores import CredentialSettings, FleetSettings, ObjectStoreSettings, longest
from hubd.config_values import GB, KB, MB, AbsolutePath, Rate, Seconds, Section, Share, Size, Timeout

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class ConfigError(Exception):
    """A configuration that cannot be used; the text names the file, the key and the remedy."""


HostPattern = Annotated[str, BeforeValidator(config_urls.host_pattern)]
Network = IPv4Network | IPv6Network
Uid = Annotated[int, BeforeValidator(config_access.uid)]
Gid = Annotated[int, BeforeValidator(config_access.gid)]

KAGGLE_URL = f"https://{handles.KAGGLE_HOST}"

SERVICE_FILE = "/etc/hubd/config.toml"
#: Where the service looks for prefetch files, if it is there.
PREFETCH_DIR = "/etc/hubd/prefetch.d"


class CacheSettings(Section):
    dir: AbsolutePath | None = None
    allow_network_filesystem: bool = False
    keep_partial: Seconds = 86400.0
    max_size: Size | None = None
    min_free: Size | None = None  # None: the smaller of 5 GB and 5 % of the file system
    high_water: Share = 0.95
    low_water: Share = 0.85

    @model_validator(mode="after")
    def _ordered(self) -> CacheSettings:
        if self.low_water > self.high_water:
            raise ValueError("low_water must not be above high_water")
        return self


class ApiSettings(Section):
    socket: AbsolutePath | None = None
    idle_exit: Seconds | None = None
    connections: Annotated[int, Field(ge=1)] = 4096


def _networks_and_hosts(value: object) -> object:
    """True, false, or a list of networks ("10.1.0.0/16") and host names."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, list | tuple) or not all(isinstance(entry, str) for entry in value):
        raise ValueError('must be true, false, or a list of networks and hosts, such as ["10.1.0.0/16", "models.lan"]')
    return tuple(
        ip_network(entry) if _looks_like_an_address(entry) else config_urls.host_pattern(entry) for entry in value
    )


def _looks_like_an_address(entry: str) -> bool:
    return re.fullmatch(r"[0-9./]+|[0-9a-fA-F:./]*:[0-9a-fA-F:./]*", entry) is not None


class NetworkSettings(Section):
    allowed_hosts: tuple[HostPattern, ...] = ()
    allow_http: bool = False
    allow_private_addresses: Annotated[bool | tuple[Network | str, ...], BeforeValidator(_networks_and_hosts)] = False
    concurrent_fetches: Annotated[int, Field(ge=1, le=64)] = 4
    connections_per_fetch: Annotated[int, Field(ge=1, le=64)] = 8
    connections_per_host: Annotated[int, Field(ge=1, le=256)] = 16
    connect_timeout: Timeout = 10.0
    stall_timeout: Timeout = 60.0
    min_rate: Rate = 1 * KB
    max_rate: Annotated[Rate, Field(gt=0)] | None = None
    prefetch_max_rate: Annotated[Rate, Field(gt=0)] | None = None
    retries: Annotated[int, Field(ge=0, le=100)] = 4
    negative_ttl: Seconds = 10.0
    revalidate_after: Seconds = 86400.0
    offline: bool = False
    proxy: Annotated[str, BeforeValidator(config_urls.proxy_url)] | None = None
    proxy_credentials_file: AbsolutePath | None = None
    no_proxy: tuple[HostPattern, ...] = ()
    ca_bundle: AbsolutePath | None = None

    @model_validator(mode="after")
    def _has_proxy(self) -> NetworkSettings:
        if self.proxy is None and (self.proxy_credentials_file is not None or self.no_proxy):
            raise ValueError("proxy_credentials_file and no_proxy mean nothing without proxy")
        return self


class HostSettings(Section):
    """What holds for one host."""

    name: Annotated[str, BeforeValidator(config_urls.host_name)]
    verify: StrictBool = True
    format: Literal["compressed", "uncompressed"] = "compressed"


def _some(urls: tuple[str, ...]) -> tuple[str, ...]:
    if not urls:
        raise ValueError("must name at least one place")
    return urls


class Mirror(Section):
    """Where modules may be had in place of their own origin."""

    match: Annotated[str, BeforeValidator(config_urls.handle_prefix)]
    urls: Annotated[tuple[Annotated[str, BeforeValidator(config_urls.mirror_url)], ...], AfterValidator(_some)]


class LimitSettings(Section):
    archive: Size = 20 * GB
    module: Size = 40 * GB
    files: Annotated[int, Field(ge=1)] = 100_000
    depth: Annotated[int, Field(ge=1, le=256)] = 32
    path: Size = 1 * KB
    unpack_memory: Size = 512 * MB
    unpack_time: Seconds = 1800.0
    user_fetches: Annotated[int, Field(ge=1)] = 64
    user_prefetches: Annotated[int, Field(ge=1)] = 1000
    user_bytes: Annotated[Size, Field(gt=0)] | None = None


class AccessSettings(Section):
    """Who may do what, beside root and the daemon's own user, who may do everything."""

    users: tuple[Uid, ...] = ()
    groups: tuple[Gid, ...] = ()
    admin_users: tuple[Uid, ...] = ()
    admin_groups: tuple[Gid, ...] = Field(default_factory=config_access.admin_groups)

    @property
    def is_restricted(self) -> bool:
        """Whether only some may ask for modules."""
        return bool(self.users or self.groups)


def _base_url(value: str) -> str:
    with suppress(HandleInvalid):
        if "?" not in value and not handles.is_kaggle(value):
            return handles.canonical(value).rstrip("/")
    raise ValueError(f'must be a URL such as "{KAGGLE_URL}"')


class KaggleSettings(Section):
    url: Annotated[str, AfterValidator(_base_url)] = KAGGLE_URL


class PrefetchSettings(Section):
    dir: AbsolutePath | None = PREFETCH_DIR


class MetricsSettings(Section):
    listen: Annotated[str, BeforeValidator(config_urls.listen_address)] | None = None


class WebSettings(Section):
    """The dashboard's. `hosts`: by which names browsers may ask for it, beside those of this machine itself."""

    listen: Annotated[str, BeforeValidator(config_urls.listen_address)] | None = None
    hosts: tuple[HostPattern, ...] = ()
    allow_remote: StrictBool = False

    @model_validator(mode="after")
    def _is_for_this_machine(self) -> WebSettings:
        if self.listen is not None and not (self.allow_remote or config_urls.is_loopback(self.listen)):
            raise ValueError(
                f"listen: whoever reaches {self.listen} could read the page: name a port of 127.0.0.1, or say so by "
                "allow_remote = true"
            )
        return self


class LogSettings(Section):
    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(Section):
    """All that can be set, each value checked, times in seconds and sizes in bytes."""

    cache: CacheSettings = CacheSettings()
    api: ApiSettings = ApiSettings()
    network: NetworkSettings = NetworkSettings()
    limits: LimitSettings = LimitSettings()
    access: AccessSettings = AccessSettings()
    credential: tuple[CredentialSettings, ...] = ()
    kaggle: KaggleSettings = KaggleSettings()
    prefetch: PrefetchSettings = PrefetchSettings()
    metrics: MetricsSettings = MetricsSettings()
    web: WebSettings = WebSettings()
    log: LogSettings = LogSettings()
    host: tuple[HostSettings, ...] = ()
    mirror: tuple[Mirror, ...] = ()
    fleet: FleetSettings = FleetSettings()
    object_store: tuple[ObjectStoreSettings, ...] = ()

    @model_validator(mode="after")
    def _verified(self) -> Settings:
        if (self.network.proxy or "").startswith("https:") and not all(host.verify for host in self.host):
            raise ValueError("an https:// proxy excludes hosts with verify = false: it would not be verified either")
        return self

    @model_validator(mode="after")
    def _one_for_each_host(self) -> Settings:
        _no_two("credential: two entries for one host", (entry.host for entry in self.credential))
        _no_two("credential: two entries for one store", (entry.store for entry in self.credential))
        _no_two("object_store: two entries for one match", (entry.match for entry in self.object_store))
        _no_two("host: two entries for one name", (entry.name for entry in self.host))
        return self

    @model_validator(mode="after")
    def _reaches_the_fleet(self) -> Settings:
        store = self.fleet.store or ""
        if store.startswith("az://") and longest(((e.match, e) for e in self.object_store), store) is None:
            raise ValueError(
                f"fleet: store: az:// needs an [[object_store]] that matches {store} and names its account"
            )
        return self


def _no_two(complaint: str, names: Iterable[str | None]) -> None:
    stated = [name for name in names if name is not None]
    if len({*stated}) < len(stated):
        raise ValueError(complaint)


# A per-user daemon can reach nothing that its user cannot, so these guard nothing there.
USER_DEFAULTS: dict[str, dict[str, Any]] = {
    "api": {"idle_exit": "15min"},
    "network": {"allow_http": True, "allow_private_addresses": True},
    "prefetch": {"dir": None},
}


def usual_file(environ: Mapping[str, str], *, user: bool) -> str:
    """Where the configuration is when nobody names a file; it need not be there."""
    home = environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return f"{home}/hubd/config.toml" if user else SERVICE_FILE


def load(file: str | None, *, user: bool, is_draft: bool = False) -> Settings:
    """The settings that a TOML file states (None: all defaults), for a system service or a per-user daemon.

    The service's must be root's or the daemon's own, and others may not write to it; a draft is anybody's. Raises
    `ConfigError`, whose text has a line for each mistake.
    """
    stated: dict[str, Any] = {}
    if file is not None:
        try:
            with open(file, "rb") as opened:
                if not (user or is_draft) and (fault := trusted.fault(os.fstat(opened.fileno()))) is not None:
                    raise ConfigError(f"{file}: {fault}")
                stated = tomllib.load(opened)
        except OSError as error:
            raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file}: is no TOML: {error}") from None
    merged = dict(stated)
    for section, values in USER_DEFAULTS.items() if user else ():
        if isinstance(stated.get(section, {}), dict):
            merged[section] = {**values, **stated.get(section, {})}
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        raise ConfigError("\n".join(_complaint(file or "defaults", e["loc"], e) for e in error.errors())) from None
    if user and settings.access != AccessSettings():
        raise ConfigError(f"{file}: access: a user's own daemon is for that user and root alone: remove the section")
    return settings


def with_environ(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """The settings, offline also if ``HUBD_OFFLINE`` says so."""
    if environ.get("HUBD_OFFLINE", "0") in ("", "0"):
        return settings
    return settings.model_copy(update={"network": settings.network.model_copy(update={"offline": True})})


@dataclass(frozen=True)
class Place:
    """Where a daemon lives. `user`: it serves its own user alone. `is_usual`: the cache is where it is unless told."""

    cache: str
    socket: str
    user: bool
    is_usual: bool = False


def locate(
    settings: Settings, environ: Mapping[str, str], *, user: bool, cache_dir: str | None, socket: str | None
) -> Place:
    """The cache and the socket: what the command line says, else the settings, the environment, the usual place."""
    default_cache = places.user_cache(environ) if user else places.SERVICE_CACHE
    cache = os.path.abspath(cache_dir or settings.cache.dir or places.explicit_cache(environ) or default_cache)
    default_socket = places.user_socket(cache, environ) if user else places.SERVICE_SOCKET
    socket = os.path.abspath(socket or settings.api.socket or environ.get("HUBD_SOCKET") or default_socket)
    return Place(cache, socket, user, is_usual=cache == os.path.abspath(default_cache))


def _complaint(file: str, location: tuple[int | str, ...], error: ErrorDetails) -> str:
    key = ".".join(str(part) for part in location if not str(part).startswith(("function-", "tuple[", "bool")))
    plain_key = ".".join(part for part in key.split(".") if not part.isdigit())  # [[section]]s are numbered
    if error["type"] != "extra_forbidden":
        return f"{file}: {f'{key}: ' if key else ''}{_what_is_wrong(key, error)}"
    known = [f"{section}.{name}" for section, model in _sections().items() for name in model.model_fields]
    known += _sections() if len(location) == 1 else []
    # The last part counts most: "network.stall" is nearer to "network.stall_timeout" than to another section's key
    nearest = difflib.get_close_matches(plain_key, known, n=1, cutoff=0.5)
    hint = f'; did you mean "{nearest[0]}"?' if nearest else ""
    return f'{file}: unknown key "{key}"{hint}'


def _what_is_wrong(key: str, error: ErrorDetails) -> str:
    is_section = key in _sections()
    match error["type"]:
        case "tuple_type":
            return f"may be there several times: write [[{key}]]" if is_section else "must be a list, in [brackets]"
        case "model_type" if is_section:
            return f"must be a section: write [{key}]"
        case "missing":
            return "is missing"
    return error["msg"].removeprefix("Value error, ")


def _sections() -> dict[str, type[BaseModel]]:
    """Those that are given once, and those that are lists."""
    models = {
        name: get_args(field.annotation)[0] if get_origin(field.annotation) is tuple else field.annotation
        for name, field in Settings.model_fields.items()
    }
    return {name: model for name, model in models.items() if isinstance(model, type) and issubclass(model, BaseModel)}
