"""A checkpoint as the data file of an exported graph: trained values, and beside them what the recipe computes.

This is the only place where a checkpoint, which `search_space` reads, meets the recipe's own fills, which the device
agent knows.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from search_space.export import Candidate
from search_space.graph.storing import write_parameters
from search_space.huggingface.checkpoint import open_checkpoint
from search_space.layout import Layout


def write_trained(candidate: Candidate, layout: Layout, checkpoint: Path, path: Path) -> Mapping[str, int]:
    """Write the data file of a graph with trained weights; nothing is left of one that was not finished.

    A few rows of one tensor are held at a time, whatever the size of the model. Both files are mapped: their pages
    count as the process's memory while there is room, and the system takes them back when there is not.

    Args:
        candidate: The exported graph of `layout`.
        layout: The layout.
        checkpoint: A .safetensors file, an index of shards, or a folder with either.
        path: The file to write.

    Returns:
        How many tensors were left out because they are outside the language model, by prefix.

    Raises:
        CheckpointError: It is not a checkpoint of this layout (see `open_checkpoint`).
        ConfigError: The config beside it is not understood.
        OSError: The file cannot be written.
    """
    from profiler.agent.weights import tensor_values

    trained = {tensor.name for tensor in candidate.trained_tensors()}
    temporary = path.with_name(path.name + ".part")
    with open_checkpoint(checkpoint, layout) as weights:
        try:
            with temporary.open("wb") as file:
                _reserve(file.fileno(), int(candidate.recipe["size"]))
                for tensor in candidate.recipe["tensors"]:
                    if tensor["name"] not in trained:
                        file.seek(tensor["offset"])
                        file.write(tensor_values(tensor).tobytes())
            write_parameters(candidate, temporary, weights.rows)
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        return weights.ignored


def _reserve(descriptor: int, size: int) -> None:
    """Take the space now: a mapped file whose disk is full would end the process."""
    os.ftruncate(descriptor, size)
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
