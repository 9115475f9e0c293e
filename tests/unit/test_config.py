"""Settings: units, defaults of the two kinds of daemon, and mistakes that are told precisely."""

from __future__ import annotations

import grp
import os
import pwd
from ipaddress import ip_network
from pathlib import Path
from typing import get_args, get_origin

import pytest

from hubd import config
from hubd.__main__ import main
from hubd.config import ConfigError
from tests.support import uids


def load(tmp_path: Path, text: str, *, user: bool = False) -> config.Settings:
    file = tmp_path / "hubd.toml"
    file.write_text(text)
    return config.load(str(file), user=user)


def test_the_example_states_the_defaults() -> None:
    example = Path(__file__).parents[2] / "config.example.toml"
    assert config.load(str(example), user=False, is_draft=True) == config.Settings()


def test_the_example_documents_every_setting() -> None:
    text = (Path(__file__).parents[2] / "config.example.toml").read_text()
    for section, field in config.Settings.model_fields.items():
        assert f"[{section}]" in text
        model = get_args(field.annotation)[0] if get_origin(field.annotation) is tuple else field.annotation
        assert model is not None
        for name in model.model_fields:
            assert f"\n{name} = " in text or f"\n# {name} = " in text, f"{section}.{name}"


def test_an_unknown_key_names_file_key_and_the_nearest_known_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, '[network]\nstal_timeout = "1s"\n')
    assert str(caught.value) == (
        f'{tmp_path}/hubd.toml: unknown key "network.stal_timeout"; did you mean "network.stall_timeout"?'
    )


def test_an_unknown_section_names_the_nearest_known_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='unknown key "cahce"; did you mean "cache"'):
        load(tmp_path, '[cahce]\ndir = "/x"\n')


def test_every_mistake_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, '[network]\nstall_timeout = 3\nfoo = 1\n[cache]\ndir = "relative"\n')
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("text", ["[network", "\x00", "a = 1\na = 2"])
def test_what_is_no_toml_is_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"hubd\.toml: is no TOML"):
        load(tmp_path, text)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        config.load(str(tmp_path / "none.toml"), user=False)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        config.Settings().network.offline = True


def test_a_per_user_daemon_reaches_what_its_user_can_and_the_service_does_not(tmp_path: Path) -> None:
    user, service = config.load(None, user=True), config.load(None, user=False)
    assert (user.network.allow_http, user.network.allow_private_addresses, user.api.idle_exit) == (True, True, 900.0)
    assert (service.network.allow_http, service.network.allow_private_addresses) == (False, False)
    stated = load(tmp_path, "[network]\nallow_http = false\n", user=True)
    assert (stated.network.allow_http, stated.network.allow_private_addresses) == (False, True)


def test_private_addresses_may_be_a_list_of_networks_and_hosts(tmp_path: Path) -> None:
    network = load(tmp_path, '[network]\nallow_private_addresses = ["10.1.0.0/16", "Models.lan", "fd00::/8"]\n').network
    assert network.allow_private_addresses == (ip_network("10.1.0.0/16"), "models.lan", ip_network("fd00::/8"))


def test_the_place_follows_command_line_settings_environment_and_custom(tmp_path: Path) -> None:
    environ = {"TFHUB_CACHE_DIR": "/env", "HUBD_SOCKET": "/env.sock"}
    stated = load(tmp_path, '[cache]\ndir = "/set"\n[api]\nsocket = "/set.sock"\n')
    place = config.locate(stated, environ, user=False, cache_dir="/given", socket="/given.sock")
    assert (place.cache, place.socket) == ("/given", "/given.sock")
    place = config.locate(stated, environ, user=False, cache_dir=None, socket=None)
    assert (place.cache, place.socket) == ("/set", "/set.sock")
    place = config.locate(config.Settings(), environ, user=False, cache_dir=None, socket=None)
    assert (place.cache, place.socket) == ("/env", "/env.sock")
    place = config.locate(config.Settings(), {}, user=False, cache_dir=None, socket=None)
    assert (place.cache, place.socket) == ("/var/cache/hubd", "/run/hubd/hubd.sock")


def test_credentials_have_one_spelling_of_their_host_and_one_entry_for_it(tmp_path: Path) -> None:
    text = '[[credential]]\nhost = "{}"\ntype = "bearer"\nfile = "/etc/hubd/token"\n'
    assert load(tmp_path, text.format("Models.LAN:443")).credential[0].host == "models.lan"
    with pytest.raises(ConfigError, match="two entries for one host"):
        load(tmp_path, text.format("models.lan") + text.format("models.lan:443"))
    with pytest.raises(ConfigError, match=r'unknown key "credential.0.hosts"; did you mean "credential.host"\?'):
        load(tmp_path, text.format("models.lan").replace("host ", "hosts "))


