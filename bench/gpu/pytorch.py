#!/usr/bin/env python3
"""The opponent of `make gpu-check`: diffusers' own SanaVideoTransformer3DModel and AutoencoderKLWan in PyTorch, on
the same GPU, with the engine's synthetic weights (engine/weights_synthetic.h) and the engine's inputs, so that
results are compared too, not only times.

diffusers is imported where it is installed. Else DIFFUSERS_SRC names a checkout, and its two model files are loaded
with stand-ins (below) for what they inherit from the rest of the package.

    pytorch.py --dir DIR --json FILE [--tiny] [--quick]

DIR holds what `gpu-check dump` wrote. Exit status 77: skipped; the last line says why.
"""
import argparse
import importlib.util
import inspect
import json
import math
import os
import statistics
import sys
import time
import types

import torch
import torch.nn.functional as F
from torch import nn

NUMBERS = 1 << 24
PLACES = 1 << 18


# ---- synthetic weights ----


def signed(x):
    return x - (1 << 64) if x >= 1 << 63 else x


def shift_right(x, n):
    """Logical, of int64."""
    return (x >> n) & ((1 << (64 - n)) - 1)


def splitmix64(x):
    x = x + signed(0x9E3779B97F4A7C15)
    x = (x ^ shift_right(x, 30)) * signed(0xBF58476D1CE4E5B9)
    x = (x ^ shift_right(x, 27)) * signed(0x94D049BB133111EB)
    return x ^ shift_right(x, 31)


def fnv1a64(text):
    h = 0xCBF29CE484222325
    for byte in text.encode():
        h = ((h ^ byte) * 0x100000001B3) & ((1 << 64) - 1)
    return h


class Synthetic:
    def __init__(self, device):
        i = torch.arange(NUMBERS, dtype=torch.int64, device=device)
        u = shift_right(splitmix64(i), 40).to(torch.float32) / 16777216.0
        centred = 2.0 * u - 1.0
        self.matrix = (centred * 0.0346410162).to(torch.bfloat16)
        self.norm = (1.0 + 0.1 * centred).to(torch.bfloat16)

    def tensor(self, name, shape):
        is_norm = any(part in name for part in ("norm", "gamma", "std"))
        cycle = self.norm if is_norm else self.matrix
        place = fnv1a64(name) % PLACES * (NUMBERS // PLACES)
        count = math.prod(shape)
        repeats = (place + count + NUMBERS - 1) // NUMBERS
        return cycle.repeat(repeats)[place:place + count].reshape(shape)

    def fill(self, model, dtype, device):
        """Parameters in dtype; buffers (rope tables) stay as they are, as after from_pretrained(torch_dtype=...)."""
        for name, p in model.named_parameters():
            p.data = self.tensor(name, p.shape).to(device=device, dtype=dtype)
            p.requires_grad_(False)
        for module in model.modules():
            for name, b in module.named_buffers(recurse=False):
                setattr(module, name, b.to(device))
        return model.eval()


# ---- what the two model files inherit, where diffusers is not installed ----


class Mixin:
    pass


def register_to_config(init):
    def wrapped(self, *args, **kwargs):
        bound = inspect.signature(init).bind(self, *args, **kwargs)
        bound.apply_defaults()
        values = {k: v for k, v in bound.arguments.items() if k != "self"}
        self.__dict__["config"] = types.SimpleNamespace(**values)
        init(self, *args, **kwargs)
    return wrapped


class RMSNorm(nn.Module):
    def __init__(self, dim, eps, elementwise_affine=True, bias=False):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim)) if elementwise_affine else None
        self.bias = nn.Parameter(torch.zeros(dim)) if elementwise_affine and bias else None

    def forward(self, x):
        y = x * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + self.eps)
        y = y.to(x.dtype if self.weight is None else self.weight.dtype)
        y = y if self.weight is None else y * self.weight
        return y if self.bias is None else y + self.bias


class Attention(nn.Module):
    """The projections and norms; the processor does the rest."""

    def __init__(self, query_dim, heads, dim_head, processor, cross_attention_dim=None, bias=False, out_bias=True,
                 qk_norm=None, dropout=0.0, kv_heads=None):
        super().__init__()
        inner = heads * dim_head
        keys = cross_attention_dim or query_dim
        self.heads = heads
        self.rescale_output_factor = 1.0
        self.processor = processor
        self.to_q = nn.Linear(query_dim, inner, bias=bias)
        self.to_k = nn.Linear(keys, inner, bias=bias)
        self.to_v = nn.Linear(keys, inner, bias=bias)
        self.norm_q = RMSNorm(inner, 1e-5) if qk_norm else None
        self.norm_k = RMSNorm(inner, 1e-5) if qk_norm else None
        self.to_out = nn.ModuleList([nn.Linear(inner, query_dim, bias=out_bias), nn.Dropout(dropout)])

    def forward(self, hidden_states, **kwargs):
        return self.processor(self, hidden_states, **kwargs)


