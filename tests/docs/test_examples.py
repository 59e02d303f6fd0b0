"""Every example of the documentation is run, as it stands there."""

from __future__ import annotations

from pathlib import Path

import pytest

from regstore.cli.main import _COMMANDS
from regstore.cli.option_names import OPTION_NAMES
from regstore.configuration import read_configuration
from support.pages import CHECKOUT, blocks_of, pages, steps_of
from support.sandbox import run_in_sandbox

PAGES = [str(page.relative_to(CHECKOUT)) for page in pages()]
WITH_EXAMPLES = [name for name in PAGES if any(block.language != "toml" for block in blocks_of(CHECKOUT / name))]

# What is not run, and why. It is to stay short.
NOT_RUN = {
    "docs/howto/encrypt.md": [
        "opening a mapping needs the kernel's device mapper, and a passphrase is asked for",
        "the registry of the test is not on that disk",
    ],
    "docs/installation.md": [
        "there is no Docker where the tests run",
        "tests/packaging/test_release.py runs it",
    ],
    "docs/operations.md": ["an editor"],
    "README.md": ["tests/scripts/test_quickstart.py runs it", "it runs this test"],
}


@pytest.mark.registry
@pytest.mark.s3
@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_do_what_the_page_says(name: str, tmp_path: Path) -> None:
    page = CHECKOUT / name
    steps = [step.to_json() for step in steps_of(page)]

    trouble = run_in_sandbox(steps, tmp_path, s3="s3://" in page.read_text())

    assert not trouble, trouble


@pytest.mark.parametrize("name", PAGES)
def test_configurations_are_accepted(name: str, tmp_path: Path) -> None:
    for block in blocks_of(CHECKOUT / name):
        if block.language == "toml":
            file = tmp_path / "config.toml"
            file.write_text(block.text)
            configuration = read_configuration(file, OPTION_NAMES, _COMMANDS)
            assert configuration.registries or configuration.stores or configuration.commands


def test_what_is_not_run_says_why() -> None:
    found = {name: [why for block in blocks_of(CHECKOUT / name) if (why := block.note("not run"))] for name in PAGES}

    assert {name: reasons for name, reasons in found.items() if reasons} == NOT_RUN