def test_users_and_groups_are_names_or_numbers(tmp_path: Path) -> None:
    root, own = pwd.getpwuid(0), grp.getgrgid(os.getegid())
    stated = f'[access]\nusers = ["{root.pw_name}", 1001]\ngroups = ["{own.gr_name}"]\n'
    access = load(tmp_path, stated).access
    assert (access.users, access.groups, access.is_restricted) == ((0, 1001), (own.gr_gid,), True)
    assert not config.AccessSettings(admin_users=(1001,)).is_restricted


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        ('users = ["no-such-user"]', r"access\.users\.0: there is no user 'no-such-user' on this machine: mend"),
        ('groups = ["no-such-group"]', r"access\.groups\.0: there is no group 'no-such-group'"),
        ('admin_users = ["1001"]', r"access\.admin_users\.0: .*a number has no quotes"),
        ('users = ["a\\u0000b"]', r"access\.users\.0: there is no user"),
        ("admin_groups = [-1]", r"access\.admin_groups\.0: -1 is no number of a group"),
        ("users = [4294967295]", r"access\.users\.0: 4294967295 is no number of a user"),
        ("users = [true]", r"access\.users\.0: a user is a name"),
        ('users = "alice"', r"access\.users: must be a list"),
        ('user = ["root"]', r'unknown key "access\.user"; did you mean "access\.users"'),
    ],
)
def test_whom_nobody_is_is_told(tmp_path: Path, stated: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load(tmp_path, f"[access]\n{stated}\n")


def test_a_users_own_daemon_can_let_in_nobody_else(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="access: a user's own daemon is for that user"):
        load(tmp_path, "[access]\nusers = [1001]\n", user=True)
    assert not load(tmp_path, "[access]\nusers = []\n", user=True).access.is_restricted


def test_kaggles_url_is_a_base_to_which_paths_are_appended(tmp_path: Path) -> None:
    assert load(tmp_path, '[kaggle]\nurl = "HTTPS://Kaggle.lan:443/api/"\n').kaggle.url == "https://kaggle.lan/api"
    for wrong in ("kaggle.lan", "file:///srv", "https://u:p@h", "https://h?a=b", "kaggle:o/m/f/v", ""):
        with pytest.raises(ConfigError, match=r"kaggle\.url: must be a URL such as"):
            load(tmp_path, f'[kaggle]\nurl = "{wrong}"\n')


def test_mirrors_are_a_list_and_their_mistakes_are_told(tmp_path: Path) -> None:
    stated = '[[mirror]]\nmatch = "https://tfhub.dev"\nurls = ["file:///srv/modules", "https://mirror.lan/"]\n'
    mirror = load(tmp_path, stated).mirror[0]
    assert (mirror.match, mirror.urls) == ("https://tfhub.dev/", ("file:///srv/modules/", "https://mirror.lan/"))
    with pytest.raises(ConfigError, match=r"mirror\.0\.urls\.1: a mirror must be a URL"):
        load(tmp_path, stated.replace("https://mirror.lan/", "mirror.lan"))
    with pytest.raises(ConfigError, match=r'unknown key "mirror\.0\.url"; did you mean "mirror\.urls"'):
        load(tmp_path, stated.replace("urls", "url"))


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        ('[network]\nallowed_hosts = ["https://tfhub.dev"]', r"allowed_hosts\.0: a host is a name such as"),
        ('[network]\nallowed_hosts = ["*tfhub.dev"]', r"allowed_hosts\.0: a host is a name such as"),
        ('[network]\nallowed_hosts = "tfhub.dev"', "allowed_hosts: must be a list"),
        ('[network]\nallow_private_addresses = ["models.lan:8080"]', "a host is a name such as"),
        ('[network]\nproxy = "http://p"\nno_proxy = ["http://models.lan"]', "a host is a name such as"),
        ('[network]\nproxy = "proxy.lan:3128"', "proxy: a proxy must be a URL that starts with https:// or http://"),
        ('[network]\nconnect_timeout = "0s"', "connect_timeout: .* greater than 0"),
        ('[network]\nmax_rate = "50MB/h"', "max_rate: a rate is a size per second"),
        ('[mirror]\nmatch = "https://tfhub.dev/"', r"mirror: may be there several times: write \[\[mirror\]\]"),
        ("[[network]]\nretries = 1", r"network: must be a section: write \[network\]"),
        ('[[mirror]]\nmatch = "https://tfhub.dev/"', r"mirror\.0\.urls: is missing"),
        ('[[mirror]]\nmatch = "https://tfhub.dev/"\nurls = []', r"mirror\.0\.urls: must name at least one place"),
        ('[[mirror]]\nmatch = "kaggle:a/b/c/d/1"\nurls = ["https://m/"]', r"mirror\.0\.match: a prefix of handles"),
        ('[[host]]\nname = "*.lan"', r"host\.0\.name: a host is a name such as"),
        ('[[host]]\nname = "a"\nverify = "no"', r"host\.0\.verify: .* boolean"),
        ('[[host]]\nname = "a"\nformat = "zip"', r"host\.0\.format: .*'compressed' or 'uncompressed'"),
        ('[[host]]\nname = "a"\nverify = false\n[[host]]\nname = "A"', "host: two entries for one name"),
    ],
)
def test_what_would_be_ignored_or_never_match_is_told_in_one_line(tmp_path: Path, stated: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        load(tmp_path, stated + "\n")
    assert len(str(caught.value).splitlines()) == 1


def test_a_host_may_be_an_address_or_all_below_a_name(tmp_path: Path) -> None:
    network = load(tmp_path, '[network]\nallowed_hosts = ["TFHub.dev", "*.Example.org", "10.1.0.1", "::1"]\n').network
    assert network.allowed_hosts == ("tfhub.dev", "*.example.org", "10.1.0.1", "::1")


def test_checking_a_file_looks_into_its_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "hubd.toml").write_text(f'[network]\nca_bundle = "{tmp_path}/none.pem"\n')
    assert main(["check-config", f"{tmp_path}/hubd.toml"]) == 2
    assert "ca_bundle" in capsys.readouterr().err


