"""Families of published models against transformers' own classes, at tiny sizes with shared random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from search_space.cost import parameters
from search_space.huggingface import read_config
from search_space.huggingface.checkpoint import open_checkpoint
from search_space.layout import Layout
from search_space.model import LanguageModel
from tests.unit.tiny_models import SEEING, TEXT, VOCABULARY, WINDOW, tiny_model

pytestmark = [
    pytest.mark.needs("transformers"),
    pytest.mark.filterwarnings("ignore"),  # its warnings are its own
]

TOLERANCE = 1e-5  # float32, and transformers computes rotary angles in float32
CHUNK = 64  # tokens of which transformers computes a Gated DeltaNet at once


def saved(model: Any, folder: Path) -> tuple[Layout, LanguageModel]:
    """The model as its saved files are read here, in float32."""
    model.save_pretrained(folder)
    layout = read_config(folder).named.layout
    ours = LanguageModel(layout)
    with open_checkpoint(folder, layout) as weights:
        state = {name: torch.from_numpy(np.concatenate(list(weights.rows(name)))) for name in ours.state_dict()}
    ours.load_state_dict(state)
    return layout, ours.eval()


def difference(got: torch.Tensor, wanted: torch.Tensor) -> float:
    assert got.shape == wanted.shape
    return float((got - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("name", [*TEXT, *SEEING])
def test_logits_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    theirs = tiny_model(name)
    layout, ours = saved(theirs, tmp_path)
    if name in TEXT:
        assert parameters(layout).total == sum(parameter.numel() for parameter in theirs.parameters())
    tokens = torch.from_numpy(np.random.default_rng(3).integers(0, VOCABULARY, (2, CHUNK + 20)))
    longest = tokens.shape[1] - 3
    assert WINDOW < 13 < CHUNK < longest
    with torch.no_grad():
        for length in (1, 13, longest):
            wanted = theirs(input_ids=tokens[:, :length], use_cache=True)
            got, state = ours(tokens[:, :length])
            assert difference(got, wanted.logits[:, -1:]) < TOLERANCE, length
            cache = wanted.past_key_values
            for step in range(length, length + 3):
                wanted = theirs(input_ids=tokens[:, step : step + 1], past_key_values=cache, use_cache=True)
                got, state = ours(tokens[:, step : step + 1], state, step)
                assert difference(got, wanted.logits) < TOLERANCE, step
