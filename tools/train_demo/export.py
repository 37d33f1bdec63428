"""The trained parts as a model directory in the published layout, with sanad.json for how it is run."""
import datetime
import json
import pathlib
import platform
import shutil
import subprocess

import torch

import data
import dit
import tensors
import text_encoder
import vae

VERSION = {"_diffusers_version": "0.36.0.dev0"}

INDEX = {
    "_class_name": "SanaVideoPipeline", **VERSION,
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "Gemma2Model"],
    "tokenizer": ["transformers", "GemmaTokenizer"],
    "transformer": ["diffusers", "SanaVideoCausalTransformer3DModel"],
    "vae": ["diffusers", "AutoencoderKLWan"],
}

SCHEDULER = {
    "_class_name": "FlowMatchEulerDiscreteScheduler", **VERSION, "num_train_timesteps": 1000,
    "shift": dit.SHIFT, "use_dynamic_shifting": False, "base_shift": 0.5, "max_shift": 1.15,
    "base_image_seq_len": 256, "max_image_seq_len": 4096, "invert_sigmas": False, "shift_terminal": None,
    "use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False,
    "time_shift_type": "exponential", "stochastic_sampling": False,
}

TRANSFORMER = {
    "_class_name": "SanaVideoCausalTransformer3DModel", **VERSION, **dit.CONFIG, "dropout": 0.0,
    "attention_bias": False, "sample_size": 30, "norm_elementwise_affine": False, "norm_eps": 1e-6,
    "interpolation_scale": None, "guidance_embeds": False, "guidance_embeds_scale": 0.1,
    "qk_norm": "rms_norm_across_heads", "rope_max_seq_len": 1024,
}

TEXT_ENCODER = {
    "architectures": ["Gemma2Model"], "model_type": "gemma2", **text_encoder.CONFIG,
    "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0,
    "cache_implementation": "hybrid", "final_logit_softcapping": 30.0, "hidden_act": "gelu_pytorch_tanh",
    "hidden_activation": "gelu_pytorch_tanh", "initializer_range": 0.02, "max_position_embeddings": 8192,
    "sliding_window": 4096, "torch_dtype": "bfloat16", "transformers_version": "4.57.1", "use_cache": True,
}

TOKENIZER = {
    "add_bos_token": True, "add_eos_token": False,
    "added_tokens_decoder": {str(i): {"content": t, "lstrip": False, "normalized": False, "rstrip": False,
                                      "single_word": False, "special": True}
                             for i, t in enumerate(("<pad>", "<eos>", "<bos>", "<unk>"))},
    "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>",
    "clean_up_tokenization_spaces": False, "model_max_length": 4096, "padding_side": "right",
    "sp_model_kwargs": {}, "spaces_between_special_tokens": False, "tokenizer_class": "GemmaTokenizer",
    "use_default_system_prompt": False,
}

SANAD = {
    "id": "sanad-demo", "aliases": ["demo"], "sampler": "euler", "steps": 8, "flow_shift": dit.SHIFT,
    "guidance_scale": 1, "block_latent_frames": dit.BLOCK, "history_blocks": dit.HISTORY, "fps": data.FPS,
    "size": f"{data.WIDTH}x{data.HEIGHT}", "frames": 81, "chi": "none", "lower_case": True, "motion_score": 0,
    "max_prompt_tokens": 64, "sizes": [f"{data.WIDTH}x{data.HEIGHT}"],
}


def vae_config(config, stats):
    return {"_class_name": "AutoencoderKLWan", **VERSION, **config, "dim_mult": list(vae.MULT), "attn_scales": [],
            "temperal_downsample": list(vae.HALVES_TIME), "dropout": 0.0, "latents_mean": stats["mean"],
            "latents_std": stats["std"], "is_residual": False, "in_channels": 3, "out_channels": 3,
            "patch_size": None, "scale_factor_temporal": 4, "scale_factor_spatial": 8}


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_tensors(path, values):
    tensors.save(path, {n: t.detach().to(torch.bfloat16) for n, t in values.items()})


def part(values, prefix):
    return {n[len(prefix):]: t for n, t in values.items() if n.startswith(prefix)}


def commit():
    """Of the recipe, as git knows it; with "-dirty" if it has been changed since."""
    here = pathlib.Path(__file__).parent
    run = subprocess.run(["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty"], cwd=here,
                         capture_output=True, text=True)
    return run.stdout.strip() or "unknown"


def write_card(path, vae_state, dit_state, clips, bf16):
    """The model card: card.md with what is known of this training."""
    card = pathlib.Path(__file__).with_name("card.md").read_text()
    path.write_text(card.format(
        commit=commit(), date=datetime.date.today(), clips=clips, torch=torch.__version__, machine=platform.machine(),
        options=" TRAIN_OPTIONS=--bf16" if bf16 else "",
        vae_steps=vae_state["step"], vae_minutes=round(vae_state["used"] / 60),
        dit_steps=dit_state["step"], dit_minutes=round(dit_state["used"] / 60)))


def export(to, vae_state, dit_state, stats, tokenizer_file):
    """Writes the directory `to`. The averaged parameters are what is exported."""
    for name, value in (("model_index", INDEX), ("scheduler/scheduler_config", SCHEDULER),
                        ("transformer/config", TRANSFORMER), ("text_encoder/config", TEXT_ENCODER),
                        ("tokenizer/tokenizer_config", TOKENIZER), ("sanad", SANAD),
                        ("vae/config", vae_config(vae_state["config"], stats))):
        write_json(to / f"{name}.json", value)
    shutil.copyfile(tokenizer_file, to / "tokenizer/tokenizer.model")
    average = dit_state["average"]
    write_tensors(to / "vae/diffusion_pytorch_model.safetensors", vae_state["average"])
    write_tensors(to / "text_encoder/model.safetensors", part(average, "text."))
    transformer = {n: dit.stored(n, t) for n, t in part(average, "dit.").items()}
    write_tensors(to / "transformer/diffusion_pytorch_model.safetensors", transformer)
