"""Language models of plain text, from fit to load."""

import json
import math
import signal
import subprocess
import time

import numpy as np
import pytest
import torch

from salience import LanguageModel
from salience.core.errors import ConfigError, DataError, IntegrityError, NotFittedError
from salience.core.progress import listening
from salience.data.corpora.blocks import IGNORED, Blocks, whole
from salience.data.corpora.token_file import tokenize
from salience.data.tokenizers import ByteTokenizer
from salience.language_settings import make_config
from salience.training import loop
from salience.training.language import HeldOut, LanguageTask

SIZE = {"dim": 16, "num_layers": 2, "num_heads": 2, "glu_dim": 24}
WORDS = ["the cat sat on the mat. ", "a dog ran to the house! ", "where is the cat? "]
TEXTS = ["".join(WORDS[(i + j * j) % 3] for j in range(4 + i % 5)) for i in range(40)]
BOTH = pytest.mark.parametrize("kind", ["transnormer", "transformer"])


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SALIENCE_CACHE", str(tmp_path / "cache"))


def language_model(model="transnormer", *, steps=6, overrides=(), **options):
    usual = ["training.batch_size=8", "training.learning_rate=3e-2", "training.warmup=0.2"]
    wanted = [f"training.steps={steps}", *usual, *overrides]
    return LanguageModel(model, **{"context": 32, "model_args": SIZE, "overrides": wanted, **options})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SALIENCE_CACHE", str(tmp_path_factory.mktemp("cache")))
        return language_model(steps=30).fit(TEXTS)


# fit


@BOTH
@pytest.mark.parametrize("pack", ["blocks", "documents"])
def test_learns_what_follows(kind, pack):
    texts = ["abcdefgh" * (4 + i % 5) for i in range(40)]
    lm = language_model(kind, steps=26, pack=pack, overrides=["training.evaluate_steps=13"]).fit(texts)
    found = lm.evaluate(texts[:5])
    assert found["bits_per_byte"]["value"] < 0.6 * found["baselines"]["unigram"]["bits_per_byte"]["value"]
    assert [e["epoch"] for e in lm.history.epochs] == [0, 1]
    assert lm.history.epochs[1]["bits_per_byte"] < lm.history.epochs[0]["bits_per_byte"]
    assert lm.history.epochs[1]["loss"] < lm.history.epochs[0]["loss"]
    assert lm.history.stopped == "all steps done"


def test_same_seed_same_model_other_seed_another():
    one, again, other = (language_model(seed=seed).fit(TEXTS) for seed in (1, 1, 2))
    assert same_state(one.model, again.model)
    assert not same_state(one.model, other.model)


def same_state(one, other):
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_sub_words_are_not_learned_from_what_is_held_out():
    rare = "xylophone "
    lm = language_model(tokenizer="bpe", vocab_size=300).fit(TEXTS, validation=[rare * 50])
    assert len(lm.tokenizer.encode(rare)) > 5
    assert len(lm.tokenizer.encode(" cat")) == 1
    text = WORDS[0] * 60 + rare * 30
    lm = language_model(tokenizer="bpe", vocab_size=300, validation=0.2).fit([text])
    assert len(lm.tokenizer.encode(" " + rare)) > 5


def test_all_text_may_be_trained_on():
    lm = language_model(validation=0.0).fit(TEXTS)
    assert lm.source["train_tokens"] == sum(len(text) + 1 for text in TEXTS) + 1
    lm = language_model().fit(TEXTS)
    assert lm.source["train_tokens"] + lm.source["validation_tokens"] == sum(len(t) + 1 for t in TEXTS) + 2


@BOTH
def test_packed_documents_do_not_see_each_other(kind):
    torch.manual_seed(0)
    model = language_model(kind)
    model.tokenizer = ByteTokenizer()
    task = LanguageTask(model._build().double(), 255, "documents")
    texts = ["first text", "2", "and a third one"]
    blocks = Blocks(whole(tokenize(texts, model.tokenizer)), 64)
    logits = task(task.collate([blocks[0]]))[0]
    place = 0
    for text in texts:
        ids = torch.tensor([[255, *text.encode()]])
        alone = task.model(ids)[0]
        torch.testing.assert_close(logits[place : place + len(alone)], alone)
        place += len(alone)
    rows = task.collate([blocks[0], blocks[0]])
    torch.testing.assert_close(task(rows)[0, 64:], logits)


