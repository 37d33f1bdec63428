"""The block-causal transformer, and its training together with the text encoder.

Teacher forcing in one forward: the frame axis holds clean copies of all blocks but the last, then
the noisy blocks. A noisy block reads its own attention sums plus those of clean blocks before it;
its temporal convolution's left neighbour is the last frame of the clean block before it. Clean
copies do the same among themselves, at timestep 0. That is what generation computes with a carried
state, block after block, and the clean copies are trained by what later blocks make of them.
"""
import math
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

import data
import optim
import text_encoder

CONFIG = {
    "in_channels": 16, "out_channels": 16, "num_attention_heads": 4, "attention_head_dim": 32, "num_layers": 6,
    "num_cross_attention_heads": 4, "cross_attention_head_dim": 32, "cross_attention_dim": 128,
    "caption_channels": 64, "mlp_ratio": 2.0, "patch_size": [1, 2, 2],
}
PATCH = 2
BLOCK = 4       # latent frames; the first block of a video has one more
HISTORY = 2     # blocks that the attention looks back, in training and when it is served
SHIFT = 3.0     # of the noise schedule


class Layout:
    """Which frames stand where, for blocks of given sizes. only_last: of the noisy blocks only the last,
    for generating. Segments are (first, end) on the frame axis."""

    def __init__(self, blocks, history=HISTORY, only_last=False):
        n = len(blocks)
        begin = [sum(blocks[:i]) for i in range(n)]
        wanted = [("clean", i) for i in range(n - 1)]
        wanted += [("noisy", i) for i in range(n) if not only_last or i == n - 1]
        self.clean_frames = begin[-1]
        self.segments, position, self.sources = [], [], []
        at = 0
        for _, i in wanted:
            self.segments.append((at, at + blocks[i]))
            position += range(begin[i], begin[i] + blocks[i])
            at += blocks[i]
            oldest = 0 if history < 0 else max(0, i - history)
            self.sources.append(list(range(oldest, i)))  # clean block j is segment j
        self.frames = at
        self.position = torch.tensor(position)
        self.left, self.right = self.neighbours(wanted)

    def neighbours(self, wanted):
        """Frame numbers beside each frame; self.frames stands for a frame of zeros."""
        left, right = torch.arange(self.frames) - 1, torch.arange(self.frames) + 1
        for (first, end), (_, i) in zip(self.segments, wanted):
            left[first] = self.segments[i - 1][1] - 1 if i > 0 else self.frames
            right[end - 1] = self.frames
        return left, right


def rms(x, weight, eps=1e-5):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def layer_norm(x, shift, scale):
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


