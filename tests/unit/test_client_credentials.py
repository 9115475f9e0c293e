"""The user's own credentials: where they are found, for whom, and what is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hubclient import credentials
from hubclient.contract.credentials import Credential
from hubclient.contract.errors import (
    AccessDenied,
    ArchiveCorrupt,
    HandleForbidden,
    HubError,
    RequestInvalid,
    UpstreamDenied,
    UpstreamNotFound,
    UpstreamUnavailable,
)
from hubclient.showing import Showing

HANDLE = "https://models.lan/private/m/1"
KAGGLE = "kaggle:google/bert/tensorFlow2/en/2"
SECRET = "kN7-tell_nobody"
TOML = '[[credential]]\nhost = "{}"\ntype = "bearer"\nvalue = "{}"\n'


class Home:
    """A home directory, in which files are private unless it is said otherwise."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environ = {"HOME": str(path)}

    def write(self, name: str, text: str | bytes, mode: int = 0o600) -> Path:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        file.chmod(mode)
        return file

    def own(self, text: str | bytes, mode: int = 0o600) -> Path:
        return self.write(".config/hubclient/credentials.toml", text, mode)

    def find(self, handle: str = HANDLE, **environ: str) -> tuple[str, str] | None:
        """Header and source of what is found."""
        found = credentials.find(handle, {**self.environ, **environ})
        return None if found is None else (found.credential.header(), found.source)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_without_files_and_variables_there_is_none(home: Home) -> None:
    assert [home.find(handle) for handle in (HANDLE, KAGGLE)] == [None, None]


def test_hubclients_own_file_names_hosts_and_ports_exactly(home: Home) -> None:
    file = home.own(TOML.format("Models.LAN", "token") + TOML.format("models.lan:8443", "other"))
    assert home.find() == ("Bearer token", str(file))
    assert home.find("https://MODELS.lan:443/m") == ("Bearer token", str(file))
    assert home.find("https://models.lan:8443/m") == ("Bearer other", str(file))
    for other in ("https://models.lan:8444/m", "https://x.models.lan/m", "https://lan/m", "http://models.lan/m"):
        assert home.find(other) is None


def test_none_is_found_for_plain_http_but_to_loopback(home: Home) -> None:
    home.own("".join(TOML.format(host, SECRET) for host in ("models.lan:80", "127.0.0.1:8080")))
    assert home.find("http://models.lan/m") is None
    assert home.find("http://127.0.0.1:8080/m") is not None


def test_the_file_lies_where_xdg_says(home: Home) -> None:
    home.write("elsewhere/hubclient/credentials.toml", TOML.format("models.lan", "token"))
    assert home.find() is None
    assert home.find(XDG_CONFIG_HOME=f"{home.path}/elsewhere") is not None


