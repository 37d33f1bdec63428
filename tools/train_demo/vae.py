"""The Wan 2.1 VAE in whole-sequence form, and its training.

Names and shapes of the parameters are the published ones. The streaming form (a frame at a time,
with caches) and this one compute the same: at each frame rate the sequence is the first frame, then
the rest; convolutions run over all of it with zeros in front, changes of frame rate over the rest.
"""
import math
import random

import torch
import torch.nn as nn
import torch.nn.functional as F

import data
import optim

MULT = (1, 2, 4, 4)
HALVES_TIME = (False, True, True)  # of the encoder's levels; the decoder goes backwards
Z = 16
# Convolutions are computed 16 channels at a time: narrower ones would train no faster.
CONFIG = {"base_dim": 16, "decoder_base_dim": 16, "z_dim": Z, "num_res_blocks": 1}


class CausalConv(nn.Conv3d):
    def __init__(self, ci, co, k):
        super().__init__(ci, co, k)

    def forward(self, x):
        kt, kh, kw = self.kernel_size
        return super().forward(F.pad(x, (kw // 2, kw // 2, kh // 2, kh // 2, kt - 1, 0)))


class Norm(nn.Module):
    """x / |x| sqrt(C) gamma. The floor is far above the engine's 1e-12, which only gradients feel:
    a pixel that is exactly 0 would have one of 1e12."""

    def __init__(self, c, ones=3):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(c, *[1] * ones))

    def forward(self, x):
        square = x.float().square().sum(1, keepdim=True).clamp(min=1e-8)
        return (x * (square.rsqrt() * math.sqrt(x.shape[1]))).to(x.dtype) * self.gamma


class Resnet(nn.Module):
    def __init__(self, ci, co):
        super().__init__()
        self.norm1, self.conv1 = Norm(ci), CausalConv(ci, co, 3)
        self.norm2, self.conv2 = Norm(co), CausalConv(co, co, 3)
        if ci != co:
            self.conv_shortcut = CausalConv(ci, co, 1)

    def forward(self, x):
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        return y + (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x)


class Attention(nn.Module):
    """Of the pixels of a frame to each other, one head."""

    def __init__(self, c):
        super().__init__()
        self.norm = Norm(c, 2)
        self.to_qkv, self.proj = nn.Conv2d(c, 3 * c, 1), nn.Conv2d(c, c, 1)

    def forward(self, x):
        b, c, t, h, w = x.shape
        frames = x.transpose(1, 2).reshape(b * t, c, h, w)
        q, k, v = self.to_qkv(self.norm(frames)).reshape(b * t, 3, c, h * w).unbind(1)
        weight = torch.softmax((q.transpose(1, 2) @ k).float() / math.sqrt(c), -1).to(v.dtype)
        y = self.proj((v @ weight.transpose(1, 2)).reshape(b * t, c, h, w))
        return x + y.reshape(b, t, c, h, w).transpose(1, 2)


class Mid(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.resnets = nn.ModuleList([Resnet(c, c), Resnet(c, c)])
        self.attentions = nn.ModuleList([Attention(c)])

    def forward(self, x):
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


def per_frame(layer, x):
    """A 2-d layer on every frame."""
    b, c, t, h, w = x.shape
    y = layer(x.transpose(1, 2).reshape(b * t, c, h, w))
    return y.reshape(b, t, *y.shape[1:]).transpose(1, 2)


class Down(nn.Module):
    def __init__(self, c, time):
        super().__init__()
        self.resample = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(c, c, 3, stride=2))
        if time:
            self.time_conv = nn.Conv3d(c, c, (3, 1, 1), stride=(2, 1, 1))

    def forward(self, x):
        x = per_frame(self.resample, x)
        if not hasattr(self, "time_conv") or x.shape[2] == 1:
            return x
        return torch.cat([x[:, :, :1], self.time_conv(x)], 2)


class Up(nn.Module):
    def __init__(self, c, time):
        super().__init__()
        self.resample = nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"),
                                      nn.Conv2d(c, c // 2, 3, padding=1))
        if time:
            self.time_conv = CausalConv(c, 2 * c, (3, 1, 1))

    def forward(self, x):
        if hasattr(self, "time_conv") and x.shape[2] > 1:
            b, c, t, h, w = x[:, :, 1:].shape
            rest = self.time_conv(x[:, :, 1:]).reshape(b, 2, c, t, h, w)
            rest = rest.permute(0, 2, 3, 1, 4, 5).reshape(b, c, 2 * t, h, w)
            x = torch.cat([x[:, :, :1], rest], 2)
        return per_frame(self.resample, x)


class UpBlock(nn.Module):
    def __init__(self, ci, co, n, up):
        super().__init__()
        self.resnets = nn.ModuleList([Resnet(ci if i == 0 else co, co) for i in range(n)])
        if up:
            self.upsamplers = nn.ModuleList([up])

    def forward(self, x):
        for layer in (*self.resnets, *getattr(self, "upsamplers", ())):
            x = layer(x)
        return x


class Encoder(nn.Module):
    def __init__(self, base, n):
        super().__init__()
        dims = [base] + [base * m for m in MULT]
        self.conv_in = CausalConv(3, base, 3)
        blocks = []
        for level in range(len(MULT)):
            blocks += [Resnet(dims[level] if i == 0 else dims[level + 1], dims[level + 1]) for i in range(n)]
            if level + 1 < len(MULT):
                blocks.append(Down(dims[level + 1], HALVES_TIME[level]))
        self.down_blocks = nn.ModuleList(blocks)
        self.mid_block = Mid(dims[-1])
        self.norm_out, self.conv_out = Norm(dims[-1]), CausalConv(dims[-1], 2 * Z, 3)

    def forward(self, x):
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    def __init__(self, base, n):
        super().__init__()
        dims = [base * m for m in MULT[::-1]]
        self.conv_in, self.mid_block = CausalConv(Z, dims[0], 3), Mid(dims[0])
        blocks = []
        for level, co in enumerate(dims):
            last = level + 1 == len(dims)
            up = None if last else Up(co, HALVES_TIME[::-1][level])
            blocks.append(UpBlock(co if level == 0 else dims[level - 1] // 2, co, n + 1, up))
        self.up_blocks = nn.ModuleList(blocks)
        self.norm_out, self.conv_out = Norm(dims[-1]), CausalConv(dims[-1], 3, 3)

    def forward(self, z):
        x = self.mid_block(self.conv_in(z))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Vae(nn.Module):
    """mean and std: of the latents over the data, which the config file carries."""

    def __init__(self, base_dim, decoder_base_dim, z_dim=Z, num_res_blocks=1):
        super().__init__()
        self.encoder, self.quant_conv = Encoder(base_dim, num_res_blocks), CausalConv(2 * Z, 2 * Z, 1)
        self.post_quant_conv = CausalConv(Z, Z, 1)
        self.decoder = Decoder(decoder_base_dim or base_dim, num_res_blocks)

    def encode(self, video):
        """Mean and log-variance [b, 16, 1 + k, h/8, w/8] of [b, 3, 1 + 4k, h, w]."""
        mean, logvar = self.quant_conv(self.encoder(video)).float().chunk(2, 1)
        return mean, logvar.clamp(-30, 20)

    def decode(self, z):
        """Not clamped, for training."""
        return self.decoder(self.post_quant_conv(z)).float()


# ---- initial values ----

def is_inflated(name, p):
    """Kernels that look at earlier frames in the plain way; the encoder's time_conv has a stride."""
    return p.dim() == 5 and p.shape[2] == 3 and not (name.startswith("encoder") and "time_conv" in name)


@torch.no_grad()
def initialise(model):
    """Fan-in, smaller where a residual ends. Kernels see only the current frame at first: otherwise
    the picture drifts in colour after as many frames as it was trained on. Biases are not zero
    because mid-gray would be a zero vector, where the norm has no direction."""
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            p.normal_(std=0.05)
        elif p.dim() > 3 and "gamma" not in name:
            p.normal_(std=1 / math.sqrt(p[0].numel()))
            if is_inflated(name, p):
                p[:, :, :2] = 0
                p.mul_(math.sqrt(3))
            if name.endswith(("conv2.weight", "proj.weight")):
                p.mul_(0.5)
    model.quant_conv.weight[Z:] *= 0.1
    model.quant_conv.bias[Z:] = -5.0  # else the posterior's noise drowns the signal and it collapses


def matrix_of(name, p):
    """Kernels as matrices of all their inputs; the picture ends and vectors go to Adam."""
    if p.dim() < 4 or "gamma" in name or "decoder.conv_out" in name or "encoder.conv_in" in name:
        return None
    return 1, p.shape[0], p[0].numel()


def update_scales(params):
    """Earlier frames' taps learn at a fifth of the speed."""
    taps = torch.tensor([0.2, 0.2, 1.0]).view(1, 1, 3, 1, 1)
    return {n: taps.to(p.device) for n, p in params.items() if is_inflated(n, p)}


# ---- training ----

def plan(progress, rng):
    """(clips, frames, width, height): many small crops first, few long clips at last."""
    if progress < 0.3:
        return 32, 5, 32, 32
    if progress < 0.6:
        return rng.choice([(12, 9, 32, 32), (8, 17, 32, 32), (8, 9, 48, 32)])
    return rng.choice([(4, 17, 64, 48), (3, 25, 64, 64), (2, 33, 64, 48), (2, 49, 48, 48), (2, 9, 96, 64)])


def batch(rng, clips, frames, w, h):
    videos, weights = [], []
    for _ in range(clips):
        scene = data.sample(rng, two=0.15)
        if rng.random() < 0.4:
            data.free_colours(scene, rng)
        crop = data.edge_crop(scene, rng, frames // 2, w, h)
        video, weight = data.render(scene, frames, 0, crop)
        videos.append(video)
        weights.append(weight)
    return torch.stack(videos), torch.stack(weights)


def slopes(x):
    return x[..., 1:, :] - x[..., :-1, :], x[..., 1:] - x[..., :-1]


def loss_of(model, video, weight, kl_weight, autocast):
    """(loss, mean absolute error) of a batch, with a sampled posterior."""
    with torch.autocast(video.device.type, torch.bfloat16, enabled=autocast):
        mean, logvar = model.encode(video)
        z = mean + (0.5 * logvar).exp() * torch.randn_like(mean)
        out = model.decode(z)
    error = (out - video).abs()
    loss = ((error + error.square()) * (1 + 2 * weight)).mean()
    for a, b in zip(slopes(out), slopes(video)):
        loss = loss + 0.5 * (a - b).abs().mean()
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    return loss + kl_weight * kl, error.mean().item()


class Trainer:
    """One process's part of the stage. run() trains until the budget ends; save(state) is called with
    what load() takes."""

    def __init__(self, crew, options):
        self.crew, self.options = crew, options
        self.device = options.device
        torch.manual_seed(options.seed)
        self.model = Vae(**CONFIG)
        initialise(self.model)
        self.model.to(self.device)
        self.params = dict(self.model.named_parameters())
        self.optimizer = optim.Optimizer(self.params, matrix_of, update_scales(self.params))
        self.average = optim.Average(self.params, 0.998)
        self.step, self.used = 0, 0.0

    def state(self):
        return {"config": CONFIG, "model": self.model.state_dict(), "optimizer": self.optimizer.state(),
                "average": self.average.mean, "n": self.average.n, "step": self.step, "used": self.used}

    def load(self, state):
        self.model.load_state_dict(state["model"])
        self.optimizer.load(state["optimizer"])
        self.average.mean = {n: t.to(self.device) for n, t in state["average"].items()}
        self.average.n, self.step, self.used = state["n"], state["step"], state["used"]

    def run(self, minutes, save):
        budget = optim.Budget(minutes, self.crew, self.used)
        saved = budget.used()
        while True:
            progress = budget.progress()
            if progress >= 1:
                break
            loss, error = self.train_step(progress)
            self.used = budget.used()
            if self.crew.rank == 0 and self.step % self.options.log == 0:
                print(f"vae {self.used / 60:6.2f} min  step {self.step}  loss {loss:.4f}  L1 {error:.4f}", flush=True)
            if self.crew.rank == 0 and self.used - saved > 120:
                saved = self.used
                save(self.state())
        if self.crew.rank == 0:
            save(self.state())

    def train_step(self, progress):
        rng = random.Random(f"{self.options.seed} {self.step} {self.crew.rank}")
        # All processes draw the same plan, so that none waits for the other.
        clips, frames, w, h = plan(progress, random.Random(self.step))
        video, weight = batch(rng, max(1, clips // self.crew.size), frames, w, h)
        video, weight = video.to(self.device), weight.to(self.device)
        self.model.zero_grad(set_to_none=True)
        loss, error = loss_of(self.model, video, weight, 2e-4, self.options.bf16)
        loss.backward()
        grads = list(self.params.values())
        self.crew.average(grads)
        optim.clip(grads)
        lr = 0.5 * (1 + math.cos(math.pi * progress)) * min(1, (self.step + 1) / 30)
        self.optimizer.step(0.01 * lr, 3e-3 * lr)
        self.average.step()
        self.step += 1
        return loss.item(), error


def trained(path, device="cpu"):
    """The model with the averaged parameters of a checkpoint."""
    state = torch.load(path, map_location="cpu")
    model = Vae(**state["config"])
    model.load_state_dict(state["average"])
    return model.eval().to(device)