def rope_table(position, height, width, d):
    """Unit complex numbers [frames * h * w, 1, d / 2]: pairs of the frame, then of the row, then of the column."""
    hw = d // 6
    axes = ((position, d // 2 - 2 * hw, (-1, 1, 1)), (torch.arange(height), hw, (1, -1, 1)),
            (torch.arange(width), hw, (1, 1, -1)))
    parts = []
    for p, pairs, shape in axes:
        angle = p.double().view(-1, 1) * 10000.0 ** (-torch.arange(pairs).double() / pairs)
        parts.append(angle.view(*shape, pairs).expand(len(position), height, width, pairs))
    angle = torch.cat(parts, -1).reshape(-1, 1, d // 2)
    return torch.polar(torch.ones_like(angle), angle).to(torch.complex64)


def rotate(x, table):
    """Neighbouring channels are a pair."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * table).flatten(-2)


class Weight(nn.Module):
    """A parameter that the published names call NAME.weight."""

    def __init__(self, *shape):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape))


class SelfAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.norm_q, self.norm_k = Weight(width), Weight(width)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x, run):
        shape, b, n = x.shape, len(x), x.shape[1] * x.shape[2]
        q, k, v = self.to_q(x).float(), self.to_k(x).float(), self.to_v(x).float()
        with torch.autocast(x.device.type, enabled=False):  # sums over a whole history: in full precision
            q, k = F.relu(rms(q, self.norm_q.weight)), F.relu(rms(k, self.norm_k.weight))
            q, k, v = (t.view(b, n, self.heads, -1) for t in (q, k, v))
            y = self.attend(q, k, v, run).reshape(shape)
        return self.to_out[0](y)

    def attend(self, q, k, v, run):
        qr, kr = rotate(q, run.rope).transpose(1, 2), rotate(k, run.rope).transpose(1, 2)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        sizes = [(end - first) * run.hw for first, end in run.layout.segments]
        q, qr, k, kr, v = (t.split(sizes, 2) for t in (q, qr, k, kr, v))
        s = [a.transpose(2, 3) @ b for a, b in zip(kr, v)]
        k_sum = [a.sum(2).unsqueeze(-1) for a in k]
        out = []
        for i, earlier in enumerate(run.layout.sources):
            own, total = s[i], k_sum[i]
            for j in earlier:
                own, total = own + s[j], total + k_sum[j]
            out.append((qr[i] @ own) / (q[i] @ total + 1e-15))
        return torch.cat(out, 2).transpose(1, 2)


class CrossAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.norm_q, self.norm_k = Weight(width), Weight(width)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def split(self, x):
        return x.view(len(x), -1, self.heads, x.shape[-1] // self.heads).transpose(1, 2)

    def forward(self, x, run):
        q = self.split(rms(self.to_q(x).float(), self.norm_q.weight))
        k = self.split(rms(self.to_k(run.text).float(), self.norm_k.weight))
        v = self.split(self.to_v(run.text).float())
        score = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        y = torch.softmax(score.float() + run.text_bias, -1) @ v.float()
        return self.to_out[0](y.transpose(1, 2).reshape(x.shape))


class FeedForward(nn.Module):
    """Matrices are kept as matrices; stored() gives the kernels that files have."""

    def __init__(self, width, hidden):
        super().__init__()
        self.conv_inverted = nn.Linear(width, 2 * hidden)
        self.conv_depth = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden)
        self.conv_point = nn.Linear(hidden, width, bias=False)
        self.conv_temp = Weight(3, width, width)  # frame before, this one, frame after

    def forward(self, x, run):
        u = F.silu(self.conv_inverted(x)).view(-1, run.height, run.width, self.conv_depth.in_channels)
        u = self.conv_depth(u.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # channels stay last in memory
        value, gate = u.chunk(2, -1)
        r = self.conv_point(value * F.silu(gate)).view(x.shape)
        ends = torch.cat([r, torch.zeros_like(r[:, :1])], 1)
        near = torch.cat([ends[:, run.layout.left], r, ends[:, run.layout.right]], -1)
        kernel = self.conv_temp.weight.transpose(0, 1).flatten(1)
        return r + F.linear(near, kernel)


class Block(nn.Module):
    def __init__(self, c, width):
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.zeros(6, width))
        self.attn1 = SelfAttention(width, c["num_attention_heads"])
        self.attn2 = CrossAttention(width, c["num_cross_attention_heads"])
        self.ff = FeedForward(width, int(c["mlp_ratio"] * width))

    def forward(self, x, run):
        """x [b, frames, places, width]"""
        s1, c1, g1, s2, c2, g2 = (self.scale_shift_table + run.modulation).unsqueeze(2).unbind(3)
        x = x + g1 * self.attn1(layer_norm(x, s1, c1), run).float()
        x = x + self.attn2(x, run).float()
        return x + g2 * self.ff(layer_norm(x, s2, c2), run).float()


class TimeEmbed(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.emb = nn.Module()
        self.emb.timestep_embedder = nn.Module()
        self.emb.timestep_embedder.linear_1 = nn.Linear(256, width)
        self.emb.timestep_embedder.linear_2 = nn.Linear(width, width)
        self.linear = nn.Linear(width, 6 * width)

    def forward(self, t):
        """t in 0..1000 -> the final layer's vector and the blocks' six."""
        frequency = torch.exp(-math.log(10000) * torch.arange(128, device=t.device).float() / 128)
        angle = t.unsqueeze(-1) * frequency
        wave = torch.cat([angle.cos(), angle.sin()], -1)
        e = self.emb.timestep_embedder
        e = e.linear_2(F.silu(e.linear_1(wave)))
        return e, self.linear(F.silu(e)).unflatten(-1, (6, -1))


class Run:
    """What all blocks of one forward share."""

    def __init__(self, layout, height, width):
        self.layout, self.height, self.width, self.hw = layout, height, width, height * width


class Dit(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.head_dim = c["attention_head_dim"]
        width = c["num_attention_heads"] * self.head_dim
        inputs = c["in_channels"] * PATCH * PATCH
        self.patch_embedding = nn.Linear(inputs, width)
        self.time_embed = TimeEmbed(width)
        self.caption_projection = nn.Module()
        self.caption_projection.linear_1 = nn.Linear(c["caption_channels"], width)
        self.caption_projection.linear_2 = nn.Linear(width, width)
        self.caption_norm = Weight(width)
        self.transformer_blocks = nn.ModuleList([Block(c, width) for _ in range(c["num_layers"])])
        self.scale_shift_table = nn.Parameter(torch.zeros(2, width))
        self.proj_out = nn.Linear(width, inputs)

    def caption(self, y):
        p = self.caption_projection
        y = p.linear_2(F.gelu(p.linear_1(y), approximate="tanh"))
        return rms(y.float(), self.caption_norm.weight)

    def forward(self, layout, x, t, text, mask):
        """Velocity [b, 16, frames, h, w] of all of the layout's frames. t [b, frames], text of caption(),
        mask [b, tokens]."""
        b, c, frames, h, w = x.shape
        run = Run(layout, h // PATCH, w // PATCH)
        table = rope_table(layout.position, run.height, run.width, self.head_dim)
        run.rope = table.to(x.device)
        run.text, run.text_bias = text, torch.where(mask, 0.0, -1e4).view(b, 1, 1, -1)
        e, run.modulation = self.time_embed(t)
        e, run.modulation = e.float(), run.modulation.float()
        u = x.view(b, c, frames, run.height, PATCH, run.width, PATCH).permute(0, 2, 3, 5, 1, 4, 6)
        y = self.patch_embedding(u.reshape(b, frames, run.hw, -1)).float()
        for block in self.transformer_blocks:
            y = block(y, run)
        shift, scale = (self.scale_shift_table + e.unsqueeze(2)).unsqueeze(2).unbind(3)
        y = self.proj_out(layer_norm(y, shift, scale)).float()
        y = y.view(b, frames, run.height, run.width, PATCH, PATCH, c)
        return y.permute(0, 6, 1, 2, 4, 3, 5).reshape(x.shape)

    def teacher_forcing(self, layout, clean, noisy, t, text, mask):
        """Velocity of the noisy frames. clean: at least the layout's clean frames; t of the noisy ones."""
        n = layout.clean_frames
        x = torch.cat([clean[:, :, :n], noisy], 2)
        t = torch.cat([torch.zeros_like(t[:, :1]).expand(-1, n), t], 1)
        return self(layout, x, t, text, mask)[:, :, n:]

    # ---- stored form ----

    @torch.no_grad()
    def load_published(self, tensors):
        params = dict(self.named_parameters())
        for name in params.keys() | tensors.keys():
            if "conv_temp" in name:
                params[name].copy_(tensors[name].squeeze(-1).permute(2, 0, 1))
            else:
                params[name].copy_(tensors[name].reshape(params[name].shape))


def stored(name, p):
    if name == "patch_embedding.weight":
        return p.reshape(len(p), -1, 1, PATCH, PATCH)
    if "conv_temp" in name:
        return p.permute(1, 2, 0).unsqueeze(-1)
    if name.endswith(("conv_inverted.weight", "conv_point.weight")):
        return p.view(*p.shape, 1, 1)
    return p


# ---- the model as trained: transformer and text encoder ----

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.dit, self.text = Dit(CONFIG), text_encoder.Gemma2(text_encoder.CONFIG)

    def forward(self, layout, clean, noisy, t, ids, mask):
        return self.dit.teacher_forcing(layout, clean, noisy, t, self.dit.caption(self.text(ids)), mask)


@torch.no_grad()
def initialise(model):
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            p.zero_()
        elif p.dim() >= 2 and "table" not in name and "embed_tokens" not in name:
            p.normal_(std=1 / math.sqrt(p[0].numel()))
        if name.endswith(("to_out.0.weight", "conv_point.weight", "conv_temp.weight")):
            p.mul_(0.5)
    model.text.embed_tokens.weight.normal_(std=1 / math.sqrt(model.text.embed_tokens.embedding_dim))
    model.dit.time_embed.linear.weight.mul_(0.1)
    model.dit.proj_out.weight.zero_()
    for block in model.dit.transformer_blocks:
        block.ff.conv_temp.weight.mul_(0.1)
        block.scale_shift_table[2] = block.scale_shift_table[5] = 0.3  # gates


def matrix_of(name, p):
    """The matrices of the blocks and of the text encoder go to Muon; conv_temp is three of them."""
    if name.endswith("conv_temp.weight"):
        return p.shape
    inside = "transformer_blocks" in name or "text.layers" in name
    return (1, *p.shape) if inside and p.dim() == 2 and "table" not in name else None


# ---- training ----

def shifted(u):
    return SHIFT * u / (1 + (SHIFT - 1) * u)


def noise_levels(n, blocks, rng):
    """[n, blocks] sigmas: stratified over the batch, some of them all noise, where generation begins. The
    last of eight steps begins at 0.3; what is below a quarter is never seen in generation."""
    u = (torch.stack([torch.randperm(n, generator=rng) for _ in range(blocks)], 1)
         + torch.rand(n, blocks, generator=rng)) / n
    u = 0.1 + 0.9 * u
    return torch.where(torch.rand(n, blocks, generator=rng) < 0.08, torch.ones(()), shifted(u))


class Captions:
    """Texts to ids. Padding is on the right."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def draw(self, scene, rng):
        """A description, different each time; sometimes none, for guidance."""
        if rng.random() < 0.07:
            return ""
        return data.caption(scene, rng).lower()

    def batch(self, texts):
        rows = [[self.tokenizer.bos_id()] + self.tokenizer.encode(t) for t in texts]
        length = max(len(r) for r in rows)
        ids = torch.zeros(len(rows), length, dtype=torch.long)
        mask = torch.zeros(len(rows), length, dtype=torch.bool)
        for i, row in enumerate(rows):
            ids[i, :len(row)] = torch.tensor(row)
            mask[i, :len(row)] = True
        return ids, mask


class Latents:
    """The encoded clips of the latents stage: normalised latents, where the objects are, the scenes."""

    def __init__(self, folder, scenes, stats):
        self.z = np.load(folder / "latents.npy", mmap_mode="r")
        self.object = np.load(folder / "objects.npy", mmap_mode="r")
        self.scenes = scenes
        centred = [i for i, s in enumerate(scenes) if s.centred]
        anywhere = [i for i, s in enumerate(scenes) if not s.centred]
        pairs = [i for i in centred if len(scenes[i].shapes) == 2]
        self.groups = [(g, share) for g, share in ((centred, 45), (anywhere, 25), (pairs, 30)) if g]
        self.mean = torch.tensor(stats["mean"]).view(1, -1, 1, 1, 1)
        self.std = torch.tensor(stats["std"]).view(1, -1, 1, 1, 1)

    def choose(self, rng, n):
        """Numbers of n clips: most begin in the middle, and of those with two objects more than there are."""
        groups = rng.choices(*zip(*self.groups), k=n)
        return sorted(rng.choice(g) for g in groups)

    def batch(self, index, frames):
        z = torch.from_numpy(self.z[index, :, :frames].astype(np.float32))
        weight = torch.from_numpy(self.object[index, :frames].astype(np.float32)).unsqueeze(1)
        return (z - self.mean) / self.std, weight, [self.scenes[i] for i in index]


def corrupt(z, blocks, given, rng):
    """(clean copies, noisy frames, their timesteps, noise, which frames count). In the clips `given` the
    first frame is known, as when a video begins with a picture."""
    b, _, frames = z.shape[:3]
    sigma = torch.cat([s.expand(-1, n) for s, n in
                       zip(noise_levels(b, len(blocks), rng).split(1, 1), blocks)], 1)
    sigma[given, 0] = 0
    noise = torch.randn(z.shape, generator=rng)
    s = sigma.view(b, 1, frames, 1, 1)
    # History as it will be in generation: not quite clean.
    dirt = 0.3 * torch.rand(b, 1, 1, 1, 1, generator=rng) * (torch.rand(b, 1, 1, 1, 1, generator=rng) < 0.5)
    clean = (1 - dirt) * z + dirt * torch.randn(z.shape, generator=rng)
    counts = torch.ones(b, 1, frames, 1, 1)
    counts[given, :, 0] = 0
    return clean, (1 - s) * z + s * noise, sigma * 1000, noise, counts


class Trainer:
    """One process's part of the stage, like vae.Trainer."""

    def __init__(self, crew, options, latents, captions):
        self.crew, self.options, self.latents, self.captions = crew, options, latents, captions
        torch.manual_seed(options.seed)
        self.model = Model()
        initialise(self.model)
        self.model.to(options.device)
        self.params = dict(self.model.named_parameters())
        self.optimizer = optim.Optimizer(self.params, matrix_of)
        self.average = optim.Average(self.params, 0.998)
        self.step, self.used = 0, 0.0

    def state(self):
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state(),
                "average": self.average.mean, "n": self.average.n, "step": self.step, "used": self.used}

    def load(self, state):
        self.model.load_state_dict(state["model"])
        self.optimizer.load(state["optimizer"])
        self.average.mean = {n: t.to(self.options.device) for n, t in state["average"].items()}
        self.average.n, self.step, self.used = state["n"], state["step"], state["used"]

    def run(self, minutes, save):
        budget = optim.Budget(minutes, self.crew, self.used)
        saved, sums = budget.used(), torch.zeros(3)
        while True:
            progress = budget.progress()
            if progress >= 1:
                break
            sums += torch.tensor([*self.train_step(progress), 1])
            self.used = budget.used()
            if self.crew.rank == 0 and self.step % self.options.log == 0:
                everywhere, objects = (sums[:2] / sums[2]).tolist()
                print(f"dit {self.used / 60:6.2f} min  step {self.step}  v-MSE {everywhere:.4f}  "
                      f"on objects {objects:.4f}", flush=True)
                sums.zero_()
            if self.crew.rank == 0 and self.used - saved > 120:
                saved = self.used
                save(self.state())
        if self.crew.rank == 0:
            save(self.state())

    def train_step(self, progress):
        rng = random.Random(f"{self.options.seed} {self.step} {self.crew.rank}")
        late = progress > 0.8 and self.step % 2 == 0
        blocks = [BLOCK + 1, BLOCK] + ([BLOCK] if late else [])
        index = self.latents.choose(rng, max(2, self.options.batch // self.crew.size))
        z, objects, scenes = self.latents.batch(index, sum(blocks))
        ids, mask = self.captions.batch([self.captions.draw(s, rng) for s in scenes])
        given = torch.tensor([not s.centred or rng.random() < 0.1 for s in scenes])
        clean, noisy, t, noise, counts = corrupt(z, blocks, given, torch.Generator().manual_seed(rng.getrandbits(62)))
        layout = Layout(blocks)
        clean, noisy, t, ids, mask = (p.to(self.options.device) for p in (clean, noisy, t, ids, mask))
        if late:
            self.own_history(layout, clean, z.to(clean.device), ids, mask)
        target = (noise - z).to(self.options.device)
        # Places and motions are decided in heavy noise; in light noise errors of detail weigh too much.
        level = (t / 500).clamp(max=1).square().view(len(t), 1, -1, 1, 1)
        weight = (counts * (1 + 5 * objects)).to(self.options.device) * level
        self.model.zero_grad(set_to_none=True)
        with torch.autocast(target.device.type, torch.bfloat16, enabled=self.options.bf16):
            v = self.model(layout, clean, noisy, t, ids, mask)
        square = (v - target).square().mean(1, keepdim=True)
        loss = (square * weight).sum() / weight.sum()
        loss.backward()
        self.update(progress)
        mark = (objects * counts).to(square.device)
        return square.mean().item(), ((square * mark).sum() / mark.sum().clamp(min=1)).item()

    @torch.no_grad()
    def own_history(self, layout, clean, z, ids, mask):
        """In every other clip the history becomes what the model itself makes of half-noisy frames, so
        that it learns to go on from its own mistakes."""
        sigma = torch.empty(len(z), 1, 1, 1, 1, device=z.device).uniform_(0.2, 0.7)
        noisy = (1 - sigma) * z + sigma * torch.randn_like(z)
        t = (sigma.view(-1, 1) * 1000).expand(-1, z.shape[2])
        with torch.autocast(z.device.type, torch.bfloat16, enabled=self.options.bf16):
            v = self.model(layout, clean, noisy, t, ids, mask)
        clean[::2] = (noisy - sigma * v.float())[::2]

    def update(self, progress):
        grads = list(self.params.values())
        self.crew.average(grads)
        optim.clip(grads)
        lr = min(1, (self.step + 1) / 40, (1 - progress) / 0.4)  # linear to 0 in the last 40 %
        self.optimizer.step(0.02 * lr, 2e-3 * lr)
        self.average.step()
        self.step += 1


# ---- generating, to look at a checkpoint without the engine ----

@torch.no_grad()
def generate(model, ids, mask, n_blocks, rng, steps=8):
    """Normalised latents by Euler steps, block after block."""
    text = model.dit.caption(model.text(ids))
    blocks, done = [], torch.zeros(len(ids), 16, 0, data.HEIGHT // 8, data.WIDTH // 8)
    for i in range(n_blocks):
        blocks.append(BLOCK + (i == 0))
        layout = Layout(blocks, only_last=True)
        x = torch.randn(len(ids), 16, blocks[-1], *done.shape[3:], generator=rng)
        sigma = shifted(torch.linspace(1, 0, steps + 1))
        for now, after in zip(sigma[:-1], sigma[1:]):
            t = torch.full((len(ids), blocks[-1]), now.item() * 1000)
            x = x + (after - now) * model.dit.teacher_forcing(layout, done, x, t, text, mask)
        done = torch.cat([done, x], 2)
    return done
