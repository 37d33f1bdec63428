"""Trains the demonstration model from nothing: python3 train.py all --work DIR --out DIR

Stages, each of which can be run alone and continues where it was interrupted:
  vae      the video autoencoder                     -> WORK/vae.pt
  ceiling  held-out clips through it and the checker, which must find nearly all of what they show
  latents  encodes clips for the next stage          -> WORK/latents.npy, objects.npy, scenes.pt, stats.json
  dit      transformer and text encoder              -> WORK/dit.pt
  export   the model directory                       -> OUT
"""
import argparse
import json
import os
import pathlib
import random
import shutil
import subprocess
import time

# One thread per process: see optim.py. Before torch, which reads it when it is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import torch
import torch.multiprocessing as multiprocessing

import data
import dit
import export
import optim
import tokenizer
import vae

ROOT = pathlib.Path(__file__).parents[2]
FRAMES = 49        # of an encoded clip: 13 latent frames, three blocks
STD_FLOOR = 0.2    # a channel that the VAE hardly uses must not become loud noise
MAX_PARAMETERS = 1 << 24


def say(text):
    print(text, flush=True)


def save(path, state):
    """Whole or not at all."""
    torch.save(state, f"{path}.new")
    os.replace(f"{path}.new", path)


# ---- processes ----

def worker(rank, function, options, barrier, gradients, clock):
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        function(optim.Crew(rank, options.processes, barrier, gradients, clock), options)
    except BaseException:
        if barrier:
            barrier.abort()  # the others wait for this one
        raise


def together(function, options):
    """function(crew, options) in as many processes as asked for."""
    if options.processes == 1:
        worker(0, function, options, None, None, None)
        return
    context = multiprocessing.get_context("spawn")
    gradients = torch.zeros(options.processes, MAX_PARAMETERS).share_memory_()
    clock = torch.zeros(1, dtype=torch.float64).share_memory_()
    barrier = context.Barrier(options.processes)
    multiprocessing.spawn(worker, (function, options, barrier, gradients, clock), options.processes)


def train(trainer, crew, options, name, minutes):
    path = options.work / f"{name}.pt"
    if path.exists():
        trainer.load(torch.load(path, map_location="cpu"))
        if crew.rank == 0:
            say(f"{name}: continues after {trainer.step} steps, {trainer.used / 60:.1f} min")
    trainer.run(minutes, lambda state: save(path, state))


# ---- stages ----

def train_vae(crew, options):
    train(vae.Trainer(crew, options), crew, options, "vae", options.vae_minutes)


def write_rgb(path, video):
    """[3, frames, h, w] in [-1, 1] as bytes, for the checker."""
    path.write_bytes(((video + 1) * 127.5).round().byte().permute(1, 2, 3, 0).contiguous().numpy().tobytes())


@torch.no_grad()
def ceiling(options):
    """How much of the test set survives the VAE: no later stage can be better than this."""
    model = vae.trained(options.work / "vae.pt")
    folder, tests, error = options.work / "ceiling", data.test_set(64), 0.0
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for i, (scene, _) in enumerate(tests):
        video = data.render(scene, 33)[0].unsqueeze(0)
        out = model.decode(model.encode(video)[0]).clamp(-1, 1)
        error += (out - video).square().mean().item() / 4 / len(tests)
        write_rgb(folder / f"{i:02d}.rgb", out[0])
    say(f"through the VAE: PSNR {-10 * np.log10(error):.1f} dB")
    subprocess.run([options.checker, ROOT / "tests/demo/captions.tsv", folder, "--need",
                    "background=95,colour=95,motion=95,shape=90"], check=True)


def latent_file(options, name, rank):
    return options.work / f"{name}.{rank}.npy"


@torch.no_grad()
def encode_clips(crew, options):
    """One process's share of the clips, until the time is over."""
    model = vae.trained(options.work / "vae.pt", options.device)
    rng = random.Random(f"{options.seed} latents {crew.rank}")
    z, objects, scenes = [], [], []
    begin, size = time.time(), 1  # larger batches only cost page faults
    while time.time() - begin < options.latents_minutes * 60 and len(scenes) < options.clips // crew.size:
        drawn = [data.sample(rng) for _ in range(size)]
        drawn = [data.centred(s) if rng.random() < 0.5 else s for s in drawn]
        videos, weights = zip(*(data.render(s, FRAMES) for s in drawn))
        with torch.autocast(options.device, torch.bfloat16, enabled=options.bf16):
            mean, _ = model.encode(torch.stack(videos).to(options.device))
        z.append(mean.half().cpu().numpy())
        objects.append(object_cells(torch.stack(weights)))
        scenes += drawn
    np.save(latent_file(options, "latents", crew.rank), np.concatenate(z))
    np.save(latent_file(options, "objects", crew.rank), np.concatenate(objects))
    torch.save(scenes, options.work / f"scenes.{crew.rank}.pt")


