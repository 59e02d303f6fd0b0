"""delete, and the optional powers that remove something."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regstore_drivers.base import HasDirectories, HasMultipart, HasMultipartSize, MultipartUpload
from regstore_drivers.testing.basis import INVALID_KEYS, UNUSUAL_KEYS, WriteBasis, contents, keys_of, put

if TYPE_CHECKING:
    from collections.abc import Iterable

    from regstore_drivers.base import Driver


def _outcomes(driver: Driver, keys: Iterable[str]) -> dict[str, str]:
    outcomes = [*driver.delete(keys)]
    assert len({outcome.key for outcome in outcomes}) == len(outcomes)
    assert all(bool(outcome.reason) == (outcome.outcome == "failed") for outcome in outcomes)
    return {outcome.key: outcome.outcome for outcome in outcomes}


class Deleting(WriteBasis):
    """delete."""

    def test_each_key_has_an_outcome(self, driver: Driver) -> None:
        put(driver, "a/b", "a/b2", "c")
        absent = "absent" if self.tells_absent else "gone"
        assert _outcomes(driver, ["a/b", "missing", "a/missing", "c"]) == {
            "a/b": "gone",
            "missing": absent,
            "a/missing": absent,
            "c": "gone",
        }
        assert [*contents(driver)] == ["a/b2"]
        if self.tells_absent:
            assert _outcomes(driver, ["a/b"]) == {"a/b": "absent"}

    def test_no_keys_have_no_outcomes(self, driver: Driver) -> None:
        put(driver, "a")
        assert [*driver.delete([])] == []
        assert [*driver.delete(iter(()))] == []
        assert [*contents(driver)] == ["a"]

    def test_keys_may_be_a_generator(self, driver: Driver) -> None:
        put(driver, "a", "b")
        assert _outcomes(driver, (key for key in ("a", "b"))) == {"a": "gone", "b": "gone"}
        assert contents(driver) == {}

    def test_what_a_listing_yields_can_be_deleted(self, driver: Driver) -> None:
        put(driver, "a/b", "a/c/d", "a/e", "f")
        assert len(_outcomes(driver, (entry.key for entry in driver.list("a/")))) == 3
        assert [*contents(driver)] == ["f"]

    def test_a_directory_is_never_deleted(self, driver: Driver) -> None:
        put(driver, "a/b/c")
        outcomes = _outcomes(driver, ["a", "a/b"])
        assert [*outcomes] == ["a", "a/b"]
        if self.tells_absent:
            assert "gone" not in outcomes.values()
        assert [*contents(driver)] == ["a/b/c"]

    def test_an_object_goes_and_its_siblings_stay(self, driver: Driver) -> None:
        put(driver, "a/v1", "a/v1-alpine", "a/v10", "b")
        if self.key_may_be_directory:
            put(driver, "a/v1/link")
        former = [*contents(driver)]
        assert _outcomes(driver, ["a/v1"]) == {"a/v1": "gone"}
        assert [*contents(driver)] == [key for key in former if key != "a/v1"]

    def test_an_invalid_key_fails_and_the_others_do_not(self, driver: Driver) -> None:
        put(driver, "a", "b", "c")
        outcomes = {"a": "gone", **dict.fromkeys(INVALID_KEYS, "failed"), "b": "gone"}
        assert _outcomes(driver, outcomes) == outcomes
        assert [*contents(driver)] == ["c"]

    def test_unusual_keys_are_deleted(self, driver: Driver) -> None:
        put(driver, *UNUSUAL_KEYS)
        assert _outcomes(driver, UNUSUAL_KEYS) == dict.fromkeys(UNUSUAL_KEYS, "gone")
        assert contents(driver) == {}

    def test_more_than_a_page_is_deleted(self, driver: Driver) -> None:
        keys = [f"many/{number:06}" for number in range(self.many_keys)]
        put(driver, *keys, "stays", content=b"")
        assert _outcomes(driver, keys) == dict.fromkeys(keys, "gone")
        assert keys_of(driver.list("")) == ["stays"]

    def test_an_object_can_be_written_again(self, driver: Driver) -> None:
        put(driver, "a/b")
        assert _outcomes(driver, ["a/b"]) == {"a/b": "gone"}
        driver.write("a/b", b"again", 5, if_absent=True)
        assert contents(driver) == {"a/b": b"again"}


class RemovalPowers(WriteBasis):
    """The optional powers that remove something, of a driver that has them."""

    def test_only_empty_directories_are_removed(self, driver: Driver) -> None:
        put(driver, "a/b/c", "a/d")
        if isinstance(driver, HasDirectories):
            assert not driver.remove_empty_directory("a/")
            assert not driver.remove_empty_directory("missing/")
            assert not driver.remove_empty_directory("a/d/")
            assert _outcomes(driver, ["a/b/c"]) == {"a/b/c": "gone"}
            assert [*driver.list_dir("a/")] == ["b/", "d"]
            assert driver.remove_empty_directory("a/b/")
            assert not driver.remove_empty_directory("a/b/")
            assert [*driver.list_dir("a/")] == ["d"]

    def test_an_upload_that_is_not_there_is_not_aborted(self, driver: Driver) -> None:
        put(driver, "a")
        if isinstance(driver, HasMultipart):
            assert not driver.abort_multipart(MultipartUpload("a", "no-such-upload", 0.0))
        if isinstance(driver, HasMultipartSize):
            assert driver.multipart_size(MultipartUpload("a", "no-such-upload", 0.0)) == 0
        assert [*contents(driver)] == ["a"]
