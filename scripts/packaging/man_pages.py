"""Manual pages in troff, from the help of the commands: a page a command, with EXAMPLES and EXIT STATUS as sections.

Printed by the Python that has the regstore they describe:

    python man_pages.py DIRECTORY YYYY-MM-DD
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import click

from regstore._version import __version__
from regstore.cli.main import cli

_MAIN = """\
.SH ENVIRONMENT
.TP
.B REGSTORE_COMMAND_OPTION
The default of an option, such as REGSTORE_GC_RUN_JOBS=4. Options that decide what is removed or overwritten cannot be
set so.
.TP
.B AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE
Credentials for s3:// locations, as every tool of AWS reads them.
.TP
.B XDG_STATE_HOME
Where regstore remembers what it learned; /var/lib for root and ~/.local/state for others by default.
.SH FILES
.TP
.I /etc/regstore/config.toml
Names for registries and stores, defaults of options, and what is done every night; regstore config init writes one.
.TP
.I ~/.config/regstore/config.toml
The same of one user; it goes before that of the system.
.TP
.I /var/lib/regstore
What was learned of volumes: what was verified when, the history of reports, and how jobs ended.
"""


def write_pages(directory: Path, date: str) -> list[Path]:
    """Write a page for every command below a directory, and return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for context in _contexts(click.Context(cli, info_name="regstore", **cli.context_settings)):
        path = directory / f"{context.command_path.replace(' ', '-')}.1"
        path.write_text(render_page(context, date), encoding="ascii")
        written.append(path)
    return written


def _contexts(context: click.Context) -> Iterator[click.Context]:
    yield context
    command = context.command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                yield from _contexts(click.Context(below, info_name=name, parent=context))


def render_page(context: click.Context, date: str) -> str:
    """Return the page of one command."""
    command, path = context.command, context.command_path
    name = path.replace(" ", "-")
    lines = [
        f'.TH {_escape(name.upper())} 1 "{date}" "regstore {__version__}" "regstore"',
        ".SH NAME",
        f"{_escape(name)} \\- {_escape(command.get_short_help_str(1000).rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {_escape(path)}",
        _escape(" ".join(command.collect_usage_pieces(context))),
        ".SH DESCRIPTION",
    ]
    blocks = [*_blocks(command.help or "")]
    lines += _paragraphs([text for title, text in blocks if not title])
    parameters = [option for option in command.get_params(context) if isinstance(option, click.Option)]
    records = [option.get_help_record(context) for option in parameters]
    options = [record for record in records if record is not None]
    lines.append(".SH OPTIONS")
    for words, text in options:
        lines += [".TP", f".B {_escape(words)}", _escape(text) or "\\&"]
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        for below in _children(context):
            lines += [".TP", f".BR {_escape(below.replace(' ', '-'))} (1)"]
            lines.append(_escape(_summary(context, below)))
    for title, text in [*blocks, *_blocks(command.epilog or "")]:
        if title == "EXIT STATUS":
            lines += [".SH EXIT STATUS", *_exit_codes(text)]
        elif title:
            lines += [f".SH {title}", ".nf", *map(_escape, dedent("\n".join(text)).splitlines()), ".fi"]
    if context.parent is None:
        lines += _MAIN.rstrip("\n").replace("-", "\\-").splitlines()
    lines += [".SH SEE ALSO", *_references(_related(context))]
    return "\n".join(lines) + "\n"


def _children(context: click.Context) -> list[str]:
    return [below.command_path for below in _contexts(context) if below.parent is context]


def _summary(context: click.Context, path: str) -> str:
    (found,) = [below.command for below in _contexts(context) if below.command_path == path]
    return found.get_short_help_str(1000)


def _related(context: click.Context) -> list[str]:
    """Name the pages above, below and beside."""
    paths = [context.parent.command_path, *_children(context.parent)] if context.parent else _children(context)
    return [path.replace(" ", "-") for path in paths if path != context.command_path]


def _references(pages: list[str]) -> Iterator[str]:
    for page in pages:
        yield f".BR {_escape(page)} (1){'' if page == pages[-1] else ','}"


def _blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield sections with their titles and lines, and paragraphs, which have no title."""
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = block.strip("\n").splitlines()
        if lines[0].strip() == "\b" and len(lines) > 1 and re.fullmatch(r"[A-Z ]+", lines[1].strip()):
            yield lines[1].strip(), lines[2:]
        else:
            yield "", [line for line in lines if line.strip() != "\b"]


def _paragraphs(paragraphs: list[list[str]]) -> list[str]:
    lines: list[str] = []
    for number, paragraph in enumerate(paragraphs):
        lines += [".PP"] if number else []
        lines += [_escape(line.strip()) for line in paragraph]
    return lines


def _exit_codes(text: list[str]) -> Iterator[str]:
    for line in text:
        codes, _, meaning = line.strip().partition("  ")
        yield from (".TP", f".B {_escape(codes)}", _escape(meaning.strip()))


def _escape(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]), sys.argv[2])