@BOTH
@pytest.mark.parametrize("pack", ["blocks", "documents"])
def test_parts_of_a_batch_give_its_gradient(kind, pack):
    found = []
    for parts in (1, 3):
        lm = language_model(kind, pack=pack)
        lm.tokenizer = ByteTokenizer()
        torch.manual_seed(0)
        task = LanguageTask(lm._build(), 255, pack)
        trainer = loop.Trainer(task, loop.TrainingConfig(accumulate=parts))
        blocks = Blocks(
            whole(tokenize(["short", "some text that fills more than a block"], lm.tokenizer)), 16
        )
        trainer.examples, trainer.target = blocks, blocks.targets
        loss = trainer._backward(np.arange(len(blocks)))
        found.append((loss, [p.grad for p in task.parameters()]))
    (loss, whole_gradient), (sum_of_parts, in_parts) = found
    assert sum_of_parts == pytest.approx(loss, rel=1e-5)
    for one, other in zip(whole_gradient, in_parts, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-3)


def test_held_out_scores_by_hand():
    lm = language_model()
    lm.tokenizer = ByteTokenizer()
    torch.manual_seed(0)
    task = LanguageTask(lm._build().eval(), 255)
    blocks = Blocks(whole(tokenize(["some text, längerer Text"], lm.tokenizer)), 10)
    found = HeldOut(blocks, lm.tokenizer.byte_lengths, rows=2)(task)
    rows = np.arange(len(blocks))
    target = torch.from_numpy(blocks.targets[rows])
    with torch.no_grad():
        logits = task.model(torch.from_numpy(np.stack([blocks[i] for i in rows])))
    nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=IGNORED)
    assert found["perplexity"] == pytest.approx(float(nats.exp()), rel=1e-5)
    tokens, size = int((target != IGNORED).sum()), len("some text, längerer Text".encode())
    assert found["bits_per_byte"] == pytest.approx(float(nats) * tokens / size / math.log(2), rel=1e-5)


class StopHere(Exception):
    """Stand in for a kill."""


@pytest.mark.parametrize("options", [{}, {"pack": "documents", "tokenizer": "bpe", "vocab_size": 270}])
def test_interrupted_training_goes_on_to_the_same_bits(tmp_path, monkeypatch, options):
    overrides = ["training.checkpoint_seconds=0", "training.evaluate_steps=5", "training.average=0.9",
                 "training.accumulate=2"]  # fmt: skip
    build = lambda: language_model(steps=12, overrides=overrides, **options)  # noqa: E731
    complete = build().fit(TEXTS)
    original = loop.Trainer._update_average

    def stop(self):
        original(self)
        if self.progress.updates == 8:
            raise StopHere

    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "_update_average", stop)
        with pytest.raises(StopHere):
            build().fit(TEXTS, folder=tmp_path / "run")
    again = build().fit(TEXTS, folder=tmp_path / "run")
    assert same_state(complete.model, again.model)
    assert [strip(e) for e in again.history.epochs] == [strip(e) for e in complete.history.epochs]
    assert len(again.history.epochs) == 3


def strip(record):
    return {name: value for name, value in record.items() if name != "seconds"}


KILLED = """
import sys, torch
torch.set_num_threads(1)
from salience import LanguageModel
LanguageModel(context=16, model_args={"dim": 16, "num_layers": 2, "num_heads": 2, "glu_dim": 24}, overrides=[
    "training.steps=60", "training.batch_size=4", "training.checkpoint_seconds=0", "training.evaluate_steps=25",
]).fit(sys.argv[1], folder=sys.argv[2]).save(sys.argv[2])
"""


