"""The torch modules against a second truth: the papers' formulas as plain loops, and torch's own attention."""

import numpy as np
import pytest
import torch

from search_space.blocks.gdn import GDN
from search_space.blocks.gla import GLA
from search_space.blocks.gqa import GQA
from search_space.blocks.short_conv import ShortConv
from search_space.blocks.swa import SWA


def parameters_of(module):
    """Random parameters, norms and biases included, as float64 arrays by name."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    return {name: value.detach().double().numpy() for name, value in module.named_parameters()}


def run(spec, module, x):
    with torch.no_grad():
        return module.double()(torch.from_numpy(x), None, 0)[0].numpy()


def silu(x):
    return x / (1 + np.exp(-x))


def rms_norm(x, weight, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def inputs(width, batch=2, tokens=11):
    return np.random.default_rng(5).standard_normal((batch, tokens, width))


def test_gla_is_the_recurrence_of_the_paper():
    spec, width = GLA(heads=3, key_dim=5, value_dim=7, decay_rank=4), 18
    module = spec.module(width)
    p, x = parameters_of(module), inputs(width)
    wanted = np.zeros_like(x)
    H, K, V = 3, 5, 7
    for b in range(x.shape[0]):
        S = np.zeros((H, K, V))
        for t in range(x.shape[1]):
            projected = p["qkvg.weight"] @ x[b, t]
            q, k = projected[: H * K].reshape(H, K), projected[H * K : 2 * H * K].reshape(H, K)
            v = projected[2 * H * K : 2 * H * K + H * V].reshape(H, V)
            gate = projected[2 * H * K + H * V :].reshape(H, V)
            raw = p["decay_up.weight"] @ (p["decay_down.weight"] @ x[b, t]) + p["decay_up.bias"]
            alpha = (1 / (1 + np.exp(-raw.reshape(H, K)))) ** (1 / 16)
            out = np.zeros((H, V))
            for h in range(H):
                S[h] = np.diag(alpha[h]) @ S[h] + np.outer(k[h], v[h])
                out[h] = rms_norm(S[h].T @ q[h] / np.sqrt(K), p["norm.weight"], 1e-5) * silu(gate[h])
            wanted[b, t] = p["out_proj.weight"] @ out.reshape(-1)
    np.testing.assert_allclose(run(spec, module, x), wanted, rtol=1e-9, atol=1e-9)


def test_gdn_is_the_gated_delta_rule():
    spec, width = GDN(key_heads=2, value_heads=4, key_dim=5, value_dim=6, kernel=3), 14
    module = spec.module(width)
    p, x = parameters_of(module), inputs(width)
    Hk, Hv, K, V = 2, 4, 5, 6
    channels = 2 * Hk * K + Hv * V
    wanted = np.zeros_like(x)
    for b in range(x.shape[0]):
        projected = x[b] @ p["in_proj.weight"].T
        before = np.vstack([np.zeros((2, channels)), projected[:, :channels]])
        S = np.zeros((Hv, K, V))
        for t in range(x.shape[1]):
            taps = p["conv.weight"][:, 0, :]  # the last tap weighs the newest input
            mixed = silu(sum(taps[:, j] * before[t + j] for j in range(3)))
            q, k = mixed[: Hk * K].reshape(Hk, K), mixed[Hk * K : 2 * Hk * K].reshape(Hk, K)
            v = mixed[2 * Hk * K :].reshape(Hv, V)
            z = projected[t, channels : channels + Hv * V].reshape(Hv, V)
            b_logit, a_logit = projected[t, channels + Hv * V :].reshape(2, Hv)
            out = np.zeros((Hv, V))
            for h in range(Hv):
                unit_q = q[h // 2] / np.sqrt((q[h // 2] ** 2).sum() + 1e-6)
                unit_k = k[h // 2] / np.sqrt((k[h // 2] ** 2).sum() + 1e-6)
                beta = 1 / (1 + np.exp(-b_logit[h]))
                alpha = np.exp(-np.exp(p["A_log"][h]) * np.log1p(np.exp(a_logit[h] + p["dt_bias"][h])))
                # The paper's form: S (I - beta k k^T) alpha + beta v k^T, here transposed.
                S[h] = alpha * (np.eye(K) - beta * np.outer(unit_k, unit_k)) @ S[h] + beta * np.outer(unit_k, v[h])
                out[h] = rms_norm(S[h].T @ unit_q / np.sqrt(K), p["norm.weight"], 1e-6) * silu(z[h])
            wanted[b, t] = p["out_proj.weight"] @ out.reshape(-1)
    np.testing.assert_allclose(run(spec, module, x), wanted, rtol=1e-9, atol=1e-9)


def test_short_conv_is_a_loop_over_taps():
    width, kernel = 9, 4
    spec = ShortConv(kernel=kernel)
    module = spec.module(width)
    p, x = parameters_of(module), inputs(width)
    wanted = np.zeros_like(x)
    for b in range(x.shape[0]):
        gated = []
        for t in range(x.shape[1]):
            in_gate, out_gate, value = (p["in_proj.weight"] @ x[b, t]).reshape(3, width)
            gated.append(in_gate * value)
            mixed = np.zeros(width)
            for back in range(min(kernel, t + 1)):
                mixed += p["conv.weight"][:, 0, kernel - 1 - back] * gated[t - back]
            wanted[b, t] = p["out_proj.weight"] @ (out_gate * mixed)
    np.testing.assert_allclose(run(spec, module, x), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "spec",
    [
        GQA(heads=4, kv_heads=2, head_dim=16, rope_theta=1e4),
        GQA(heads=4, kv_heads=1, head_dim=64, rotary_fraction=0.25, qk_norm=False, output_gate=True, scale=0.3),
        SWA(heads=2, kv_heads=2, head_dim=16, window=4),
        SWA(heads=6, kv_heads=3, head_dim=32, window=50, output_gate=True),
    ],
    ids=str,
)
def test_attention_is_scaled_dot_product_attention(spec):
    width, tokens = 20, 11
    module = spec.module(width)
    p, x = parameters_of(module), inputs(width, tokens=tokens)
    H, G, K = spec.heads, spec.kv_heads, spec.head_dim
    projected = x @ p["qkv.weight"].T
    sizes = np.cumsum([H * K, G * K, G * K])
    q, k, v, gate = np.split(projected, sizes, axis=-1)
    q, k, v = (part.reshape(2, tokens, -1, K) for part in (q, k, v))
    if spec.qk_norm:
        q, k = rms_norm(q, p["q_norm.weight"], 1e-5), rms_norm(k, p["k_norm.weight"], 1e-5)

    def rotate(heads):  # as complex numbers: pair i is (x_i, x_(i + r/2))
        half = int(K * spec.rotary_fraction) // 2
        turned = heads.copy()
        for t in range(tokens):
            for i in range(half):
                pair = (heads[:, t, :, i] + 1j * heads[:, t, :, i + half]) * np.exp(
                    1j * t / spec.rope_theta ** (2 * i / (2 * half))
                )
                turned[:, t, :, i], turned[:, t, :, i + half] = pair.real, pair.imag
        return turned

    q, k, v = (torch.from_numpy(part).transpose(1, 2) for part in (rotate(q), rotate(k), v))
    age = np.arange(tokens)[:, None] - np.arange(tokens)
    window = getattr(spec, "window", tokens)
    mask = torch.from_numpy((age >= 0) & (age < window))
    scale = 1 / np.sqrt(K) if spec.scale is None else spec.scale
    y = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=True)
    y = y.transpose(1, 2).reshape(2, tokens, H * K).numpy()
    if spec.output_gate:
        y = y / (1 + np.exp(-gate))
    np.testing.assert_allclose(run(spec, module, x), y @ p["out_proj.weight"].T, rtol=1e-9, atol=1e-9)
