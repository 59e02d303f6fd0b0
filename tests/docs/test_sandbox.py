"""The place where examples are run: it sees what goes wrong, and changes nothing outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.pages import Step, blocks_of, steps_of
from support.sandbox import run_in_sandbox


def sandbox(directory: Path, *steps: Step) -> str:
    return run_in_sandbox([step.to_json() for step in steps], directory, s3=False)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that pages are below."""
    monkeypatch.setattr("support.pages.CHECKOUT", tmp_path)
    return tmp_path


def page(checkout: Path, text: str) -> Path:
    file = checkout / "page.md"
    file.write_text(text)
    return file


@pytest.mark.registry
def test_what_is_done_there_stays_there(tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    trouble = sandbox(
        tmp_path,
        Step("a", f"mkdir -p {tmp_path}; echo done > {mark}; echo done > /etc/regstore-mark; export WORD=kept"),
        Step("b", f'test -f {mark} && test "$WORD" = kept && test -d /var/lib/registry/docker'),
        Step("c", "(exit 3)", exit_code=3),
        Step("d", "sh -c 'test -t 0 && read word && test $word = yes'", answer="yes"),
    )

    assert trouble == ""
    assert not mark.exists()
    assert not Path("/etc/regstore-mark").exists()


@pytest.mark.registry
@pytest.mark.parametrize(
    ("step", "words"),
    [
        (Step("page:7", "regstore gc plan /nowhere"), "page:7: this must end with 0: regstore gc plan /nowhere"),
        (Step("page:7", "true", exit_code=1), "it ended with 0"),
        (Step("page:7", "echo word", is_silent=True), "page:7: cron would send mail"),
    ],
    ids=["an error", "no finding", "not silent"],
)
def test_what_goes_wrong_is_seen(tmp_path: Path, step: Step, words: str) -> None:
    assert words in sandbox(tmp_path, step, Step("later", "true"))


def test_notes(checkout: Path) -> None:
    text = r"""
<!--
first: prepare
exit 1: regstore b (why)
with newest for: 1a2b
-->
```sh
# a comment
regstore a
regstore b 1a2b \
  more
```

<!-- not run: why -->
```sh
regstore c
```

```
30 3 * * 0,6  root  regstore d -q $((1 \% 7))
```
"""

    steps = steps_of(page(checkout, text))

    assert [(step.where, step.command, step.exit_code, step.is_silent) for step in steps] == [
        ("page.md:8", "prepare", 0, False),
        ("page.md:9", "regstore a", 0, False),
        ("page.md:10", 'regstore b "$(newest)" \\\n  more', 1, False),
        ("page.md:20", "regstore d -q $((1 % 7))", 0, True),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "```\n15 4 * * *  regstore a\n```\n",
        "```perl\n1\n```\n",
        "```sh\nif true\n```\n",
        "<!-- ends with 1: regstore a (why) -->\n```sh\nregstore a\n```\n",
        "<!-- exit 1: regstore a -->\n```sh\nregstore a\n```\n",
        "<!-- exit 1: regstore b (why) -->\n```sh\nregstore a\n```\n",
        "<!-- first: true -->\n<!-- first: true -->\n```sh\nregstore a\n```\n",
        "  ```sh\n  regstore a\n  ```\n",
    ],
    ids=[
        "a cron line without user",
        "language",
        "no command",
        "note",
        "no reason",
        "another command",
        "two comments",
        "indented",
    ],
)
def test_what_cannot_be_run_is_an_error(checkout: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"page\.md"):
        steps_of(page(checkout, text))


def test_a_block_of_a_configuration(checkout: Path) -> None:
    (block,) = blocks_of(page(checkout, "a\n\n```toml\nkey = 1\n```\n"))

    assert (block.language, block.line, block.text) == ("toml", 4, "key = 1\n")
