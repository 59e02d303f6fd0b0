"""Digests as packed bytes and as text."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regstore.digest import (
    HEX_LENGTHS,
    LINK_LENGTH,
    Digest,
    format_digest,
    is_digest_of,
    pack_digest,
    pack_sha256,
    parse_digest,
    parse_digests,
    split_digest,
)

REASON = r"digest|digits|algorithm"
ALGORITHMS = st.sampled_from(sorted(HEX_LENGTHS))
TEXTS = st.binary(max_size=20).flatmap(
    lambda data: ALGORITHMS.map(lambda name: f"{name}:{hashlib.new(name, data).hexdigest()}")
)


@given(TEXTS)
def test_text_and_packed_form_lead_to_each_other(text: str) -> None:
    digest = parse_digest(text)

    assert format_digest(digest) == text
    assert ":".join(split_digest(digest)) == text
    assert pack_digest(*text.split(":")) == digest
    assert (len(digest) == 32) is text.startswith("sha256:")


@given(st.lists(TEXTS, max_size=6))
def test_many_at_once_are_each_by_itself(texts: list[str]) -> None:
    assert parse_digests(texts) == tuple(map(parse_digest, texts))


@given(st.text(max_size=90) | TEXTS.map(str.upper) | TEXTS.map(lambda text: text[:-1]) | TEXTS.map(lambda t: f"{t}0"))
def test_what_is_no_digest_raises_value_error_alone_and_among_others(text: str) -> None:
    good = "sha256:" + "0f" * 32
    for texts in ([text], [good, text], [text, good], [good, text, good]):
        with pytest.raises(ValueError, match=REASON):
            parse_digests(texts)
    with pytest.raises(ValueError, match=REASON):
        parse_digest(text)


@pytest.mark.parametrize(
    "texts",
    [
        ["sha256:" + "0" * 63, "0sha256:" + "0" * 64],
        ["sha256:" + "0" * 64 + "sha256:" + "0" * 64],
        ["sha256:" + "0" * 64 + "sha256:" + "0" * 57, "0000000"],
        ["sha", "256:" + "0" * 64],
        ["", "sha256:" + "0" * 64],
        ["sha256:" + " 0" * 32],
        ["sha256:" + "0" * 62 + "\u0663\u0663"],
        ["sha256:" + "0" * 64, "sha512:" + "0" * 64],
    ],
    ids=range(8),
)
def test_joining_hides_nothing(texts: list[str]) -> None:
    with pytest.raises(ValueError, match=REASON):
        parse_digests(texts)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "sha256",
        "sha256:",
        "sha1:" + "0" * 40,
        "SHA256:" + "0" * 64,
        "sha256:" + "A" * 64,
        "sha256:" + "g" * 64,
        "sha256:" + "0" * 65,
        "sha256:" + "0" * 64 + "\n",
        " sha256:" + "0" * 64,
        "sha256:" + "0" * 128,
        "sha512:" + "0" * 64,
        "sha256+b64:" + "0" * 64,
        "sha256::" + "0" * 63,
        "../../../etc/passwd",
    ],
)
def test_nothing_is_trimmed_or_guessed(text: str) -> None:
    with pytest.raises(ValueError, match=REASON):
        parse_digest(text)


def test_messages_are_short() -> None:
    with pytest.raises(ValueError, match="digest") as caught:
        parse_digest("x" * 100_000)

    assert len(str(caught.value)) < 200


@given(st.binary(max_size=50), ALGORITHMS)
def test_bytes_hash_to_their_digest_and_to_no_other(data: bytes, algorithm: str) -> None:
    digest = pack_digest(algorithm, hashlib.new(algorithm, data).hexdigest())

    assert is_digest_of(digest, data)
    assert not is_digest_of(digest, data + b"x")
    assert not is_digest_of(Digest(digest[:-1] + bytes([digest[-1] ^ 1])), data)


@given(st.text("0123456789abcdefABCDEF \n-x", max_size=70))
def test_packing_takes_lower_case_digits_only(digits: str) -> None:
    packed = pack_sha256(digits)

    is_right = len(digits) % 2 == 0 and set(digits) <= set("0123456789abcdef")
    assert packed == (bytes.fromhex(digits) if is_right else None)


def test_a_link_has_the_length_of_its_text() -> None:
    assert len("sha256:" + "0" * 64) == LINK_LENGTH