def object_cells(weight):
    """[n, frames, h, w] of 0 and 1: latent cells that an object touches at any of their frames."""
    first, rest = weight[:, :, :1], weight[:, :, 1:]
    pool = torch.nn.functional.max_pool3d
    cells = torch.cat([pool(first, (1, 8, 8)), pool(rest, (4, 8, 8))], 2)
    return (cells[:, 0] > 0.5).numpy().astype(np.uint8)


def encode(options):
    """All processes' clips into one set, and their statistics."""
    if (options.work / "stats.json").exists():
        say("latents: already there")
        return
    together(encode_clips, options)
    parts = range(options.processes)
    z = np.concatenate([np.load(latent_file(options, "latents", r)) for r in parts])
    objects = np.concatenate([np.load(latent_file(options, "objects", r)) for r in parts])
    scenes = sum((torch.load(options.work / f"scenes.{r}.pt") for r in parts), [])
    np.save(options.work / "latents.npy", z)
    np.save(options.work / "objects.npy", objects)
    torch.save(scenes, options.work / "scenes.pt")
    some = z[:2000].astype(np.float32)
    stats = {"mean": [round(float(m), 5) for m in some.mean((0, 2, 3, 4))],
             "std": [round(max(float(s), STD_FLOOR), 5) for s in some.std((0, 2, 3, 4))]}
    export.write_json(options.work / "stats.json", stats)
    for r in parts:
        for name in ("latents", "objects"):
            latent_file(options, name, r).unlink()
        (options.work / f"scenes.{r}.pt").unlink()
    say(f"latents: {len(scenes)} clips; std {stats['std']}")


def statistics(options):
    return json.loads((options.work / "stats.json").read_text())


def train_dit(crew, options):
    latents = dit.Latents(options.work, torch.load(options.work / "scenes.pt"), statistics(options))
    captions = dit.Captions(tokenizer.load(options.work / "tokenizer.model"))
    train(dit.Trainer(crew, options, latents, captions), crew, options, "dit", options.dit_minutes)


def run_export(options):
    state = [torch.load(options.work / f"{name}.pt", map_location="cpu") for name in ("vae", "dit")]
    export.export(options.out, *state, statistics(options), options.work / "tokenizer.model")
    clips = len(torch.load(options.work / "scenes.pt"))
    export.write_card(options.out / "README.md", *state, clips, options.bf16)
    total = sum(f.stat().st_size for f in options.out.rglob("*") if f.is_file())
    say(f"export: {options.out}, {total / 1e6:.2f} MB")


def run_dit(options):
    model = options.work / "tokenizer.model"
    if not model.exists():
        tokenizer.train(model)
    together(train_dit, options)


STAGES = {
    "vae": lambda o: together(train_vae, o),
    "ceiling": ceiling,
    "latents": encode,
    "dit": run_dit,
    "export": run_export,
}


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("stage", choices=[*STAGES, "all"])
    p.add_argument("--work", type=pathlib.Path, required=True, help="checkpoints and latents")
    p.add_argument("--out", type=pathlib.Path, help="the model directory (export, all)")
    p.add_argument("--vae-minutes", type=float, default=28)
    p.add_argument("--latents-minutes", type=float, default=10)
    p.add_argument("--dit-minutes", type=float, default=93)
    p.add_argument("--clips", type=int, default=10000, help="at most so many are encoded")
    p.add_argument("--batch", type=int, default=32, help="clips in a step of the transformer")
    p.add_argument("--processes", type=int, help="that train together [2 on a CPU, 1 on a GPU]")
    p.add_argument("--bf16", action="store_true", help="products in bfloat16: a GPU, or a CPU with AMX")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--checker", type=pathlib.Path, default=ROOT / "build/release/demo-check", help="its program")
    p.add_argument("--log", type=int, default=25, help="steps between lines")
    options = p.parse_args()
    if options.stage in ("export", "all") and not options.out:
        p.error("--out is needed")
    if options.processes is None:
        options.processes = 2 if options.device == "cpu" else 1
    if options.device != "cpu" and options.processes != 1:
        p.error("a GPU is used by one process")
    return options


def main():
    options = arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    for name in STAGES if options.stage == "all" else (options.stage,):
        say(f"== {name}")
        STAGES[name](options)


if __name__ == "__main__":
    main()
