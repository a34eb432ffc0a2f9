"""Whole models: the torch language model and the exported graph compute the same logits."""

import numpy as np
import pytest
import torch

from search_space.conformance import TOLERANCE, GraphRunner, relative_rms
from search_space.cost import parameters
from search_space.export import export_layout
from search_space.graph.precision import PRECISIONS
from search_space.model import LanguageModel
from tests.unit.search_space.small_layouts import HYBRIDS, layout

TOKENS, PREFILL = 20, 11


def tokens_of(model_layout, batch=2):
    return np.random.default_rng(3).integers(0, model_layout.embedding.vocab_size, (batch, TOKENS))


def torch_logits(model, tokens):
    with torch.no_grad():
        return model(torch.from_numpy(tokens))[0].numpy()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", HYBRIDS)
def test_graph_and_torch_agree(name, precision):
    hybrid = HYBRIDS[name]
    candidate = export_layout(hybrid, precision=precision, context=30)
    runner = GraphRunner(candidate, exact=True)
    model = LanguageModel(hybrid).eval()
    model.load_state_dict(runner.torch_state())
    model.double()
    tokens = tokens_of(hybrid)
    wanted = torch_logits(model, tokens)
    assert wanted.shape == (2, 1, hybrid.embedding.vocab_size)
    for feed in (runner.sequence, runner.bound_sequence):
        for calls in ([TOKENS], [PREFILL, *[1] * (TOKENS - PREFILL)], [1] * TOKENS):
            outputs, _ = feed(tokens, calls, capacity=TOKENS)
            assert outputs[-1].shape == wanted.shape
            assert relative_rms(outputs[-1], wanted) < TOLERANCE[precision], (feed.__name__, calls)


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_int8_arithmetic_moves_logits_a_little(precision):
    hybrid = layout("CWGNCG", width=96, vocab_size=300)
    runner = GraphRunner(export_layout(hybrid, precision=precision, context=30))
    model = LanguageModel(hybrid).eval()
    model.load_state_dict(runner.torch_state())
    tokens = tokens_of(hybrid)
    (got,), _ = runner.sequence(tokens, [TOKENS], capacity=TOKENS)
    assert 1e-4 < relative_rms(got, torch_logits(model, tokens)) < 5e-2


@pytest.mark.parametrize("name", HYBRIDS)
def test_steps_equal_prefill_in_torch(name):
    model = LanguageModel(HYBRIDS[name]).eval().double()
    tokens = torch.from_numpy(tokens_of(HYBRIDS[name]))
    with torch.no_grad():
        whole, _ = model(tokens)
        logits, state = model(tokens[:, :PREFILL])
        for position in range(PREFILL, TOKENS):
            logits, state = model(tokens[:, position : position + 1], state, position)
    assert relative_rms(logits.numpy(), whole.numpy()) < 1e-9


@pytest.mark.parametrize("name", HYBRIDS)
def test_parameters_are_the_models(name):
    hybrid = HYBRIDS[name]
    model, counts = LanguageModel(hybrid), parameters(hybrid)
    assert counts.total == sum(parameter.numel() for parameter in model.parameters())

    def of(*parts):
        return sum(p.numel() for path, p in model.named_parameters() if any(part in f".{path}" for part in parts))

    assert counts.embedding == of(".embedding.", ".embedding_up.")
    assert counts.head == of(".head.", ".head_down.")
    assert counts.mixers == of(".mixer.")
    assert counts.ffn == of(".ffn.")
    assert counts.norms == of(".norm.weight", "_norm.weight") - of(".mixer.norm.", ".mixer.q_norm.", ".mixer.k_norm.")


def test_every_parameter_learns():
    hybrid = HYBRIDS["factorised, untied"]
    model = LanguageModel(hybrid)
    logits, _ = model(torch.from_numpy(tokens_of(hybrid)))
    logits.logsumexp(-1).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