@pytest.mark.slow
def test_killed_process_goes_on_to_the_same_bits(tmp_path, warm):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(TEXTS))
    command = lambda folder: [warm.python, "-c", KILLED, str(corpus), str(folder)]  # noqa: E731
    subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True)
    process = subprocess.Popen(command(tmp_path / "killed"), stderr=subprocess.PIPE)
    checkpoint = tmp_path / "killed" / loop.CHECKPOINT
    while not checkpoint.exists():
        time.sleep(0.01)
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()  # its streams are closed: nothing of it runs any more
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(IntegrityError, match="not finished"):
        LanguageModel.load(tmp_path / "killed")
    subprocess.run(command(tmp_path / "killed"), check=True, capture_output=True)
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "killed"))
    assert one == other
    assert not checkpoint.exists()


@pytest.mark.slow
def test_two_processes_with_shared_weights_train_what_one_trains(tmp_path, warm):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(TEXTS))
    options = ["--steps", "6", "--context", "32", "--set", "model_args={dim: 16, num_layers: 2, num_heads: 2, glu_dim: 24}",
               "--set", "training.batch_size=8", "--set", "training.average=0.9"]  # fmt: skip
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name, start in (("one", []), ("two", [*several, "--no-python", warm.python])):
        command = [warm.python, *start, "-m", "salience.cli.main", "lm", "train", corpus, "--out",
                   tmp_path / name, *options, "--set", "training.sharding=fsdp"]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
    one, two = (LanguageModel.load(tmp_path / name).model for name in ("one", "two"))
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_other_text_or_context_starts_afresh(tmp_path):
    def digest(texts, **options):
        lm = language_model(**options)
        lm.fit(texts, folder=tmp_path)
        header = (tmp_path / loop.CHECKPOINT).read_bytes()[:3000]
        return header[header.index(b'"fingerprint":"') + 15 :][:64]

    others = [
        {"context": 31},
        {"validation": 0.3},
        {"pack": "documents"},
        {"model_args": {**SIZE, "slopes": "paper"}},
    ]
    digests = [digest(TEXTS), digest(TEXTS[1:]), *(digest(TEXTS, **options) for options in others)]
    assert len(set(digests)) == 6
    assert digest(TEXTS) == digests[0]


def test_bf16_and_epochs_and_patience():
    overrides = ["training.mixed_precision=bf16", "training.epochs=2"]
    lm = language_model(steps=0, overrides=overrides).fit(TEXTS)
    assert lm.history.stopped == "all epochs done"
    assert len(lm.history.epochs) == 2
    overrides = ["training.patience=1", "training.evaluate_steps=2", "training.learning_rate=3.0"]
    lm = language_model(steps=60, overrides=overrides).fit(TEXTS)
    assert lm.history.stopped == "no better bits_per_byte for 1 rounds"
    assert len(lm.history.epochs) < 30


def test_the_plan_is_told_before_training():
    told = []

    class Listener:
        def start(self, stage, total):
            told.append((stage, total))

        def advance(self, handle, note):
            pass

        def finish(self, handle):
            pass

        def tell(self, topic, value):
            told.append((topic, value))

    with listening(Listener()):
        language_model().fit(TEXTS)
    assert [topic for topic, _ in told] == ["tokenise", "corpus", "train"]
    assert "tokens to train on" in told[1][1]
    assert told[2][1] == 6


# score


def test_scores_agree_with_log_probabilities(trained):
    found = trained.evaluate(TEXTS[:4])
    scores = trained.log_probabilities(TEXTS[:4])
    assert [len(s) for s in scores] == [len(text) for text in TEXTS[:4]]
    size = sum(map(len, TEXTS[:4]))
    assert (found["bytes"], found["characters"], found["tokens"], found["documents"]) == (
        size,
        size,
        size + 4,
        4,
    )
    bits = -sum(float(s.sum()) for s in scores) / math.log(2)
    ends = found["bits_per_byte"]["value"] * size - bits
    assert 0 < ends < 4 * 12
    assert found["perplexity"]["value"] == pytest.approx(2 ** ((bits + ends) / (size + 4)), rel=1e-6)
    low, high = found["bits_per_byte"]["interval"]
    assert low < found["bits_per_byte"]["value"] < high