def test_without_a_home_no_file_of_the_current_directory_is_taken_for_one(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.write("~/.config/hubclient/credentials.toml", TOML.format("models.lan", SECRET))
    home.write("~/.netrc", f"machine models.lan login u password {SECRET}")
    home.write("~/.kaggle/access_token", SECRET)
    monkeypatch.chdir(home.path)
    assert [home.find(handle, HOME="~") for handle in (HANDLE, KAGGLE)] == [None, None]


@pytest.mark.parametrize(
    "text",
    [
        "[[credential",
        b"\xff",
        "credential = 1",
        "[credential]\nhost = 'h'",
        "other = 1",
        "[[credential]]\nhost = 'h'\ntype = 'bearer'",
        "[[credential]]\nhost = 'h'\ntype = 'bearer'\nvalue = 1",
        f"[[credential]]\nhost = 'h'\ntype = 'bearer'\nvalue = '{SECRET}'\nfile = 'x'",
        f"[[credential]]\nhost = 'https://h'\ntype = 'bearer'\nvalue = '{SECRET}'",
        f"[[credential]]\nhost = 'models.lan'\ntype = 'digest'\nvalue = '{SECRET}'",
        f"[[credential]]\nhost = 'models.lan'\ntype = 'bearer'\nvalue = '{SECRET} x'",
    ],
)
def test_a_file_that_cannot_be_understood_is_named_and_not_repeated(home: Home, text: str | bytes) -> None:
    file = home.own(text)
    with pytest.raises(RequestInvalid) as refusal:
        home.find()
    assert str(file) in str(refusal.value)
    assert SECRET not in str(refusal.value)


def test_netrc_is_for_the_machine_that_it_names_and_its_default_for_none(home: Home) -> None:
    file = home.write(
        ".netrc", "machine models.lan login u password p\nmachine h:8443 login v password q\ndefault login x password y"
    )
    assert home.find() == ("Basic dTpw", str(file))
    assert home.find("https://h:8443/m") == ("Basic djpx", str(file))
    assert [home.find(f"https://{host}/m") for host in ("models.lan:444", "h", "other", "default")] == [None] * 4


def test_none_is_found_for_an_object_store(home: Home) -> None:
    home.own(TOML.format("bucket", SECRET))
    home.write(".netrc", f"machine bucket login alice password {SECRET}")
    assert home.find("https://bucket/m/1") is not None
    assert [home.find(f"{scheme}://bucket/m/1") for scheme in ("s3", "gs", "az")] == [None, None, None]


def test_netrc_may_lie_elsewhere_and_comes_after_hubclients_own_file(home: Home) -> None:
    file = home.write("rc", "machine models.lan login u password p\nmachine h login u password p")
    environ = {"NETRC": str(file)}
    own = home.own(TOML.format("models.lan", "token"))
    assert home.find(**environ) == ("Bearer token", str(own))
    assert home.find("https://h/m", **environ) == ("Basic dTpw", str(file))


def test_a_netrc_that_cannot_be_understood_is_named_and_not_repeated(home: Home) -> None:
    home.write(".netrc", f"machine models.lan login u password p {SECRET}\n")
    with pytest.raises(RequestInvalid, match=r"\.netrc: cannot be understood near line \d") as refusal:
        home.find()
    assert SECRET not in str(refusal.value)


def test_kaggles_credentials_have_their_order_and_are_for_kaggle_alone(home: Home) -> None:
    home.write(".netrc", "machine www.kaggle.com login n password p")
    environ = {"KAGGLE_API_TOKEN": "t", "KAGGLE_USERNAME": "u", "KAGGLE_KEY": "k"}
    for handle in (KAGGLE, "https://www.kaggle.com/models/a/b/c/d/1", "https://kaggle.com/m/1"):
        assert home.find(handle, **environ) == ("Bearer t", "KAGGLE_API_TOKEN")
    for other in (HANDLE, "https://kaggle.com.lan/m", "https://notkaggle.com/m", "https://www.kaggle.com:8443/m"):
        assert home.find(other, **environ) is None
    del environ["KAGGLE_API_TOKEN"]
    json_file = home.write(".kaggle/kaggle.json", json.dumps({"username": "u", "key": "f"}))
    assert home.find(KAGGLE, **environ) == ("Basic dTpr", "KAGGLE_USERNAME and KAGGLE_KEY")
    assert home.find(KAGGLE) == ("Basic dTpm", str(json_file))
    token_file = home.write(".kaggle/access_token", "t\n")
    assert home.find(KAGGLE) == ("Bearer t", str(token_file))
    assert home.find(KAGGLE, KAGGLE_CONFIG_DIR=f"{home.path}/none") == ("Basic bjpw", f"{home.path}/.netrc")
    own = home.own(TOML.format("www.kaggle.com", "mine"))
    assert home.find(KAGGLE, **environ) == ("Bearer mine", str(own))


def test_a_kaggle_json_that_cannot_be_understood_is_named_and_not_repeated(home: Home) -> None:
    for text in (f'{{"key": "{SECRET}"}}', f'["{SECRET}"]', SECRET):
        file = home.write(".kaggle/kaggle.json", text)
        with pytest.raises(RequestInvalid, match=f"{file}: must be JSON with username and key") as refusal:
            home.find(KAGGLE)
        assert SECRET not in str(refusal.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
@pytest.mark.parametrize(
    ("name", "text", "handle"),
    [
        (".config/hubclient/credentials.toml", TOML.format("models.lan", SECRET), HANDLE),
        (".netrc", f"machine models.lan login u password {SECRET}", HANDLE),
        (".kaggle/kaggle.json", json.dumps({"username": "u", "key": SECRET}), KAGGLE),
        (".kaggle/access_token", SECRET, KAGGLE),
    ],
)
def test_a_file_that_others_can_read_or_write_is_refused(
    home: Home, name: str, text: str, handle: str, mode: int
) -> None:
    file = home.write(name, text, mode)
    with pytest.raises(RequestInvalid, match=rf"{file}: others .*mode 0{mode:o}.*chmod 0600 {file}"):
        home.find(handle)


def test_a_netrc_without_an_entry_for_the_host_may_be_open_to_others(home: Home) -> None:
    home.write(".netrc", "machine other login u password p", 0o644)
    assert home.find() is None


def test_a_file_of_another_user_is_refused(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.own(TOML.format("models.lan", SECRET))
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    with pytest.raises(RequestInvalid, match=f"belongs to uid {uid}"):
        home.find()


def test_what_is_no_file_is_refused(home: Home) -> None:
    home.own("").unlink()
    os.mkfifo(home.path / ".config/hubclient/credentials.toml", 0o600)
    with pytest.raises(RequestInvalid, match="is no file"):
        home.find()


# Asking with them


def host_of(
    *tokens: str | None, refusal: type[HubError] = UpstreamDenied
) -> tuple[Callable[..., str], list[str | None]]:
    """A host that lets these tokens in (None: anybody), and what it was shown."""
    shown: list[str | None] = []

    def ask(own: Credential | None) -> str:
        shown.append(own.value if own is not None else None)
        if shown[-1] not in tokens:
            raise refusal("models.lan says no")
        return "module"

    return ask, shown


@pytest.mark.parametrize("refusal", [UpstreamDenied, UpstreamNotFound, ArchiveCorrupt])
def test_a_refusal_is_answered_with_the_credential_and_the_next_version_gets_it_at_once(
    home: Home, refusal: type[HubError]
) -> None:
    home.own(TOML.format("models.lan", SECRET))
    ask, shown = host_of(SECRET, refusal=refusal)
    showing = Showing(home.environ)
    assert showing.ask(HANDLE, ask) == "module"
    assert showing.ask(HANDLE.replace("/1", "/2"), ask) == "module"
    assert shown == [None, SECRET, SECRET]


def test_what_opened_a_host_without_a_path_is_shown_to_no_other_host(home: Home) -> None:
    home.own(TOML.format("models.lan", SECRET))
    showing = Showing(home.environ)
    ask, shown = host_of(SECRET)
    assert showing.ask("https://models.lan", ask) == "module"
    ask_other, shown_other = host_of()
    with pytest.raises(UpstreamDenied):
        showing.ask("https://other.lan", ask_other)
    assert (shown, shown_other) == ([None, SECRET], [None])


def test_what_is_public_and_what_is_broken_is_shown_no_credential(home: Home) -> None:
    home.own(TOML.format("models.lan", SECRET))
    ask, shown = host_of(None)
    assert Showing(home.environ).ask(HANDLE, ask) == "module"
    ask_broken, shown_broken = host_of(refusal=UpstreamUnavailable)
    with pytest.raises(UpstreamUnavailable):
        Showing(home.environ).ask(HANDLE, ask_broken)
    assert shown == shown_broken == [None]


def test_a_credential_that_changed_is_looked_for_again(home: Home) -> None:
    home.own(TOML.format("models.lan", "old"))
    showing = Showing(home.environ)
    assert showing.ask(HANDLE, host_of("old")[0]) == "module"
    home.own(TOML.format("models.lan", "new"))
    ask, shown = host_of("new")
    assert showing.ask(HANDLE, ask) == "module"
    assert shown == ["old", "new"]


def test_a_refusal_stays_what_it_was_and_tells_what_became_of_the_credential(home: Home) -> None:
    showing = Showing(home.environ)
    with pytest.raises(UpstreamNotFound, match=r"^models\.lan says no$"):
        showing.ask(HANDLE, host_of(refusal=UpstreamNotFound)[0])
    file = home.own(TOML.format("models.lan", SECRET))
    with pytest.raises(UpstreamDenied, match=f"says no; the credential of {file} was shown") as denied:
        showing.ask(HANDLE, host_of("another")[0])
    assert SECRET not in str(denied.value)

    def ask(own: Credential | None) -> str:
        raise UpstreamDenied("models.lan says no") if own is None else HandleForbidden("it is not verified")

    with pytest.raises(UpstreamDenied, match="says no; it is not verified"):
        showing.ask(HANDLE, ask)

    def over_an_open_socket(own: Credential | None) -> str:
        raise UpstreamDenied("models.lan says no") if own is None else AccessDenied("not over this socket")

    with pytest.raises(UpstreamDenied, match="says no; not over this socket"):
        showing.ask(HANDLE, over_an_open_socket)
    file.chmod(0o644)
    with pytest.raises(UpstreamNotFound, match=r"says no; .*chmod 0600"):
        showing.ask(HANDLE, host_of(refusal=UpstreamNotFound)[0])
