"""How migrations are shown: tables for people, documents for scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from regstore.cli import messages
from regstore.cli.output import render_table
from regstore.digest import format_digest
from regstore.findings import is_clean
from regstore.wording import human_bytes, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regstore.migrate import MigrationPlan, MigrationResult, Verification
    from regstore_drivers.base import CopyFeatures, WriteFeatures

_SHOWN_COUNT = 20
_KINDS = {"empty": "is empty", "blobs-only": "has data and no repository", "former-run": "has a former run"}
_MARKS = {"=": "same", "+": "source_only", "-": "target_only", "*": "different", "!": "bad"}


def show_features(features: WriteFeatures | None) -> None:
    """Warn of what a server cannot do."""
    if features and not features.has_checksums:
        messages.warn("the server takes no checksums: --readback, or verify --readback, proves what it stored")
    if features and not features.has_conditions:
        messages.warn("the server ignores conditional writes: see yourself that no second run writes there")


def warn_of_refusal(refusal: str) -> None:
    """Warn where a server that holds both ends does not copy all data by itself."""
    if refusal:
        messages.warn(
            f"data go through this host, because the server does not copy them from the source by itself: {refusal}"
        )


def show_plan(plan: MigrationPlan) -> None:
    """Print what a run would do."""
    click.echo(f"source    {plain(plan.source)}")
    click.echo(f"target    {plain(plan.target)}, which {_KINDS[plan.kind]}")
    click.echo(f"moves     {plan.repository_count} repositories, {plan.tag_count} tags, {len(plan.needed)} blobs")
    if plan.doubtful:
        click.echo(f"hashes    {len(plan.doubtful)} blobs that are at the target and that no run wrote")
    click.echo(f"copies    {len(plan.blobs)} blobs with {human_bytes(plan.total_bytes)}, {plan.link_count} links")
    click.echo(f"tags      {len(plan.new_tags)} new, {len(plan.replaced)} moved, {len(plan.gone_tags)} gone")
    if plan.loose:
        click.echo(f"besides   {len(plan.loose)} files of uploads and half-written ones")
    if plan.features:
        click.echo(f"server    {_server_words(plan.features, plan.copies)}")
    if plan.is_server_side:
        large = f" of {human_bytes(plan.copied_min_bytes)} and more" if plan.copied_min_bytes else ""
        click.echo(f"          and copies data{large} from the source itself, without this host")
    if plan.estimate:
        rate = human_bytes(plan.estimate.bytes_per_second)
        words = f"{rate} and {plan.estimate.links_per_second:.0f} links a second"
        click.echo(f"takes     about {_duration(plan.estimate.seconds)}, at {words} as measured")
    replaced = plan.replaced
    if replaced:
        click.echo(f"\ntags that mean something else at the target: {len(replaced)}")
        for image, (old, new) in sorted(replaced.items())[:_SHOWN_COUNT]:
            click.echo(f"  {plain(image)}\n    {format_digest(old)} -> {format_digest(new)}")


def _server_words(features: WriteFeatures, copies: CopyFeatures | None) -> str:
    can = {"checks SHA-256": features.has_checksums, "knows conditional writes": features.has_conditions}
    if copies:
        can |= {"copies": copies.has_copies, "copies in parts": copies.has_part_copies}
    return ", ".join(f"{words}: {'yes' if is_so else 'no'}" for words, is_so in can.items())


def _features_json(plan: MigrationPlan) -> dict[str, bool] | None:
    features, copies = plan.features, plan.copies
    if features is None:
        return None
    fields = {"checksums": features.has_checksums, "conditional_writes": features.has_conditions}
    if copies:
        fields |= {
            "copies": copies.has_copies,
            "multipart_copies": copies.has_part_copies,
            "copy_checksums": copies.has_checksums,
            "copies_from_source": plan.is_server_side,
        }
    return fields


def plan_json(plan: MigrationPlan) -> dict[str, Any]:
    """Return a plan's fields in documents."""
    measured = plan.estimate
    return {
        "target": plan.target,
        "target_kind": plan.kind,
        "repositories": plan.repository_count,
        "tags": plan.tag_count,
        "blobs": len(plan.blobs),
        "bytes": plan.total_bytes,
        "links": plan.link_count,
        "new_tags": sorted(plan.new_tags),
        "moved_tags": _moved_json(plan),
        "gone_tags": {image: format_digest(digest) for image, digest in sorted(plan.gone_tags.items())},
        "to_be_hashed": len(plan.doubtful),
        "features": _features_json(plan),
        "estimate": {
            "seconds": round(measured.seconds, 1),
            "bytes_per_second": round(measured.bytes_per_second),
            "links_per_second": round(measured.links_per_second, 1),
        }
        if measured
        else None,
    }