def test_bytes_and_characters_are_counted_apart(trained):
    found = trained.evaluate(["für alle Bären"])
    assert (found["bytes"], found["characters"]) == (16, 14)
    ratio = found["bits_per_character"]["value"] / found["bits_per_byte"]["value"]
    assert ratio == pytest.approx(16 / 14)


def test_intervals_resample_documents_where_there_are_many(trained):
    assert trained.evaluate(TEXTS)["resampled"] == "documents"
    assert trained.evaluate(["".join(TEXTS)])["resampled"] == "parts of 32 tokens"


def test_evaluation_in_groups_is_that_of_all(trained, monkeypatch):
    one = trained.evaluate(TEXTS)
    monkeypatch.setattr("salience.language.SCORED_AT_ONCE", 100)
    many = trained.evaluate(TEXTS)
    assert many["bits_per_byte"]["value"] == pytest.approx(one["bits_per_byte"]["value"], rel=1e-6)
    assert many["baselines"]["zlib"] == one["baselines"]["zlib"]


def test_windows_may_be_chosen(trained):
    usual, wide = trained.evaluate(TEXTS[:5]), trained.evaluate(TEXTS[:5], window=1000)
    assert wide["perplexity"]["value"] == pytest.approx(usual["perplexity"]["value"], rel=1e-5)
    assert "501 to 1000 tokens" in wide["window"]
    narrow = trained.evaluate(TEXTS[:5], window=2, stride=1)
    assert narrow["perplexity"]["value"] != pytest.approx(usual["perplexity"]["value"], rel=1e-5)
    with pytest.raises(ConfigError, match=r"stride is out of range. Got 9, want 1 to 8"):
        trained.evaluate(TEXTS, window=8, stride=9)


def test_unigram_control_by_hand(trained):
    counts = trained.unigram + 1.0
    ids = [*TEXTS[0].encode(), 255]
    bits = -np.log2(counts[ids] / counts.sum()).sum() / len(TEXTS[0])
    found = trained.evaluate(TEXTS[:1])["baselines"]["unigram"]["bits_per_byte"]["value"]
    assert found == pytest.approx(bits)
    assert counts.sum() - 256 == trained.source["train_tokens"]


def test_evaluation_reads_files_as_the_corpus_was(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"words": t, "n": 1}) for t in TEXTS))
    lm = language_model(column="words").fit(tmp_path / "a.jsonl")
    assert lm.evaluate(tmp_path / "a.jsonl")["documents"] == 40
    (tmp_path / "b.txt").write_text("\n".join(TEXTS))
    assert lm.evaluate(tmp_path / "b.txt")["documents"] == 1


# write and explain


def test_written_text_depends_on_the_seed_alone(trained):
    options = {"max_new_tokens": 40, "temperature": 1.0}
    one, again, other = (trained.generate("the ", seed=seed, **options) for seed in (3, 3, 4))
    assert one == again != other
    assert one == "".join(trained.stream("the ", seed=3, **options))
    assert trained.generate("the ") == trained.generate("the ", seed=9)


def test_writing_stops(trained):
    text = trained.generate("the cat", max_new_tokens=60)
    assert trained.generate("the cat", max_new_tokens=60, stop=["t"]) == text.split("t")[0]
    assert len(trained.generate("", max_new_tokens=7).encode()) <= 7


def test_an_explanation_names_words_of_the_context(trained):
    found = trained.explain("the cat sat on the", target=" ", contrast="x")
    assert [unit.label for unit in found.units] == ["the", "cat", "sat", "on", "the"]
    assert found.completeness_gap is not None
    assert found.faithfulness is not None


# save and load


@BOTH
@pytest.mark.parametrize("tokenizer", ["byte", "bpe"])
def test_loaded_model_is_the_saved_one(tmp_path, kind, tokenizer):
    lm = language_model(kind, tokenizer=tokenizer, vocab_size=270).fit(TEXTS)
    again = LanguageModel.load(lm.save(tmp_path / "lm"))
    assert same_state(lm.model, again.model)
    assert again.model.lm_head.weight is again.model.embed_tokens.weight
    assert again.evaluate(TEXTS[:3]) == lm.evaluate(TEXTS[:3])
    assert again.generate("the", max_new_tokens=9) == lm.generate("the", max_new_tokens=9)
    assert (again.config, again.history, again.source) == (lm.config, lm.history, lm.source)
    assert (
        again.save(tmp_path / "other").joinpath("model.safetensors").read_bytes()
        == (tmp_path / "lm" / "model.safetensors").read_bytes()
    )


