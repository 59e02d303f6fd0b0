"""Guards: when a collection refuses, and why. Each is checked before anything is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regstore import layout
from regstore.errors import RefusedError
from regstore.gc.actions import Action, Kind, Refusal, Summary, Verb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regstore.gc.options import Options
    from regstore.registry import Registry

DATABASE_IN_USE = f"{layout.LOCKFILES}database-in-use"

_CACHED = {Kind.LAYER_LINK, Kind.REVISION_LINK, Kind.TAG_LINK, Kind.BLOB}


def check_markers(registry: Registry) -> None:
    """Refuse a volume whose roots lie in a database.

    Raises:
        RefusedError: GitLab's registry marked it.
    """
    if registry.has(DATABASE_IN_USE):
        raise RefusedError(
            f"{registry.location} belongs to a GitLab registry with a metadata database ({DATABASE_IN_USE}): "
            "tags are in the database, so the volume alone does not tell what is live",
            hint="use GitLab's own online garbage collection",
            code="database-in-use",
        )


def check_harbor(options: Options, summary: Summary) -> None:
    """Refuse to delete untagged manifests where no tag is on the whole volume, as Harbor has it from 2.15 on.

    Tags of signatures count for nothing: they say that an image is signed, not that it is tagged.

    Raises:
        RefusedError: see above.
    """
    if options.deletes_untagged:
        refuse_harbor(summary.revision_count, summary.tag_count, summary.signature_tag_count)


def refuse_harbor(revision_count: int, tag_count: int, signature_tag_count: int) -> None:
    """Refuse what takes every manifest for untagged, where not one tag means anything else than a signature.

    Raises:
        RefusedError: see `check_harbor`.
    """
    if revision_count and tag_count == signature_tag_count:
        beside = " beside those of signatures" if tag_count else ""
        raise RefusedError(
            f"the volume has {revision_count} manifests and not one tag{beside}: a Harbor registry keeps its "
            "tags in its database, and every image would be deleted as untagged",
            hint="leave out --delete-untagged; in Harbor delete artifacts in Harbor itself",
            code="harbor",
        )


def refusals_of(registry: Registry, options: Options, summary: Summary, actions: Sequence[Action]) -> list[Refusal]:
    """Return the guards that this plan does not pass."""
    refusals = []
    if not options.offline and not options.registry_urls and _touches_cache(actions):
        config = registry.config
        if config is None:
            why = "nothing tells whether the running registry caches blob descriptors"
        elif config.cache:
            why = f"{config.path} has a blob descriptor cache ({config.cache})"
        else:
            why = ""
        if why:
            refusals.append(
                Refusal(
                    "cache",
                    f"{why}: a cache would go on answering for layers whose links were removed behind its back, "
                    "and accept broken images",
                    "give --registry-url URL for every replica, name a config.yml without storage.cache as the "
                    "location, or stop the registry and use --offline",
                )
            )
    limit, words = _limit(options, summary)
    if limit is not None and summary.removable_bytes > limit:
        share = 100 * summary.removable_bytes / (summary.stored_bytes or 1)
        refusals.append(
            Refusal(
                "max-delete",
                f"{summary.removable_bytes} of {summary.stored_bytes} bytes ({share:.0f} %) would go, "
                f"more than --max-delete {words}",
                "look at the plan (regstore gc plan --out FILE); if it is right, raise --max-delete or set it to none",
            )
        )
    return refusals


def _touches_cache(actions: Sequence[Action]) -> bool:
    return any(action.kind in _CACHED and action.verb is not Verb.RESTORE for action in actions)


def _limit(options: Options, summary: Summary) -> tuple[float | None, str]:
    if options.max_delete_bytes is not None:
        return options.max_delete_bytes, f"{options.max_delete_bytes} bytes"
    if options.max_delete_percent is not None:
        return options.max_delete_percent / 100 * summary.stored_bytes, f"{options.max_delete_percent:g}%"
    return None, ""