@pytest.mark.parametrize(("value", "offline"), [(None, False), ("", False), ("0", False), ("1", True)])
def test_the_environment_may_take_a_daemon_offline(value: str | None, offline: bool) -> None:
    environ = {} if value is None else {"HUBD_OFFLINE": value}
    settings = config.with_environ(config.Settings(), environ)
    assert settings == config.Settings(network=config.NetworkSettings(offline=offline))


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_a_configuration_that_only_its_owner_can_write_counts(mode: int, tmp_path: Path) -> None:
    file = tmp_path / "hubd.toml"
    file.touch()
    file.chmod(mode)
    assert config.load(str(file), user=False) == config.Settings()


@pytest.mark.parametrize("mode", [0o666, 0o646])
def test_the_service_refuses_a_configuration_that_others_can_write(mode: int, tmp_path: Path) -> None:
    file = tmp_path / "hubd.toml"
    file.touch()
    file.chmod(mode)
    with pytest.raises(
        ConfigError, match=rf"hubd.toml: can be written by others \(mode {mode:04o}\): chmod it to 0644"
    ):
        config.load(str(file), user=False)
    assert config.load(str(file), user=False, is_draft=True) == config.Settings()
    assert config.load(str(file), user=True).api.idle_exit is not None, "a user's own is the user's affair"


@uids.needs_root
def test_the_service_refuses_a_configuration_of_another_user_or_a_foreign_group(tmp_path: Path) -> None:
    file = tmp_path / "hubd.toml"
    file.touch()
    os.chown(file, 54301, 54301)
    with pytest.raises(ConfigError, match=r"belongs to uid 54301, .*: chown it to root"):
        config.load(str(file), user=False)
    os.chown(file, 0, 54301)
    file.chmod(0o664)
    with pytest.raises(ConfigError, match=r"written by others \(mode 0664\)"):
        config.load(str(file), user=False)
    os.chown(file, 0, 0)
    assert config.load(str(file), user=False) == config.Settings()


def test_the_dashboard_is_for_this_machine_unless_it_is_said_plainly(tmp_path: Path) -> None:
    for listen in ("0.0.0.0:8500", "[::]:8500", "10.1.2.3:8500"):
        with pytest.raises(ConfigError, match=r"web: listen: whoever reaches .* allow_remote = true"):
            load(tmp_path, f'[web]\nlisten = "{listen}"\n')
        assert load(tmp_path, f'[web]\nlisten = "{listen}"\nallow_remote = true\n').web.listen == listen
    for listen in ("127.0.0.1:8500", "127.9.9.9:1", "[::1]:8500"):
        assert load(tmp_path, f'[web]\nlisten = "{listen}"\n').web.listen == listen
