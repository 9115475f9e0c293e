"""stdout, stderr and exit codes."""

from __future__ import annotations

import json

import pytest

from hubclient.cli.output import complain, complaints, exit_code_of_all
from hubclient.contract import errors


@pytest.mark.parametrize(
    ("failures", "code"),
    [
        ([], 0),
        ([errors.CacheFull("x")], 1),
        ([errors.DaemonUnreachable("x")], 3),
        ([errors.UpstreamNotFound("x"), errors.UpstreamNotFound("y")], 4),
        ([errors.UpstreamNotFound("x"), errors.CacheFull("y")], 1),
    ],
    ids=lambda value: "-".join(error.code for error in value) if isinstance(value, list) else str(value),
)
def test_the_exit_code_is_that_of_the_errors_or_1_when_they_differ(failures: list[errors.HubError], code: int) -> None:
    assert exit_code_of_all(failures) == code


def test_an_error_is_one_line_with_its_code_and_a_next_step(capsys: pytest.CaptureFixture[str]) -> None:
    complain(errors.UpstreamNotFound("h.example has no such module"), handle="https://h.example/m/1")
    first, second = capsys.readouterr().err.splitlines()
    assert first == "hubctl: https://h.example/m/1: h.example has no such module [upstream-not-found]"
    assert second.strip().startswith("check the handle")


@pytest.mark.parametrize(
    ("error", "step"),
    [
        (errors.ArchiveCorrupt("no gzip data (it looks like HTML)"), "is it the URL of a web page?"),
        (errors.ArchiveCorrupt("the archive is cut off"), "try again; if it stays"),
        (errors.UpstreamDenied("h.example denies access"), "put a credential for it into"),
        (errors.UpstreamDenied("www.kaggle.com denies access"), "set KAGGLE_API_TOKEN"),
        (errors.UpstreamDenied("s3://bucket denies this to the credential for s3://bucket"), "a [[credential]] with"),
        (errors.ArchiveUnsafe("s3://b has an object whose name climbs, and so cannot be listed"), "from the bucket"),
        (errors.HandleForbidden("http:// is not allowed here; network.allow_http allows it"), "in section [network]"),
        (errors.AddressForbidden("h.example is at 10.0.0.1"), "allow_private_addresses"),
        (errors.NotFound("the cache has no module of this key"), "`hubctl ls` lists"),
        (errors.UpstreamUnavailable("the fleet's store cannot be used: it failed"), "`hubctl fleet status` says"),
        (errors.DiskFull("the disk is full"), "; the cache is /some/cache"),
    ],
    ids=lambda value: value.code if isinstance(value, errors.HubError) else "",
)
def test_the_next_step_suits_the_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: errors.HubError, step: str
) -> None:
    monkeypatch.delenv("HUBD_SOCKET", raising=False)
    monkeypatch.setenv("TFHUB_CACHE_DIR", "/some/cache")
    complain(error)
    assert step in capsys.readouterr().err.splitlines()[1]


@pytest.mark.parametrize(
    "error",
    [
        errors.UpstreamUnavailable("h.example: its certificate has expired"),
        errors.UpstreamUnavailable("the proxy refuses to lead to h.example (HTTP 403)"),
        errors.UpstreamUnavailable("the proxy wants credentials: network.proxy_credentials_file names a file"),
        errors.Offline("this daemon asks no network: network.offline says so"),
        errors.HandleForbidden("a credential is not sent over http://, but to this machine itself: use https://"),
        errors.HandleForbidden("https://h.example/1 is not in the lock file hub.lock: `hubctl lock` adds it"),
        errors.AddressForbidden("h.example is at 169.254.169.254, which is never contacted"),
        errors.UpstreamDenied(
            's3://b denies this to whom it does not know: a [[credential]] with store = "s3://b" says'
        ),
        errors.UpstreamUnavailable("s3://b is redirected: is the region of its [[object_store]] right?"),
    ],
    ids=str,
)
def test_no_step_is_advised_that_cannot_help(capsys: pytest.CaptureFixture[str], error: errors.HubError) -> None:
    complain(error)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_handle_that_the_detail_names_is_not_said_twice(capsys: pytest.CaptureFixture[str]) -> None:
    complain(errors.CacheUntrusted("https://h.example/m/1 is not to be trusted"), handle="https://h.example/m/1")
    first = capsys.readouterr().err.splitlines()[0]
    assert first == "hubctl: https://h.example/m/1 is not to be trusted [cache-untrusted]"


# Their details say what to do, each in its own words.
BY_DETAIL = {"request-invalid", "request-too-large", "not-found", "handle-forbidden", "access-denied"}


@pytest.mark.parametrize("code", sorted(errors.BY_CODE.keys() - BY_DETAIL))
def test_every_code_has_a_next_step(capsys: pytest.CaptureFixture[str], code: str) -> None:
    complain(errors.BY_CODE[code]("this is so"))
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_with_json_an_error_is_one_problem_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    complain(errors.DiskFull("no space"), as_json=True, handle="https://h.example/m/1")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err) == errors.DiskFull("no space").problem() | {"handle": "https://h.example/m/1"}


def test_an_error_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    complain(errors.Internal("\x1b[2Jgone\nsecond line"))
    assert capsys.readouterr().err.splitlines()[:2] == ["hubctl: \\x1b[2Jgone [internal]", "        second line"]


def test_an_error_in_a_command_becomes_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_, complaints(as_json=False):
        raise errors.DaemonUnreachable("nobody there")
    assert exit_.value.code == 3
    assert "nobody there [daemon-unreachable]" in capsys.readouterr().err


def test_what_an_object_store_does_not_have_is_advised_by_what_handles_lead_to_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    complain(errors.UpstreamNotFound("s3://bucket has no m/1"), handle="s3://bucket/m/1")
    assert "a SavedModel's directory, or an archive" in capsys.readouterr().err.splitlines()[1]