def test_unfinished_damaged_and_other_folders_are_refused(tmp_path, trained):
    folder = trained.save(tmp_path / "lm")
    run = (folder / "run.json").read_text()
    with pytest.raises(IntegrityError, match=r"no saved language model.*SAL-I004"):
        LanguageModel.load(tmp_path / "nothing")
    (folder / "run.json").unlink()
    with pytest.raises(IntegrityError, match=r"not finished.*salience lm train.*SAL-I004"):
        LanguageModel.load(folder)
    (folder / "run.json").write_text('{"state": "complete", "hashes": {}}')
    with pytest.raises(IntegrityError, match=r"does not hold a language model.*SAL-I004"):
        LanguageModel.load(folder)
    (folder / "run.json").write_text(run)
    for name in ("model.safetensors", "tokenizer.json"):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[:-3])
        with pytest.raises(IntegrityError, match=f"{name} is not the file that was saved.*SAL-I005"):
            LanguageModel.load(folder)
        (folder / name).write_bytes(data)
    assert LanguageModel.load(folder).source == trained.source


def test_a_failed_save_is_not_complete(tmp_path, trained, monkeypatch):
    folder = trained.save(tmp_path / "lm")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("salience.language.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        trained.save(folder)
    with pytest.raises(IntegrityError, match="not finished"):
        LanguageModel.load(folder)


# errors


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "transnorma"}, "Unknown language_model 'transnorma'. Did you mean 'transnormer'"),
        ({"tokenizer": "bytes"}, "Unknown tokenizer 'bytes'. Did you mean 'byte'"),
        ({"pack": "document"}, "Unknown way to pack 'document'. Did you mean 'documents'"),
        ({"context": 0}, "context is out of range. Got 0"),
        ({"validation": 1.0}, "validation is out of range"),
        ({"contxt": 5}, "Unknown option 'contxt'. Did you mean 'context'"),
        ({"overrides": ["training.stepz=5"]}, "Unknown option 'training.stepz'. Did you mean 'training.steps'|'steps'"),
        ({"overrides": ["training.beta2=1.5"]}, "training.beta2 is out of range"),
    ],
)  # fmt: skip
def test_wrong_options_are_named(options, said):
    with pytest.raises(ConfigError, match=said):
        LanguageModel(**options)


def test_wrong_presets_and_sizes_are_named():
    with pytest.raises(ConfigError, match=r"Unknown preset 'tinny'. Did you mean 'tiny'"):
        LanguageModel(preset="tinny").fit(TEXTS)
    with pytest.raises(ConfigError, match="Unknown option 'dimm'"):
        LanguageModel(model_args={"dimm": 3}).fit(TEXTS)


def test_too_little_text_and_no_training():
    with pytest.raises(
        DataError, match=r"too small to train on. the given texts: 0 tokens|1 tokens.*SAL-D003"
    ):
        language_model(validation=0.9).fit(["a"])
    for call in (
        lambda lm: lm.evaluate(["text"]),
        lambda lm: lm.log_probabilities(["text"]),
        lambda lm: lm.generate("text"),
        lambda lm: lm.explain("text"),
        lambda lm: lm.save("nowhere"),
    ):
        with pytest.raises(NotFittedError, match="not trained"):
            call(LanguageModel())


def test_options_come_from_defaults_file_names_and_assignments(tmp_path):
    (tmp_path / "lm.yaml").write_text("context: 64\npreset: small\ntraining: {epochs: 2, steps: 7}\n")
    config = make_config(tmp_path / "lm.yaml", ["training.steps=9"], preset="tiny", seed=None)
    assert (config.context, config.preset, config.seed) == (64, "tiny", 0)
    assert (config.training.epochs, config.training.steps, config.training.beta2) == (2, 9, 0.95)
