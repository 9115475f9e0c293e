"""`hubctl doctor`: everything that hubclient and hubd need, looked at from here.

Law: one check that cannot be made spoils no other, and the exit code is 1 only if something fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from hubclient import finding
from hubclient.cli.checks import Finding, State, cache, daemon, fail, fleet, machine, variables
from hubclient.cli.output import EXIT_FAILED, emit, emit_json
from hubclient.cli.tables import drawable
from hubclient.cli.wording import count, printable
from hubclient.contract.errors import HubError
from hubclient.finding import Place

_STYLES: dict[State, str] = {"ok": "green", "warn": "bold yellow", "fail": "bold red"}
_CHECK_COLUMNS = 17


def doctor(environ: Mapping[str, str], *, as_json: bool) -> int:
    """Print what each check found; the exit code."""
    findings = examine(environ)
    failed = sum(one.state == "fail" for one in findings)
    warned = sum(one.state == "warn" for one in findings)
    if as_json:
        emit_json({"checks": [one._asdict() for one in findings], "failed": failed, "warned": warned})
    else:
        emit("".join(_lines(findings, drawable())) + summary(failed, warned) + "\n")
    return EXIT_FAILED if failed else 0


def examine(environ: Mapping[str, str]) -> list[Finding]:
    """What all checks found, in the order in which one thing needs the other."""
    place = _place(environ)
    found = [*_guarded("variables", lambda: variables.check(environ, place))]
    if place is not None:
        found += _guarded("socket", lambda: daemon.check_socket(place))
        found += _guarded("units", daemon.check_units)
        status, error = daemon.ask(environ)
        found += _guarded("answer", lambda: daemon.check_answer(place, status, error))
        if status is not None:
            found += _guarded("fleet", lambda: fleet.check(environ))
        found += _guarded("cache", lambda: cache.check(environ, place, status))
    found += _guarded("machine", machine.check_limits)
    found += _guarded("python", machine.check_python)
    return found


def summary(failed: int, warned: int) -> str:
    """The last line, which answers the question."""
    if failed:
        also = f", and {count(warned, 'warning')}" if warned else ""
        return f"{count(failed, 'thing')} must be mended{also}"
    return f"all works, with {count(warned, 'warning')}" if warned else "all is well"


def _place(environ: Mapping[str, str]) -> Place | None:
    try:
        return finding.find(environ)
    except HubError:
        return None  # a variable is wrong, which its own check says


def _guarded(check: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """The findings of a check, and what kept it from more."""
    try:
        yield from look()
    except (HubError, OSError) as error:
        yield fail(check, f"this could not be looked at: {error}")


def _lines(findings: list[Finding], in_colours: bool) -> Iterator[str]:
    paint = _painter() if in_colours else (lambda state: state)
    for check, state, what, remedy in findings:
        yield f"{paint(state)}{' ' * (6 - len(state))}{check:<{_CHECK_COLUMNS}}{printable(what)}\n"
        if remedy is not None and state != "ok":
            yield f"{'':<{6 + _CHECK_COLUMNS}}-> {printable(remedy)}\n"


def _painter() -> Callable[[State], str]:
    import sys

    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False)

    def paint(state: State) -> str:
        with console.capture() as captured:
            console.print(Text(state, style=_STYLES[state]), end="")
        return captured.get()

    return paint
