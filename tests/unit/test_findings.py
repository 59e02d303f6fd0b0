"""Findings as data."""

from __future__ import annotations

import pytest

from regstore.findings import Finding, Severity, is_clean
from regstore.gc.catalogue import CATALOGUE, finding


def test_the_json_form() -> None:
    made = Finding("id", Severity.CRITICAL, "subject", "detail", "repair")

    assert made.to_json() == {
        "id": "id",
        "severity": "critical",
        "subject": "subject",
        "detail": "detail",
        "repair": "repair",
    }
    assert Finding("id", Severity.INFO, "subject", "detail").to_json()["repair"] == ""


def test_severities_have_an_order_and_words() -> None:
    assert [severity.word for severity in sorted(Severity)] == ["info", "warning", "error", "critical"]


@pytest.mark.parametrize("severity", list(Severity))
@pytest.mark.parametrize("threshold", list(Severity))
def test_clean_is_below_the_threshold(severity: Severity, threshold: Severity) -> None:
    findings = [Finding("a", Severity.INFO, "", ""), Finding("b", severity, "", "")]

    assert is_clean(findings, threshold) is (severity < threshold and threshold > Severity.INFO)
    assert is_clean([], threshold)


def test_warning_or_worse_is_not_clean() -> None:
    assert is_clean([Finding("a", Severity.INFO, "", "")])
    assert not is_clean([Finding("a", Severity.WARNING, "", "")])


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_kind_of_the_catalogue_says_what_and_what_to_do(name: str) -> None:
    made = finding(name, "subject", "detail")

    assert (made.id, made.subject, made.detail) == (name, "subject", "detail")
    assert CATALOGUE[name].meaning
    assert made.repair


INFO = {"restored", "signature-orphan", "signature-replaced", "stray", "foreign-absent"}


def test_damage_and_failures_are_warnings_or_worse_and_the_rest_is_info() -> None:
    assert {name for name, kind in CATALOGUE.items() if kind.severity is Severity.INFO} == INFO