def show_run(results: Sequence[MigrationResult]) -> None:
    """Print what was done."""
    plan = results[0].plan
    blobs, size = sum(one.copied_count for one in results), sum(one.copied_bytes for one in results)
    links, tags = sum(one.link_count for one in results), sum(one.tag_count for one in results)
    moved = sum(len(one.plan.replaced) for one in results)
    click.echo(f"source    {plain(plan.source)}")
    click.echo(f"target    {plain(plan.target)}")
    click.echo(f"copied    {blobs} blobs with {human_bytes(size)}, all hashed; {links} links")
    if copied := sum(one.server_count for one in results):
        by_server = human_bytes(sum(one.server_bytes for one in results))
        click.echo(f"          {copied} of them with {by_server} by the server itself")
    click.echo(f"tags      {tags} written, {moved} of them moved" + _removed_words(results))
    click.echo(f"moved     {plan.repository_count} repositories, {plan.tag_count} tags in all")


def _removed_words(results: Sequence[MigrationResult]) -> str:
    count = sum(len(one.removed) for one in results)
    return f"; {count} removed" if count else ""


def run_json(results: Sequence[MigrationResult]) -> dict[str, Any]:
    """Return the fields of one or more runs in documents."""
    plan = results[0].plan
    moved: dict[str, Any] = {}
    for one in results:
        moved |= _moved_json(one.plan)
    return {
        "target": plan.target,
        "target_kind": plan.kind,
        "repositories": plan.repository_count,
        "tags": plan.tag_count,
        "copied_blobs": sum(one.copied_count for one in results),
        "copied_bytes": sum(one.copied_bytes for one in results),
        "server_copied_blobs": sum(one.server_count for one in results),
        "server_copied_bytes": sum(one.server_bytes for one in results),
        "written_links": sum(one.link_count for one in results),
        "written_tags": sum(one.tag_count for one in results),
        "moved_tags": moved,
        "gone_tags": {image: format_digest(digest) for image, digest in sorted(results[-1].plan.gone_tags.items())},
        "removed_tags": sorted(image for one in results for image in one.removed),
    }


def _moved_json(plan: MigrationPlan) -> dict[str, dict[str, str]]:
    return {
        image: {"old": format_digest(old), "new": format_digest(new)}
        for image, (old, new) in sorted(plan.replaced.items())
    }


def show_verification(result: Verification) -> None:
    """Print how many items of each kind are alike."""
    rows = [["", "same", "source only", "target only", "different", "bad"]]
    for kind, counts in result.counts.items():
        rows.append([f"{kind}s", *(str(counts[mark]) for mark in _MARKS)])
    click.echo()
    click.echo(render_table(rows))
    if result.hashed_count:
        click.echo(f"hashed    {result.hashed_count} blobs with {human_bytes(result.hashed_bytes)} at the target")


def verification_json(result: Verification) -> dict[str, Any]:
    """Return a comparison's fields in documents."""
    return {
        "is_equal": is_clean(result.findings),
        "items": {
            f"{kind}s": {word: counts[mark] for mark, word in _MARKS.items()} for kind, counts in result.counts.items()
        },
        "hashed_blobs": result.hashed_count,
        "hashed_bytes": result.hashed_bytes,
    }


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
