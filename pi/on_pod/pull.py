"""`pull` on the pod: fetch the repositories of a model, beside whatever runs."""

from __future__ import annotations

import secrets
from typing import List

from pi.on_pod import audit, cached, download, storage, survey
from pi.on_pod.cache_shapes import PulledRepository, PullRequest
from pi.on_pod.wire import Wire


@audit.logged("pull")
def pull(wire: Wire, request: PullRequest) -> List[PulledRepository]:
    """Download each repository that is not whole on the pod. Raises PodError."""
    storage.check()
    instance, pulled = secrets.token_hex(8), []
    for repository in request["repositories"]:
        was_there = survey.is_present(repository)
        if not was_there:
            wire.progress("fetching %s" % repository["id"])
            download.download(wire, repository, instance, request["hub_environment"])
        size = cached.size(cached.folder_of(repository["id"]))
        pulled.append(PulledRepository(model=repository["id"], was_there=was_there, size_bytes=size))
    return pulled
