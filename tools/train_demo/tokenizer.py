"""A SentencePiece BPE model with Gemma's flags, trained on captions: every word becomes one token."""
import random

import sentencepiece

import data

VOCABULARY = 512  # 4 special tokens, 256 bytes, the rest pieces
SENTENCES = 20000


def train(path, seed=0):
    """Writes PATH (tokenizer.model)."""
    rng = random.Random(seed)
    texts = (data.caption(data.sample(rng), rng).lower() for _ in range(SENTENCES))
    with open(path, "wb") as f:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=texts, model_writer=f, model_type="bpe", vocab_size=VOCABULARY,
            pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>", eos_piece="<eos>",
            bos_piece="<bos>", unk_piece="<unk>", byte_fallback=True, split_digits=True,
            split_by_unicode_script=True, split_by_number=True, split_by_whitespace=True,
            allow_whitespace_only_pieces=True, add_dummy_prefix=False, remove_extra_whitespaces=False,
            normalization_rule_name="identity", num_threads=1, minloglevel=1)


def load(path):
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(path))
    if tokenizer.vocab_size() != VOCABULARY:
        raise ValueError(f"{path}: {tokenizer.vocab_size()} pieces, {VOCABULARY} are expected")
    return tokenizer
