"""``salience lm``: language models of plain text."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from salience.cli.answer import Answer
from salience.cli.options import Config, Seed, Set, TimeLimit, unescaped
from salience.core.errors import ConfigError
from salience.core.processes import is_main_process

if TYPE_CHECKING:
    from salience.data.corpus import Reading
    from salience.language import LanguageModel

EXAMPLES = (
    "salience lm train books/ --out runs/books --validation heldout.txt --time-limit 30",
    "salience lm train wiki.jsonl.gz --column text --out runs/wiki --tokenizer bpe --steps 5000",
    "salience lm evaluate runs/books heldout.txt",
    "salience lm generate runs/books 'It was a dark' --max-tokens 300",
    "salience lm explain runs/books 'The cat sat on the' --target ' mat' --contrast ' dog'",
)
NARROWEST = 16  # columns of a terminal; what is printed at once and is wider would be cut off
Corpus = Annotated[
    str,
    typer.Argument(
        metavar="CORPUS",
        help="A text file, JSON lines or Parquet (also .gz, .bz2, .xz, .zst), or a folder of them. It may be larger"
        " than the memory.",
    ),
]
Trained = Annotated[Path, typer.Argument(metavar="MODEL", help="A folder that 'lm train' wrote.")]
Column = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Column of the text in JSON lines or Parquet. Default: text, or the only one."
    ),
]
Separator = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help=r"What stands between documents in a text file, such as '\n' (each line is one) or '<|endoftext|>'."
        " Default: a file is one document.",
    ),
]
Encoding = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Encoding of text files that are not UTF-8, such as cp1252."),
]


Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder for the model.")]
Validation = Annotated[
    str | None,
    typer.Option(
        metavar="CORPUS", help="Text that decides which weights are kept. Default: a tenth of CORPUS."
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="transnormer (linear attention, the default) or transformer."),
]
Size = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Size: tiny (1 million parameters, the default), small, 385M, 1B …"),
]
Tokens = Annotated[
    str | None,
    typer.Option(metavar="[byte|bpe]", help="byte (the default), or sub-words learned from CORPUS."),
]
VocabSize = Annotated[
    int | None, typer.Option(metavar="N", help="Sub-words to learn, with bpe. Default: 4096.")
]
Context = Annotated[int | None, typer.Option(metavar="N", help="Tokens of a training block. Default: 256.")]
Pack = Annotated[
    Literal["blocks", "documents"] | None,
    typer.Option(
        metavar="[blocks|documents]",
        help="blocks (the default): a block goes on into the next document; documents: no token sees another"
        " document.",
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Exact number of updates. Default: 5 passes over CORPUS."),
]


def train(
    corpus: Corpus,
    out: Out,
    validation: Validation = None,
    model: ModelName = None,
    preset: Size = None,
    tokenizer: Tokens = None,
    vocab_size: VocabSize = None,
    context: Context = None,
    pack: Pack = None,
    steps: Steps = None,
    column: Column = None,
    separator: Separator = None,
    encoding: Encoding = None,
    time_limit: TimeLimit = None,
    seed: Seed = None,
    config: Config = None,
    assignments: Set = None,
) -> Answer:
    """Train a language model on plain text, and save it.

    Text becomes tokens, tokens become blocks, and the model learns to predict each next token. A part of the text is
    held out; the weights that predict it best are kept. Training that was interrupted goes on when the same command is
    given again. Other options: --set training.learning_rate=1e-3, --set training.mixed_precision=bf16.
    """
    from salience.language import LanguageModel

    if (out / "run.json").exists():
        raise ConfigError(
            "The folder holds a finished model already",
            str(out),
            "Choose another --out, or delete the folder.",
        )
    lm = LanguageModel(
        model, preset=preset, tokenizer=tokenizer, vocab_size=vocab_size, context=context, pack=pack, column=column,
        separator=unescaped(separator), encoding=encoding, time_limit=time_limit, seed=seed, config=config,
        overrides=[*([f"training.steps={steps}"] if steps else []), *(assignments or ())],
    )  # fmt: skip
    lm.fit(corpus, validation=validation, folder=out)
    lm.save(out)
    if not is_main_process():
        raise typer.Exit
    return _trained(lm, out)


def _trained(lm: "LanguageModel", out: Path) -> Answer:
    from salience.cli.views import number, records_table

    history: Any = lm.history
    best = history.epochs[history.best_epoch]
    records = [
        {"round": e["epoch"] + 1, "training loss": e["loss"], "bits a byte, held out": e["bits_per_byte"],
         "seconds": e["seconds"]}
        for e in history.epochs
    ]  # fmt: skip
    view = [
        records_table("Training (loss in nats a token)", records),
        "",
        f"Kept: round {history.best_epoch + 1}, {number(best['bits_per_byte'])} bits a byte; {history.stopped}.",
        f"Model: {out}",
        f"Use it: salience lm generate {out} PROMPT",
    ]
    return Answer({"model": out, **lm.source, "history": vars(history)}, view)


def evaluate(
    model: Trained,
    corpus: Corpus,
    window: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Read at most N tokens before each. Default: what the model can."
        ),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Tokens that a window moves by. Default: half of it."),
    ] = None,
    column: Column = None,
    separator: Separator = None,
    encoding: Encoding = None,
) -> Answer:
    """Score text that was not trained on: perplexity and bits a byte, each with a 95 % interval, beside controls.

    The controls: a unigram model, which knows only how frequent each token was in the training text, and zlib, which
    packs this text without having seen any other. Each document is scored from its start.
    """
    from salience.language import LanguageModel

    lm = LanguageModel.load(model)
    found = lm.evaluate(
        corpus, reading=_reading(lm, column, separator, encoding), window=window, stride=stride
    )
    return Answer(found, _scores(found))


def _reading(
    lm: "LanguageModel", column: str | None, separator: str | None, encoding: str | None
) -> "Reading | None":
    from salience.data.corpus import Reading

    if column is separator is encoding is None:
        return None
    usual = lm.config.reading
    return Reading(column, unescaped(separator) or usual.separator, encoding or usual.encoding)


def _scores(found: dict[str, Any]) -> list[Any]:
    from salience.cli.views import table, with_interval

    names = {
        "bits_per_byte": "bits a byte ↓",
        "bits_per_character": "bits a character ↓",
        "perplexity": "perplexity a token ↓",
    }
    rows = {"this model": found, **found["baselines"]}
    cells = [[name, *(with_interval(scores.get(key)) for key in names)] for name, scores in rows.items()]
    title = (
        f"{found['documents']:,} documents, {found['tokens']:,} tokens (ends of documents among them),"
        f" {found['bytes']:,} bytes (95 % interval)"
    )
    notes = [f"A prediction reads {found['window']}.", f"Intervals resample {found['resampled']}."]
    return [table(title, ("", *names.values()), cells), *notes]


def generate(
    model: Trained,
    prompt: Annotated[
        str, typer.Argument(metavar="[PROMPT]", help="How the text begins. Default: nothing.")
    ] = "",
    max_tokens: Annotated[int, typer.Option(metavar="N", min=1, help="Most tokens to write.")] = 200,
    temperature: Annotated[
        float,
        typer.Option(
            metavar="T", min=0.0, help="0 always takes the likeliest token; 1 samples as predicted."
        ),
    ] = 0.8,
    top_k: Annotated[
        int | None, typer.Option(metavar="K", min=1, help="Sample among the K likeliest tokens.")
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(metavar="P", help="Sample among the likeliest tokens that make up this probability."),
    ] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="End where this text would come. May be repeated."),
    ] = None,
    seed: Seed = None,
) -> Answer:
    r"""Write on from a prompt; the text appears as it is written. It ends where the model ends the document.

    With --json the prompt and the whole text come at the end. A \n in --stop is a line break.
    """
    from salience.language import LanguageModel

    lm = LanguageModel.load(model)
    pieces = lm.stream(
        prompt,
        max_new_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        stop=[unescaped(text) or "" for text in stop or ()],
        seed=seed or 0,
    )
    return Answer(_Writing(prompt, pieces), _shown(pieces))


@dataclass(frozen=True)
class _Writing:
    """Hold a text that is written when it is asked for."""

    prompt: str
    pieces: Iterable[str]

    def to_json(self) -> dict[str, str]:
        return {"prompt": self.prompt, "text": "".join(self.pieces)}


@dataclass(frozen=True)
class _Characters:
    """Print characters as they are: no wrapping, no markup, no line break after them."""

    text: str

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.segment import Segment

        yield Segment(self.text)


def _shown(pieces: Iterable[str]) -> Iterator[_Characters]:
    from salience.cli.views import printable

    for piece in pieces:
        text = printable(piece)
        for start in range(0, len(text), NARROWEST):
            yield _Characters(text[start : start + NARROWEST])
    yield _Characters("\n")


def explain(
    model: Trained,
    context: Annotated[str, typer.Argument(metavar="CONTEXT", help="The text before what is explained.")],
    target: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="What may come next, with the space before it. Default: the predicted token."
        ),
    ] = None,
    contrast: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Explain the target rather than this.")
    ] = None,
    method: Annotated[
        str, typer.Option(metavar="NAME", help="How (salience list explainers).")
    ] = "integrated_gradients",
    units: Annotated[
        Literal["words", "tokens"], typer.Option(metavar="[words|tokens]", help="What gets a number.")
    ] = "words",
    seed: Seed = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page (.html) or JSON (.json).")
    ] = None,
) -> Answer:
    """Say which earlier words a prediction used, and test whether that is true.

    A target of one token is explained by its log-odds against all others, a longer one by its log-probability. The test
    takes the words away and compares with taking away random words.
    """
    from salience.cli.views import explanation_view
    from salience.language import LanguageModel

    found = LanguageModel.load(model).explain(
        context, target=target, contrast=contrast, method=method, units=units, seed=seed or 0
    )
    if out is not None:
        found.save(out)
        return Answer({"file": out}, [f"Explanation: {out}"])
    return Answer(found.to_json(), explanation_view(found))


commands = {"train": train, "evaluate": evaluate, "generate": generate, "explain": explain}
