"""Muon on matrices and kernels, Adam on the rest, and what training processes share.

Several processes with one thread each train one model: after each step they average their
gradients through shared memory. That is faster than one process with threads when other load
takes CPU time away, because nobody waits inside an operation.
"""
import math
import time

import torch


def orthogonal(g, steps=5):
    """The nearest (semi-)orthogonal matrices to a stack [n, rows, cols], by Newton-Schulz."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = g.shape[1] > g.shape[2]
    x = g.transpose(1, 2) if tall else g
    x = x / (x.flatten(1).norm(dim=1).view(-1, 1, 1) + 1e-7)
    for _ in range(steps):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.transpose(1, 2) if tall else x


class Optimizer:
    """params: {name: parameter}. matrix(name, p) gives the shape [n, rows, cols] in which Muon sees a
    parameter, or None for Adam. scale: {name: factor of its update}, a number or a tensor."""

    def __init__(self, params, matrix, scale=None, momentum=0.95, betas=(0.9, 0.98)):
        self.params, self.scale = params, scale or {}
        self.momentum, self.betas, self.t = momentum, betas, 0
        self.shapes = {n: matrix(n, p) for n, p in params.items()}
        self.first = {n: torch.zeros_like(p) for n, p in params.items()}
        self.second = {n: torch.zeros_like(p) for n, p in params.items() if not self.shapes[n]}
        self.groups = {}  # parameters of one shape are orthogonalised in one batch
        for name, shape in self.shapes.items():
            if shape:
                self.groups.setdefault(tuple(shape[1:]), []).append(name)

    @torch.no_grad()
    def step(self, muon_lr, adam_lr):
        self.t += 1
        for shape, names in self.groups.items():
            self.muon(shape, names, muon_lr)
        for name in self.second:
            self.adam(name, adam_lr)

    def update(self, name, delta, lr):
        self.params[name].sub_(delta * self.scale.get(name, 1.0), alpha=lr)

    def muon(self, shape, names, lr):
        looks = []
        for name in names:
            g, m = self.params[name].grad, self.first[name]
            m.mul_(self.momentum).add_(g)
            looks.append((g + self.momentum * m).reshape(-1, *shape))
        delta = orthogonal(torch.cat(looks)) * max(1, shape[0] / shape[1]) ** 0.5
        for name, d in zip(names, delta.split([len(look) for look in looks])):
            self.update(name, d.reshape(self.params[name].shape), lr)

    def adam(self, name, lr):
        b1, b2 = self.betas
        g, m, v = self.params[name].grad, self.first[name], self.second[name]
        m.mul_(b1).add_(g, alpha=1 - b1)
        v.mul_(b2).addcmul_(g, g, value=1 - b2)
        root = (v / (1 - b2 ** self.t)).sqrt_().add_(1e-8)
        self.update(name, m / (1 - b1 ** self.t) / root, lr)

    def state(self):
        return {"t": self.t, "first": self.first, "second": self.second}

    def load(self, state):
        self.t = state["t"]
        for mine, theirs in ((self.first, state["first"]), (self.second, state["second"])):
            for name in mine:
                mine[name].copy_(theirs[name])


class Average:
    """Moving average of parameters, quick at the start."""

    def __init__(self, params, decay):
        self.params, self.decay, self.n = params, decay, 0
        self.mean = {n: p.detach().clone() for n, p in params.items()}

    @torch.no_grad()
    def step(self):
        self.n += 1
        keep = min(self.decay, self.n / (self.n + 10))
        for name, p in self.params.items():
            self.mean[name].lerp_(p, 1 - keep)


class Crew:
    """The processes that train together. gradients: shared memory [processes, parameters]."""

    def __init__(self, rank, size, barrier=None, gradients=None, clock=None):
        self.rank, self.size = rank, size
        self.barrier, self.gradients, self.clock = barrier, gradients, clock

    def average(self, params):
        """Gives every process the mean of all gradients."""
        if self.size == 1:
            return
        grads = [p.grad for p in params]
        flat = torch.cat([g.reshape(-1) for g in grads])
        self.gradients[self.rank, :len(flat)] = flat
        self.barrier.wait()
        flat = self.gradients[:, :len(flat)].mean(0)
        self.barrier.wait()
        for g, mean in zip(grads, flat.split([g.numel() for g in grads])):
            g.copy_(mean.view_as(g))

    def agree(self, value):
        """The first process's value, for all."""
        if self.size == 1:
            return value
        if self.rank == 0:
            self.clock[0] = value
        self.barrier.wait()
        value = self.clock[0].item()
        self.barrier.wait()
        return value


class Budget:
    """How far a stage is, in 0..1: of its minutes, whatever the number of steps turns out to be."""

    def __init__(self, minutes, crew, used=0.0):
        self.seconds, self.crew = minutes * 60, crew
        self.begin = time.time() - used

    def used(self):
        return time.time() - self.begin

    def progress(self):
        return self.crew.agree(min(1.0, self.used() / self.seconds))


def clip(params, limit=1.0):
    """Scales gradients down to a norm; says what it was, which is not finite if training broke."""
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in params))
    if not math.isfinite(norm):
        raise FloatingPointError("the gradient is not finite")
    if norm > limit:
        for p in params:
            p.grad.mul_(limit / norm)
    return norm
