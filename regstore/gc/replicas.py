"""The running replicas of a registry, as a collection uses them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from regstore.digest import Digest, format_digest, parse_digest
from regstore.errors import RefusedError, StorageFailedError
from regstore.gc.actions import Action, Verb
from regstore.layout import REPOSITORIES, RevisionLink, TagLink
from regstore.registry.api import RegistryApi, open_apis
from regstore_drivers.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from regstore.gc.options import Options
    from regstore.registry import Registry

_PROOF_COUNT = 20


class Replicas:
    """Every replica that serves the volume.

    Each is asked before anything is changed: offline it must be quiet; online it must answer, let clients delete, and
    serve this very volume, since a wrong URL would make another registry lose its links.
    """

    def __init__(self, registry: Registry, options: Options) -> None:
        self._registry = registry
        self._options = options
        self._apis: list[RegistryApi] = []

    @property
    def are_used(self) -> bool:
        """Whether layer links are removed through them."""
        return bool(self._apis) and not self._options.offline

    def check(self, actions: Sequence[Action]) -> None:
        """Ask every replica; see the class.

        Raises:
            RefusedError, StorageFailedError: one of them must not be worked beside.
        """
        if self._options.offline:
            self._apis = [RegistryApi(url) for url in self._options.registry_urls]
            for api in self._apis:
                api.prove_quiet(self._some_repository())
            return
        self._apis = open_apis(self._options.registry_urls)
        if self._apis and any(action.verb is not Verb.RESTORE for action in actions):
            for api in self._apis:
                api.check_deletes(self._some_repository())
                self._check_identity(api)

    def delete_layer(self, repository: str, digest: Digest) -> None:
        """Make every replica remove and forget a repository's link to a blob.

        Raises:
            StorageFailedError: one answers what no registry answers to that.
        """
        for api in self._apis:
            status = api.delete_blob(repository, digest)
            if status not in (202, 404, 500):
                raise StorageFailedError(
                    f"{api.url} answers {status} to the deletion of {format_digest(digest)} in {repository}",
                    code="registry-refused",
                )

    def close(self) -> None:
        """Close all connections."""
        for api in self._apis:
            api.close()

    def _some_repository(self) -> str:
        return next((name for name, _, _ in self._some_tags()), "regstore/probe")

    def _check_identity(self, api: RegistryApi) -> None:
        """Compare some tags of the volume with what the replica says of them; without any tag, some manifests."""
        asked = 0
        for repository, reference, digest in self._some_references():
            if api.tag_digest(repository, reference) == digest:
                return
            asked += 1
            if asked == _PROOF_COUNT:
                break
        if asked:
            raise RefusedError(
                f"{api.url} does not serve the volume {self._registry.location}: {asked} of its tags or manifests are "
                "unknown there or mean something else",
                hint="name the registry that runs on this volume",
                code="wrong-registry",
            )

    def _some_references(self) -> Iterator[tuple[str, str, str]]:
        """Yield some (repository, tag, digest) of the volume; where it has no tag at all, manifests by digest."""
        has_tags = False
        for found in self._some_tags():
            has_tags = True
            yield found
        if has_tags:
            return
        for repository in self._some_repositories():
            prefix = f"{REPOSITORIES}{repository}/_manifests/revisions/sha256/"
            for name in self._registry.driver.list_dir(prefix):
                digest = f"sha256:{name.rstrip('/')}"
                with suppress(ValueError):
                    if self._registry.has(RevisionLink(repository, parse_digest(digest)).key):
                        yield repository, digest, digest

    def _some_tags(self) -> Iterator[tuple[str, str, str]]:
        """Yield some (repository, tag, digest) of the volume, without listing all of it."""
        driver = self._registry.driver
        for repository in self._some_repositories():
            for tag in driver.list_dir(f"{REPOSITORIES}{repository}/_manifests/tags/"):
                try:
                    content = driver.read(TagLink(repository, tag.rstrip("/")).key)
                    yield repository, tag.rstrip("/"), format_digest(parse_digest(content.decode()))
                except (NotFound, ValueError):
                    continue

    def _some_repositories(self) -> Iterator[str]:
        """Yield the names of repositories that have manifests."""
        pending = [REPOSITORIES]
        while pending:
            prefix = pending.pop()
            for name in self._registry.driver.list_dir(prefix):
                if name == "_manifests/":
                    yield prefix[len(REPOSITORIES) :].rstrip("/")
                elif name.endswith("/") and not name.startswith("_"):
                    pending.append(prefix + name)
