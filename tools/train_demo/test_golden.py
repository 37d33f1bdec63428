"""The recipe's models against the recorded values that the engine is tested with.

  python3 test_golden.py tests/golden
"""
import json
import pathlib
import sys

import torch

import dit
import tensors
import text_encoder
import vae

TOLERANCE = 2e-4  # of the largest value


def weights(folder):
    out = {}
    for file in sorted(folder.glob("*.safetensors")):
        out.update(tensors.load(file))
    return out


def compare(name, got, want):
    error = ((got - want).abs().max() / want.abs().max()).item()
    print(f"{name}: {error:.2e}")
    if not error < TOLERANCE:
        raise SystemExit(f"{name}: differs by {error:.2e} of the largest value")


def check_vae(root):
    config = json.loads((root / "tiny-480p/vae/config.json").read_text())
    model = vae.Vae(config["base_dim"], config["decoder_base_dim"], config["z_dim"], config["num_res_blocks"])
    model.load_state_dict(weights(root / "tiny-480p/vae"))
    for case in ("1f", "2f", "5f", "9f"):
        t = tensors.load(root / f"cases/wan.decode.{case}.safetensors")
        compare(f"wan.decode.{case}", model.decode(t["in.z"]).clamp(-1, 1), t["out.video"])
    for case in ("1f", "9f", "17f"):
        t = tensors.load(root / f"cases/wan.encode.{case}.safetensors")
        mean, logvar = model.encode(t["in.video"])
        compare(f"wan.encode.{case} mean", mean, t["out.mean"])
        compare(f"wan.encode.{case} logvar", logvar, t["out.logvar"])


def rounded(function):
    """As recorded in some cases: a pipeline that had been moved to bfloat16 had rounded its tables."""
    def call(*args):
        value = function(*args)
        if value.is_complex():
            return torch.view_as_complex(torch.view_as_real(value).bfloat16().float())
        return value.bfloat16().float()
    return call


def either(module, name, check):
    """Runs the check as it is, and if that fails with rounded tables."""
    exact = getattr(module, name)
    try:
        check()
    except SystemExit:
        print("  again, with tables in bfloat16")
        setattr(module, name, rounded(exact))
        check()
    finally:
        setattr(module, name, exact)


def check_text(root):
    config = json.loads((root / "tiny-long/text_encoder/config.json").read_text())
    model = text_encoder.Gemma2(config)
    model.load_state_dict(weights(root / "tiny-long/text_encoder"))
    for case in ("L7", "L40"):
        t = tensors.load(root / f"cases/gemma2.tiny-long.{case}.safetensors")
        keep = t["in.attention_mask"].bool()
        # Up to the sliding window of this model, which the recipe's never reaches.
        keep = keep & (torch.arange(keep.shape[1]) < config["sliding_window"])
        either(text_encoder, "frequencies", lambda: compare(
            f"gemma2.{case}", model(t["in.input_ids"].long())[keep], t["out.last_hidden_state"][keep]))


def check_dit(root):
    """Teacher forcing in one forward against the recorded cached forwards, block by block."""
    config = json.loads((root / "tiny-long/transformer/config.json").read_text())
    model = dit.Dit(config)
    model.load_published(weights(root / "tiny-long/transformer"))
    for case, history in (("all", -1), ("window2", 2)):
        t = tensors.load(root / f"cases/causal.{case}.safetensors")
        blocks = [t[f"in.chunk{i}.x"].shape[2] for i in range(4)]
        layout = dit.Layout(blocks, history)
        clean = torch.cat([t[f"in.chunk{i}.clean"] for i in range(4)], 2)
        noisy = torch.cat([t[f"in.chunk{i}.x"] for i in range(4)], 2)
        times = torch.cat([t[f"in.chunk{i}.t"].float().view(1, 1).expand(1, n) for i, n in enumerate(blocks)], 1)
        def run():
            text = model.caption(t["in.y"])
            v = model.teacher_forcing(layout, clean, noisy, times, text, t["in.mask"].bool())
            for i, part in enumerate(v.split(blocks, 2)):
                compare(f"causal.{case} block {i}", part, t[f"out.chunk{i}.out"])

        either(dit, "rope_table", run)


def check_stored(_):
    """What is exported is what load_published() reads, which the recorded weights have shown to be right."""
    one, two = dit.Dit(dit.CONFIG), dit.Dit(dit.CONFIG)
    two.load_published({n: dit.stored(n, p) for n, p in one.named_parameters()})
    for (name, a), b in zip(one.named_parameters(), two.parameters()):
        if not torch.equal(a, b):
            raise SystemExit(f"{name}: changed on the way to a file and back")


if __name__ == "__main__":
    with torch.no_grad():
        for check in (check_vae, check_text, check_dit, check_stored):
            check(pathlib.Path(sys.argv[1]))