class Timesteps(nn.Module):
    def __init__(self, num_channels, **_):
        super().__init__()
        self.half = num_channels // 2

    def forward(self, t):
        rate = torch.exp(torch.arange(self.half, dtype=torch.float32, device=t.device) * -(math.log(10000) / self.half))
        angle = t[:, None].float() * rate[None]
        return torch.cat([angle.cos(), angle.sin()], dim=-1)


class TimestepEmbedding(nn.Module):
    def __init__(self, in_channels, time_embed_dim):
        super().__init__()
        self.linear_1 = nn.Linear(in_channels, time_embed_dim)
        self.linear_2 = nn.Linear(time_embed_dim, time_embed_dim)

    def forward(self, x):
        return self.linear_2(F.silu(self.linear_1(x)))


class TimeProjection(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.time_proj = Timesteps(256)
        self.timestep_embedder = TimestepEmbedding(256, dim)

    def forward(self, t, dtype):
        return self.timestep_embedder(self.time_proj(t).to(dtype))


class AdaLayerNormSingle(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.emb = TimeProjection(dim)
        self.linear = nn.Linear(dim, 6 * dim)

    def forward(self, timestep, batch_size=None, hidden_dtype=None):
        e = self.emb(timestep, hidden_dtype)
        return self.linear(F.silu(e)), e


class PixArtAlphaTextProjection(nn.Module):
    def __init__(self, in_features, hidden_size):
        super().__init__()
        self.linear_1 = nn.Linear(in_features, hidden_size)
        self.linear_2 = nn.Linear(hidden_size, hidden_size)

    def forward(self, caption):
        return self.linear_2(F.gelu(self.linear_1(caption), approximate="tanh"))


def get_1d_rotary_pos_embed(dim, pos, theta=10000.0, freqs_dtype=torch.float64, **_):
    rate = 1.0 / theta ** (torch.arange(0, dim, 2, dtype=freqs_dtype) / dim)
    angle = torch.outer(torch.arange(pos, dtype=freqs_dtype), rate)
    return tuple(f.repeat_interleave(2, dim=1).float() for f in (angle.cos(), angle.sin()))


def dispatch_attention_fn(query, key, value, attn_mask=None, **_):
    q, k, v = (t.transpose(1, 2) for t in (query, key, value))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask).transpose(1, 2)


class Output(types.SimpleNamespace):
    pass


def stand_ins():
    log = types.SimpleNamespace(get_logger=lambda name: types.SimpleNamespace(warning=print))
    model = type("ModelMixin", (nn.Module,), {})
    mixin = {name: type(name, (Mixin,), {}) for name in
             ("ConfigMixin", "FromOriginalModelMixin", "PeftAdapterMixin", "AttentionMixin", "AutoencoderMixin")}
    identity = lambda x: x
    return {
        "diffusers": {}, "diffusers.models": {}, "diffusers.models.transformers": {},
        "diffusers.models.autoencoders": {},
        "diffusers.configuration_utils": {"ConfigMixin": mixin["ConfigMixin"],
                                          "register_to_config": register_to_config},
        "diffusers.loaders": mixin,
        "diffusers.utils": {"logging": log, "apply_lora_scale": lambda name: identity},
        "diffusers.utils.accelerate_utils": {"apply_forward_hook": identity},
        "diffusers.models.attention": mixin,
        "diffusers.models.attention_dispatch": {"dispatch_attention_fn": dispatch_attention_fn},
        "diffusers.models.attention_processor": {"Attention": Attention},
        "diffusers.models.embeddings": {"PixArtAlphaTextProjection": PixArtAlphaTextProjection,
                                        "TimestepEmbedding": TimestepEmbedding, "Timesteps": Timesteps,
                                        "get_1d_rotary_pos_embed": get_1d_rotary_pos_embed},
        "diffusers.models.modeling_outputs": {"Transformer2DModelOutput": Output, "AutoencoderKLOutput": Output},
        "diffusers.models.modeling_utils": {"ModelMixin": model},
        "diffusers.models.normalization": {"AdaLayerNormSingle": AdaLayerNormSingle, "RMSNorm": RMSNorm},
        "diffusers.models.activations": {"get_activation": lambda name: {"silu": nn.SiLU}[name]()},
        "diffusers.models.autoencoders.vae": {**mixin, "DecoderOutput": Output,
                                              "DiagonalGaussianDistribution": Output},
    }


def load_file(root, name):
    path = os.path.join(root, *name.split(".")) + ".py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def find_classes():
    """The transformer's class, the VAE's, and where they are from."""
    try:
        import diffusers
        return diffusers.SanaVideoTransformer3DModel, diffusers.AutoencoderKLWan, "diffusers " + diffusers.__version__
    except (ImportError, AttributeError, RuntimeError) as e:
        why = str(e).splitlines()[0]
    source = os.environ.get("DIFFUSERS_SRC")
    if not source:
        print(f"no diffusers with SanaVideoTransformer3DModel ({why}), and DIFFUSERS_SRC is not set")
        sys.exit(77)
    for name in [n for n in sys.modules if n.split(".")[0] == "diffusers"]:
        del sys.modules[name]
    for name, content in stand_ins().items():
        module = types.ModuleType(name)
        module.__path__ = []
        module.__dict__.update(content)
        sys.modules[name] = module
    root = os.path.join(source, "src")
    transformer = load_file(root, "diffusers.models.transformers.transformer_sana_video")
    vae = load_file(root, "diffusers.models.autoencoders.autoencoder_kl_wan")
    return transformer.SanaVideoTransformer3DModel, vae.AutoencoderKLWan, "diffusers' model files"


# ---- measuring ----


class Check:
    def __init__(self, args):
        self.args = args
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.shapes = json.load(open(os.path.join(args.dir, "shapes.json")))
        self.engine = {}
        self.bad = False
        if args.json and os.path.exists(args.json):
            for text in open(args.json):
                figure = json.loads(text).get("figure", {})
                if "value" in figure:
                    self.engine[figure["key"]] = figure["value"]

    def report(self, key, name, unit, value, goal=None):
        goal = None if self.args.tiny else goal
        digits = 6 if unit == "cosine" else 4
        print(f"{name:<46} {value:10.{digits}g} {unit:<11} {'':>18}  {'' if goal is None else '>= %g' % goal}", flush=True)
        if self.args.json:
            figure = {"key": key, "name": name, "unit": unit, "value": value}
            if goal is not None:
                figure.update(goal_h200=goal, goal_is="at least")
            with open(self.args.json, "a") as f:
                f.write(json.dumps({"step": "pytorch", "figure": figure}) + "\n")

    def must_agree(self, key, name, a, b):
        value = cosine(a, b)
        self.report(key, name, "cosine", value)
        if not value >= 0.999:
            print(f"FAIL {key}: {value:.6g}, the limit is 0.999")
            self.bad = True

    def ratio(self, key, name, ms, engine_key, goal=None):
        if self.engine.get(engine_key):
            self.report(key, name, "times", ms / self.engine[engine_key], goal)

    def floats(self, name, *shape):
        path = os.path.join(self.args.dir, name + ".f32")
        data = bytearray(open(path, "rb").read())
        return torch.frombuffer(data, dtype=torch.float32).reshape(*shape).to(self.device)

    def synchronize(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def time(self, fn, runs):
        for _ in range(2):
            fn()
        ms = []
        for _ in range(runs):
            self.synchronize()
            start = time.perf_counter()
            fn()
            self.synchronize()
            ms.append(1e3 * (time.perf_counter() - start))
        return statistics.median(ms)


def cosine(a, b):
    a, b = a.double().flatten(), b.double().flatten()
    return float(torch.dot(a, b) / (a.norm() * b.norm()))


def make_transformer(check, cls, synthetic, dtype):
    s = check.shapes
    width = s["heads"] * s["head_dim"]
    model = cls(in_channels=s["channels"], out_channels=s["channels"], num_attention_heads=s["heads"],
                attention_head_dim=s["head_dim"], num_layers=s["layers"], num_cross_attention_heads=s["heads"],
                cross_attention_head_dim=s["head_dim"], cross_attention_dim=width, caption_channels=s["caption"],
                mlp_ratio=s["mlp"] / width, patch_size=(1, s["patch"], s["patch"]))
    return synthetic.fill(model, dtype, check.device)


def check_transformer(check, cls, synthetic):
    s = check.shapes
    t, h, w = s["forward"]
    runs = 3 if check.args.quick or check.args.tiny else 5
    x = check.floats("latents", 1, t, h, w, s["channels"]).permute(0, 4, 1, 2, 3).contiguous()
    text = check.floats("embeds", 1, s["text"], s["caption"])
    velocity = check.floats("velocity", t, h, w, s["channels"])

    def call(model, dtype, x, text):
        times = torch.full((x.shape[0],), float(s["timestep"]), device=check.device)
        return model(x.to(dtype), text.to(dtype), times, return_dict=False)[0]

    def result(model, dtype):
        return call(model, dtype, x, text)[0].permute(1, 2, 3, 0)

    model = make_transformer(check, cls, synthetic, torch.bfloat16)
    bf16 = result(model, torch.bfloat16)
    check.report("pytorch.forward.same", "transformer: PyTorch bf16 and the engine", "cosine", cosine(bf16, velocity))
    ms = check.time(lambda: call(model, torch.bfloat16, x, text), runs)
    check.report("pytorch.forward.eager", "transformer, a block: PyTorch eager", "ms", ms)
    check.ratio("pytorch.forward.eager.ratio", "... the engine is faster by", ms, "forward.block", 1.4)
    if not check.args.quick:
        frames = 3 if check.args.tiny else 21
        clip = torch.randn(2, s["channels"], frames, h, w, device=check.device)
        both = torch.cat([text, text])
        ms = check.time(lambda: call(model, torch.bfloat16, clip, both), 3)
        check.report("pytorch.clip.eager", "transformer, a clip: PyTorch eager", "ms", ms)
        check.ratio("pytorch.clip.eager.ratio", "... the engine is faster by", ms, "forward.clip")
        if check.device.type == "cuda":
            check.report("pytorch.memory", "transformer alone: PyTorch's memory, the most", "GB",
                         torch.cuda.max_memory_allocated() / 1e9)
    compile_blocks(check, model, lambda: call(model, torch.bfloat16, x, text), runs)
    model = None
    f32 = result(make_transformer(check, cls, synthetic, torch.float32), torch.float32)
    check.must_agree("pytorch.forward.f32", "transformer: PyTorch f32 and the engine in bf16", f32, velocity)
    check.report("pytorch.forward.own", "transformer: PyTorch f32 and its own bf16", "cosine", cosine(f32, bf16))


def compile_blocks(check, model, fn, runs):
    """Each block for itself: seconds, where the whole model takes minutes."""
    if not hasattr(torch, "compile") or check.device.type != "cuda":
        return
    try:
        for i, block in enumerate(model.transformer_blocks):
            model.transformer_blocks[i] = torch.compile(block)
        ms = check.time(fn, runs)
    except Exception as e:  # whatever a compiler may throw; eager's figures stand
        print(f"torch.compile: {str(e).splitlines()[0]}")
        return
    check.report("pytorch.forward.compiled", "transformer, a block: PyTorch compiled", "ms", ms)
    check.ratio("pytorch.forward.compiled.ratio", "... the engine is faster by", ms, "forward.block")


def check_vae(check, cls, synthetic):
    s = check.shapes
    t, h, w = s["decode"]
    z = check.floats("z", 1, t, h, w, s["channels"]).permute(0, 4, 1, 2, 3).contiguous()
    pixels = check.floats("pixels", 1 + 4 * (t - 1), 8 * h, 8 * w, 3)

    def make(dtype):
        model = cls(base_dim=s["vae_dim"], z_dim=s["channels"], num_res_blocks=s["vae_blocks"])
        return synthetic.fill(model, dtype, check.device)

    def result(model, dtype):
        return model.decode(z.to(dtype), return_dict=False)[0][0].permute(1, 2, 3, 0)

    def per_frame(model, like):
        """A latent frame in the middle of a video."""
        short, long = (torch.randn(1, s["channels"], n, h, w, device=check.device, dtype=torch.bfloat16)
                       .contiguous(memory_format=like) for n in (2, 4))
        a = check.time(lambda: model.decode(short, return_dict=False), 3)
        b = check.time(lambda: model.decode(long, return_dict=False), 3)
        return (b - a) / 2

    model = make(torch.bfloat16)
    bf16 = result(model, torch.bfloat16)
    check.report("pytorch.decode.same", "Wan decoder: PyTorch bf16 and the engine", "cosine", cosine(bf16, pixels))
    ms = per_frame(model, torch.contiguous_format)
    check.report("pytorch.decode.eager", "Wan VAE, a latent frame: PyTorch eager", "ms", ms)
    check.ratio("pytorch.decode.eager.ratio", "... the engine is faster by", ms, "decode.wan")
    if not check.args.quick:
        for module in model.modules():
            if isinstance(module, nn.Conv3d):
                module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last_3d)
        ms = per_frame(model, torch.channels_last_3d)
        check.report("pytorch.decode.channels_last", "Wan VAE, a latent frame: channels last", "ms", ms)
        check.ratio("pytorch.decode.channels_last.ratio", "... the engine is faster by", ms, "decode.wan")
    model = None
    f32 = result(make(torch.float32), torch.float32)
    check.must_agree("pytorch.decode.f32", "Wan decoder: PyTorch f32 and the engine in bf16", f32, pixels)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", default=".")
    parser.add_argument("--json")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--quick", action="store_true")
    check = Check(parser.parse_args())
    transformer, vae, source = find_classes()
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    name = torch.cuda.get_device_name() if check.device.type == "cuda" else "cpu"
    print(f"PyTorch {torch.__version__}, {source}, {name}")
    with torch.no_grad():
        synthetic = Synthetic(check.device)
        check_transformer(check, transformer, synthetic)
        check_vae(check, vae, synthetic)
    return 1 if check.bad else 0


if __name__ == "__main__":
    sys.exit(main())
