"""The Prometheus text file."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from regstore.report import exposition
from support.examples import examples

LINE = re.compile(r'[a-z_]+(\{[a-z_]+="(\\.|[^"\\\n])*"(,[a-z_]+="(\\.|[^"\\\n])*")*\})? -?[0-9.e+]+')


def test_samples_of_one_metric_stand_together_under_help_and_type() -> None:
    text = exposition.render_exposition(
        [
            ("regstore_tags", {"registry": "a"}, 1),
            ("regstore_blobs", {"registry": "a"}, 2),
            ("regstore_tags", {"registry": "b"}, 3),
        ]
    )

    assert text.splitlines() == [
        "# HELP regstore_tags Tags.",
        "# TYPE regstore_tags gauge",
        'regstore_tags{registry="a"} 1',
        'regstore_tags{registry="b"} 3',
        "# HELP regstore_blobs Blobs with data.",
        "# TYPE regstore_blobs gauge",
        'regstore_blobs{registry="a"} 2',
    ]


@examples(50)
@given(st.text(), st.integers(-(10**18), 10**18))
def test_any_label_is_one_line(label: str, value: int) -> None:
    *_, line = exposition.render_exposition([("regstore_tags", {"registry": label}, value)]).split("\n")[:-1]

    assert LINE.fullmatch(line), line
    quoted = line[line.index('"') + 1 : line.rindex('"')]
    assert re.sub(r"\\(.)", lambda match: {"n": "\n"}.get(match[1], match[1]), quoted) == label


def test_dedup_of_files_is_unique_and_duplicate() -> None:
    totals = {"layer_count": 2, "unique_bytes": 10, "duplicate_bytes": 5}

    assert [(name, value) for name, _, value in exposition.dedup_samples("r", "file", totals)] == [
        ("regstore_dedup_layers", 2),
        ("regstore_dedup_stored_bytes", 10),
        ("regstore_dedup_logical_bytes", 15),
        ("regstore_dedup_saved_bytes", 5),
    ]
