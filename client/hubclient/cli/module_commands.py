"""The commands that work with one module, as their users see them: arguments, options and help.

Law: this file parses and explains; what a command does is in a file of its own, imported when it is called.
"""

from __future__ import annotations

from typing import Annotated

import typer

from hubclient.cli.grammar import (
    Command,
    CommandWithCommand,
    Handle,
    HandlesOrPaths,
    Json,
    Quiet,
    Tags,
    command_behind,
    tags_of,
)
from hubclient.cli.output import complaints

commands = typer.Typer()


@commands.command(name="show", cls=Command)
def _show(
    handle: Handle,
    tags: Tags = None,
    holders: Annotated[
        bool, typer.Option("--holders", help="Print the programs that hold the module instead; best as root.")
    ] = False,
    files: Annotated[bool, typer.Option("--files", help="Print all files, not just the largest.")] = False,
    as_json: Json = False,
) -> None:
    """Tell all that is known of one module.

    Where it is and came from, its digests, sizes and files, who uses it, and its signatures
    with the common signature of TensorFlow Hub that each one meets.
    A path or a file:// URL needs no daemon, and a cached handle tells less without one.

    --holders looks through /proc for open files. Programs in other containers are seen
    from the host alone.

    Examples:

      hubctl show https://tfhub.dev/google/nnlm-en-dim50/2
      hubctl show ./my-module --tags serve
      hubctl show --json HANDLE | jq -r .content_digest
      sudo hubctl show --holders https://tfhub.dev/google/nnlm-en-dim50/2
    """
    if holders and (tags is not None or files):
        raise typer.BadParameter("--holders tells of programs alone: leave out --tags and --files")
    with complaints(as_json=as_json):
        from hubclient.cli import show

        if holders:
            show.holders(handle, as_json=as_json)
        else:
            show.show(handle, tags=tags_of(tags), all_files=files, as_json=as_json)


@commands.command(name="exec", cls=CommandWithCommand)
def _exec(
    context: typer.Context,
    handles: HandlesOrPaths,
    keep_braces: Annotated[
        bool, typer.Option("--keep-braces", help="Leave {} and {1} in the command as they are.")
    ] = False,
    quiet: Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="Errors are JSON on stderr.")] = False,
) -> None:
    """Run a command that holds modules.

    They are fetched first if need be, and stay while the command or a child of it runs.
    In its arguments {} becomes the path of the first module, and {1}, {2}, ... of all;
    HUBD_PATH and HUBD_PATH_1, HUBD_PATH_2, ... in its environment name them too.
    The exit code is the command's; 127: there is no such command, 126: it cannot be run.

    Examples:

      hubctl exec HANDLE -- ./train.py --module {}
      hubctl exec HANDLE HANDLE -- sh -c 'du -sh "$HUBD_PATH_1" "$HUBD_PATH_2"'
    """
    command = command_behind(context)
    with complaints(as_json=as_json):
        from hubclient.cli.executing import execute

        raise typer.Exit(execute(handles, command, quiet=quiet, as_json=as_json, braces=not keep_braces))


@commands.command(name="run", cls=Command)
def _run(
    handle: Handle,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="NAME=VALUE",
            help="An input: JSON, or @FILE (.npy, .json, else its bytes). A single one needs no NAME=.",
            show_default=False,
        ),
    ] = None,
    inputs_file: Annotated[
        str | None,
        typer.Option("--inputs", metavar="@FILE", help="All inputs by name: a .npz or .json file.", show_default=False),
    ] = None,
    signature: Annotated[
        str | None,
        typer.Option("--signature", "-s", help="Instead of serving_default or default.", show_default=False),
    ] = None,
    tags: Tags = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write a .npz, .npy or .json file instead.", show_default=False
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="Print the signatures with their inputs and outputs.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Apply a module to values.

    Outputs go to stdout; long ones are cut there, unless --json or --output is given.
    It needs TensorFlow's package, but starts in a fraction of the time that importing it takes.

    Examples:

      hubctl run --list https://tfhub.dev/google/nnlm-en-dim50/2
      hubctl run ./half-plus-two --input x=[1,2,5]
      hubctl run ./classifier --input image=@cat.jpg --output scores.npz
      hubctl run ./model --signature encode --inputs @batch.npz --json

    Strings that are no UTF-8 are {"b64": "..."} in JSON. TF_CPP_MIN_LOG_LEVEL=0 shows TensorFlow's log.
    """
    from hubclient.cli import values

    if output is not None and not output.endswith(values.FILE_KINDS):
        raise typer.BadParameter(f"--output must end in {', '.join(values.FILE_KINDS)}")
    with complaints(as_json=as_json):
        from hubclient.cli import run

        try:
            given = values.parse(inputs or [], inputs_file)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        variant = tags_of(tags)
        if show:
            raise typer.Exit(run.show(handle, tags=variant, quiet=quiet, as_json=as_json))
        raise typer.Exit(
            run.run(handle, given, signature=signature, tags=variant, output=output, quiet=quiet, as_json=as_json)
        )


@commands.command(name="pack", cls=Command)
def _pack(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="The directory of a SavedModel.", show_default=False)],
    out: Annotated[
        str | None,
        typer.Option(
            "--out", "-o", metavar="OUT", help="The archive to write; else DIR.tar.gz, here.", show_default=False
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace an archive that is there.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Pack a module into the archive that a web server hands out.

    stdout gets the path of the archive. The same content gives the same bytes, so its digest tells what is in it.
    Links and special files are refused; what .DS_Store, .git and the like leave behind is not packed.

    Examples:

      hubctl pack my-module
      hubctl pack my-module -o public/my-module/1.tar.gz
      hubctl pack --json my-module | jq -r .digest
    """
    with complaints(as_json=as_json):
        from hubclient.cli.pack import pack

        pack(directory, out, force=force, quiet=quiet, as_json=as_json)


@commands.command(name="publish", cls=Command)
def _publish(
    source: Annotated[
        str,
        typer.Argument(
            metavar="DIR_OR_ARCHIVE", help="The directory of a SavedModel, or a .tar.gz of one.", show_default=False
        ),
    ],
    name: Annotated[
        str,
        typer.Argument(metavar="PUBLISHER/MODEL/VERSION", help="What it is published as.", show_default=False),
    ],
    to: Annotated[str, typer.Option("--to", metavar="DIR", help="The directory that is served.", show_default=False)],
    base_url: Annotated[
        str | None,
        typer.Option("--base-url", metavar="URL", help="Where that is served; to name the handle.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and pack, and publish nothing.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Publish a module: check it, pack it, and move it to where hubd host serves it.

    It appears whole, and a version that is there is never replaced. stdout gets the path of its archive.
    Warnings name what its users would miss or mistrust: no README.md, a graph that reads or writes files, and so on.

    Examples:

      hubctl publish my-module acme/encoder/1 --to public
      hubctl publish my-module.tar.gz acme/encoder/2 --to public --base-url https://models.example.org
      hubctl publish --dry-run --json my-module acme/encoder/1 --to public | jq .warnings
    """
    with complaints(as_json=as_json):
        from hubclient.cli.publish import publish

        publish(source, name, to, base_url=base_url, dry_run=dry_run, quiet=quiet, as_json=as_json)
