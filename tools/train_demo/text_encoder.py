"""Gemma 2's decoder, small: token ids to the embeddings that the transformer reads."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

CONFIG = {
    "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "query_pre_attn_scalar": 16, "vocab_size": 512,
    "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "attn_logit_softcapping": 50.0,
}


class Norm(nn.Module):
    """The weight is an offset from 1."""

    def __init__(self, n, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.zeros(n)), eps

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * (1 + self.weight)


def frequencies(d, theta):
    return theta ** (-torch.arange(0, d, 2).float() / d)


def rope(x, theta):
    """Rotates halves of [b, heads, n, d] by the position."""
    n, d = x.shape[2:]
    angle = torch.arange(n, device=x.device).float().view(-1, 1) * frequencies(d, theta).to(x.device)
    cos, sin = angle.cos(), angle.sin()
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        d, h = c["head_dim"], c["hidden_size"]
        self.c = c
        self.q_proj = nn.Linear(h, c["num_attention_heads"] * d, bias=False)
        self.k_proj = nn.Linear(h, c["num_key_value_heads"] * d, bias=False)
        self.v_proj = nn.Linear(h, c["num_key_value_heads"] * d, bias=False)
        self.o_proj = nn.Linear(c["num_attention_heads"] * d, h, bias=False)

    def forward(self, x):
        b, n, _ = x.shape
        c = self.c
        q, k, v = (p(x).view(b, n, -1, c["head_dim"]).transpose(1, 2)
                   for p in (self.q_proj, self.k_proj, self.v_proj))
        q, k = rope(q, c["rope_theta"]), rope(k, c["rope_theta"])
        share = c["num_attention_heads"] // c["num_key_value_heads"]
        k, v = k.repeat_interleave(share, 1), v.repeat_interleave(share, 1)
        score = q @ k.transpose(2, 3) / math.sqrt(c["query_pre_attn_scalar"])
        cap = c["attn_logit_softcapping"]
        score = cap * torch.tanh(score / cap)
        later = torch.ones(n, n, dtype=torch.bool, device=x.device).triu(1)
        y = torch.softmax(score.masked_fill(later, float("-inf")), -1) @ v
        return self.o_proj(y.transpose(1, 2).reshape(b, n, -1))


class FeedForward(nn.Module):
    def __init__(self, c):
        super().__init__()
        h, m = c["hidden_size"], c["intermediate_size"]
        self.gate_proj, self.up_proj = nn.Linear(h, m, bias=False), nn.Linear(h, m, bias=False)
        self.down_proj = nn.Linear(m, h, bias=False)

    def forward(self, x):
        return self.down_proj(F.gelu(self.gate_proj(x), approximate="tanh") * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.self_attn, self.mlp = Attention(c), FeedForward(c)
        for name in ("input_layernorm", "post_attention_layernorm",
                     "pre_feedforward_layernorm", "post_feedforward_layernorm"):
            setattr(self, name, Norm(c["hidden_size"], c["rms_norm_eps"]))

    def forward(self, x):
        x = x + self.post_attention_layernorm(self.self_attn(self.input_layernorm(x)))
        return x + self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(x)))


class Gemma2(nn.Module):
    """Padding on the right needs no mask here: attention is causal."""

    def __init__(self, config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.layers = nn.ModuleList([Layer(config) for _ in range(config["num_hidden_layers"])])
        self.norm = Norm(config["hidden_size"], config["rms_norm_eps"])

    def forward(self, ids):
        x = self.embed_tokens(ids) * math.sqrt(self.embed_tokens.embedding_dim)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)
