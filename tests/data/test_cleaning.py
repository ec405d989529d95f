"""Cleaning of a corpus, on texts whose right answer is known."""

import json
import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salience.core.errors import ConfigError
from salience.data.cleaning.config import CleaningConfig
from salience.data.cleaning.duplicates import NearDuplicates, bands, jaccard, shingles, words
from salience.data.cleaning.judge import bits_per_byte, choose
from salience.data.cleaning.markup import protected_lines
from salience.data.cleaning.pipeline import clean
from salience.data.cleaning.rules import CHANGES, RULES, apply_rules
from salience.data.cleaning.store import Entry, Spool
from salience.data.corpus import Document, documents

VOCABULARY = [
    "the", "a", "of", "and", "river", "stone", "garden", "window", "evening", "letter", "captain", "morning",
    "children", "market", "silver", "winter", "travelled", "carried", "opened", "followed", "remembered", "quiet",
    "heavy", "narrow", "ancient", "bright", "across", "under", "beside", "before", "music", "harbour", "valley",
    "teacher", "brother", "village", "kitchen", "forest", "lantern", "promise", "journey", "weather", "shadow",
]  # fmt: skip


def sentence(rng, count=12):
    return " ".join(rng.choice(VOCABULARY, count)).capitalize() + "."


def prose(rng, sentences=6):
    return " ".join(sentence(rng) for _ in range(sentences))


def corpus(texts):
    return [Document(text, "c.txt", number) for number, text in enumerate(texts, start=1)]


def run(texts, train=None, **options):
    return clean(corpus(texts), None, CleaningConfig(**{"rounds": 0, **options}), train)


# rules


@pytest.mark.parametrize(
    ("rule", "before", "after", "places"),
    [
        ("mojibake", "It was the cafÃ© and donâ€™t", "It was the café and don’t", 2),
        ("mojibake", "Ð¿Ñ€Ð¸Ð²ÐµÑ‚", "привет", 6),
        ("mojibake", "РїСЂРёРІРµС‚", "привет", 6),
        ("mojibake", "le « CAFÉ » de Ãvora", "le « CAFÉ » de Ãvora", 0),
        ("mojibake", "cafÃƒÂ©", "café", 3),
        ("characters", "a\x00b\u200bc\ufeff d\u00a0e\r\nf\u2028g\ue000", "abc d e\nf\ng", 7),
        ("numbers", "１２，３４５ and 1\u202f000\u202f000 and 𝟏𝟐", "12,345 and 1,000,000 and 12", 9),
        ("numbers", "call 555 123 456, in 2010 100 came, 3'100'000", "call 555 123 456, in 2010 100 came, 3,100,000", 1),
        ("html", "<p>One<br/>two &amp; <b class='x'>three</b></p><script>var x = '<i>';</script>", "\nOne\ntwo & three\n", 7),
        ("html", "if a < b and vector<int> x; AT&T; &notaname; <stdio.h>", "if a < b and vector<int> x; AT&T; &notaname; <stdio.h>", 0),
        ("html", "&amp;lt;b&amp;gt; bold", " bold", 5),
        ("addresses", "See https://a.org/x?y=1. Or (www.b.com/c_(d)), <http://e.f>!", "See . Or (), !", 3),
        ("addresses", "看http://a.cn/b。好", "看。好", 1),
        ("addresses", "[a paper](https://a.org/x) and \\url{http://b.c}", "[a paper](https://a.org/x) and \\url{http://b.c}", 0),
        ("blobs", f"key {'aGVsbG8gd29ybGQ0' * 8}== end", "key  end", 1),
        ("blobs", f"{'a' * 200} {'4' * 200}", f"{'a' * 200} {'4' * 200}", 0),
        ("punctuation", "What!!!!!! Really?!?!?! wait...... f((((x)))) ——————", "What!!! Really?!? wait... f((((x)))) ———", 4),
        ("punctuation", "# Title\n\n==========\n|-----|-----|\n----------\ntext", "# Title\n\n==========\n|-----|-----|\n----------\ntext", 0),
        ("repeated_lines", "Buy now, friends\nBuy now, friends\n Buy now, friends\nend\nend\n}\n}", "Buy now, friends\nend\nend\n}\n}", 2),
        ("blank_lines", "one\n\n \n\t\n\ntwo", "one\n\ntwo", 1),
        ("ends", "\n \n  indented\n\n", "  indented", 1),
    ],
)  # fmt: skip
def test_each_change(rule, before, after, places):
    text, count = RULES[rule].apply(before)
    assert text == after
    assert count == places


MARKDOWN = r"""# Heading ######

Some *text* with `code <b>` and a [link](https://example.org/a_b "title") ok.
![picture](http://example.org/p.png)

| a | b |
|---|---|
| 1 | 2 |

```html
<p>kept   https://kept.org !!!!!!</p>



<p>kept</p>
```

[1]: https://example.org/reference "Reference"

***

Let $x <b> y$ and $$\int_0^1 f(x)\,dx !!!!!$$ and \(a<b>c\) hold for \href{https://a.b}{this}.

\begin{align}
a &= b & c &= 1'000'000 \\
&amp; \ldots !!!!!!
\end{align}

\usepackage[utf8]{inputenc}
It costs $5 and then $10 more; all good.""".replace("ok.", "ok.  ")  # two spaces break a line


def test_markdown_and_latex_are_untouched():
    ruled = apply_rules(MARKDOWN, CleaningConfig())
    assert ruled.text == MARKDOWN
    assert ruled.places == {}
    assert not ruled.rule


def test_prices_are_no_formula():
    assert RULES["html"].apply("It costs $5 <b>or</b> $6")[0] == "It costs $5 or $6"


@pytest.mark.parametrize(
    "text",
    [
        "हिन्दी में लिखा हुआ एक वाक्य, जिसमें मात्राएँ और संयुक्ताक्षर हैं, जैसे क्षत्रिय और ज्ञान।",
        "ภาษาไทยไม่มีช่องว่างระหว่างคำและมีสระกับวรรณยุกต์อยู่เหนือและใต้พยัญชนะในทุกประโยค",
        "می‌خواهم یک کتاب بخوانم که درباره‌ی تاریخ باشد؛ آیا می‌توانید کمک کنید؟",
        "日本語の文章です。句読点や「引用」も、そのまま残ります。数字は12,345円です。それはとても大切なことです。",
        "A family 👨‍👩‍👧‍👦, a flag 🏴󠁧󠁢󠁳󠁣󠁴󠁿, a thumb 👍🏽 and an accent é remain as they are here.",
        "Ação, coração, “IRMÔ e ÀS 8h: ‘café’ – naïve Ångström, Ø, ß, œuvre, čeština, ğ, ő.",
    ],
)
def test_other_scripts_are_untouched(text):
    ruled = apply_rules(text, CleaningConfig())
    assert (ruled.text, ruled.places, ruled.rule) == (text, {}, "")


SNIPPETS = st.sampled_from(
    [
        "<b>", "</p>", "<br", ">", "<", "&amp;", "&lt;", "&#60;", "lt;", "https://a.b/c", "www.x.org", "!!!!", "?!?!",
        "$", "$$", "`", "```\n", "\\[", "\\]", "\\begin{a}", "\\end{a}", "](", "[x](y)", "\n", "\n\n\n\n", "Ã©", "â€™",
        "Ãƒ", "Â", "é", "漢字", "\u200d", "\ufeff", "\u00a0", "\x00", "\ufffd", "\ue000", "1'000", "１２", "a1" * 60, "---",
        "A line that is long enough\n", "word", " ", "\t", "# ", "|", "<!--", "-->", "<script>", "</script>", "_____", "\r\n",
    ]
)  # fmt: skip
TEXTS = st.lists(st.one_of(SNIPPETS, st.text(max_size=3)), max_size=14).map("".join)


@given(TEXTS)
@pytest.mark.parametrize("rule", [rule.name for rule in CHANGES])
def test_a_change_leaves_nothing_to_change(rule, text):
    once, _ = RULES[rule].apply(text)
    assert RULES[rule].apply(once)[0] == once


@given(TEXTS)
def test_all_rules_together_leave_nothing_to_change(text):
    config = CleaningConfig(min_characters=1)
    once = apply_rules(text, config)
    assert apply_rules(once.text, config).text == once.text


@pytest.mark.parametrize(
    "opening",
    ["<!--", "$", "\\begin{x}", "`", "[", "<p ", "<script>", "\\(", "&", "```\n", "\\[", "data:", "\n"],
)
def test_unclosed_openings_do_not_take_long(opening):
    """The openings are 40,000 characters; a pattern without bounds would take minutes."""
    text = opening * (40_000 // len(opening))
    assert len(apply_rules(text, CleaningConfig()).text) <= len(text)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("too_short", "Too short."),
        ("too_long", "word " * 300),
        (
            "garbled",
            "A text \ufffd\ufffd with ma\ufffdny lost characters in \ufffd every line of it, all over.",
        ),
        (
            "garbled",
            "\x00\x01PK\x03 binary \x07\x08\x0e data that was read as if it were text, alas, all over",
        ),
        (
            "few_letters",
            "%$ #@ !^ &* ( ~` <> ?/ |\\ {} [] a b c -- ++ == ;; ::,, .. ''# @@ !! $$ %% ^^ && ** ()",
        ),
        ("repetition", "buy cheap watches now " * 40),
    ],
)
def test_each_drop(rule, text):
    ruled = apply_rules(text, CleaningConfig(max_characters=1000))
    assert ruled.rule == rule
    assert ruled.reason
    assert apply_rules(text, CleaningConfig(max_characters=1000, skip=(rule,))).rule != rule


def test_planted_garbage_is_found_and_nothing_else():
    rng = np.random.default_rng(0)
    good = [prose(rng) for _ in range(60)]
    bad = [
        *(prose(rng).replace("e", "\ufffd") for _ in range(5)),
        *("".join(chr(c) for c in rng.integers(1, 32, 80)) + sentence(rng) for _ in range(5)),
        *("".join(rng.choice(list("#$%^&*()@!~ "), 200)) for _ in range(5)),
        *(sentence(rng, 3) * 60 for _ in range(5)),
    ]
    order = rng.permutation(len(good) + len(bad))
    texts = [(good + bad)[i] for i in order]
    planted = {f"c.txt:{k}" for k, i in enumerate(order, start=1) if i >= len(good)}
    found = {name for names in run(texts).dropped.values() for name in names}
    assert found == planted  # precision and recall are 1


# near duplicates


def test_words_of_scripts_without_spaces():
    assert words("Ｈello, WORLD’s 漢字です") == ["hello", "world", "s", "漢", "字", "で", "す"]
    assert shingles(["a"]) == {"a"}
    assert shingles(["a", "b", "c", "d"]) == {"a b c", "b c d"}
    assert jaccard(frozenset("abc"), frozenset("bcd")) == 0.5


def test_bands_find_the_threshold():
    for threshold in (0.5, 0.8, 0.95):
        count, rows = bands(threshold, 128)
        assert count * rows <= 128
        assert 1 - (1 - threshold**rows) ** count >= 0.99
    with pytest.raises(ConfigError, match="Too few permutations"):
        bands(0.3, 16)


def edited(text, rng, share):
    found = text.split()
    for place in rng.choice(len(found), max(1, round(share * len(found))), replace=False):
        found[place] = "changed"
    return " ".join(found)


def test_planted_copies_are_found_and_no_random_text():
    rng = np.random.default_rng(1)
    originals = [prose(rng) for _ in range(80)]
    copies = {80 + i: i for i in range(0, 80, 4)}
    texts = originals + [edited(originals[i], rng, 0.03) for i in copies.values()]
    similar = {k: jaccard(shingles(words(texts[k])), shingles(words(texts[i]))) for k, i in zip(range(80, 100), copies.values(), strict=True)}  # fmt: skip
    assert min(similar.values()) > 0.8
    found = run(texts)
    assert found.dropped == {"documents": [f"c.txt:{k + 1}" for k in range(80, 100)]}
    for group, original in zip(found.groups, copies.values(), strict=True):
        assert group["kept"] == f"c.txt:{original + 1}"
        (copy,) = group["copies"]
        assert copy["similarity"] == pytest.approx(similar[int(copy["id"].split(":")[1]) - 1], abs=1e-4)


def test_the_search_agrees_with_all_pairs():
    rng = np.random.default_rng(2)
    base = [sentence(rng, 30) for _ in range(12)]
    texts = [edited(base[i % 12], rng, share) for i, share in enumerate(np.linspace(0, 0.25, 60))]
    search = NearDuplicates(0.7, texts.__getitem__)
    kept = []
    for number, text in enumerate(texts):
        sets = [(jaccard(shingles(words(text)), shingles(words(texts[k]))), -k) for k in kept]
        best = max(sets, default=(0.0, 0))
        twin = search.add(number, text)
        if best[0] >= 0.7:
            assert twin[1] == best[0]
        else:
            assert twin is None
            kept.append(number)
    assert 12 <= len(kept) < 60


def test_copies_of_a_dropped_copy_lead_to_the_first():
    rng = np.random.default_rng(3)
    first = prose(rng)
    near = edited(first, rng, 0.02)
    found = run([first, near, near.upper(), first])
    assert [group["kept"] for group in found.groups] == ["c.txt:1"]
    assert [copy["id"] for copy in found.groups[0]["copies"]] == ["c.txt:2", "c.txt:3", "c.txt:4"]


def test_equal_words_alone_count_at_similarity_one():
    rng = np.random.default_rng(4)
    first = prose(rng)
    found = run([first, edited(first, rng, 0.01), first.upper() + "!"], similarity=1.0, line_similarity=1.0)
    assert found.dropped == {"documents": ["c.txt:3"]}


# shared lines


def test_lines_of_many_documents_stay_in_the_first():
    rng = np.random.default_rng(5)
    footer = "Subscribe to our weekly letter to get news about all rivers and gardens of the valley every Monday morning"
    code = "```\nfor each of the many items in the list do this and that\n```"
    texts = [f"{prose(rng)}\n{footer}\n{code}\n{sentence(rng)}" for _ in range(4)]
    texts[2] = texts[2].replace("Subscribe", "Please subscribe")  # nearly the same line
    found = run(texts, min_characters=20)
    assert found.sizes["documents kept"] == 4
    (line,) = found.lines
    assert (line["line"], line["kept in"], line["documents"], line["lines dropped"]) == (
        footer,
        "c.txt:1",
        4,
        3,
    )
    assert found.sizes["characters kept"] == sum(map(len, texts)) - 3 * len(footer) - len("Please ") - 3
    assert run(texts[:2], min_characters=20).lines == []  # two documents are not many


def test_a_document_of_shared_lines_alone_is_dropped():
    rng = np.random.default_rng(6)
    lines = [sentence(rng) for _ in range(3)]
    page = "\n".join(lines)
    texts = [f"{page}\n{prose(rng)}" for _ in range(3)] + [page]
    found = run(texts)
    assert found.dropped == {"lines": ["c.txt:4"]}


def test_protected_lines():
    assert protected_lines("a\n```\nb\n```\nc\n$x$ d\ne") == {1, 2, 3, 5}


# judge


def test_bits_per_byte_counts_bytes_not_tokens():
    assert bits_per_byte(np.log(np.full(2, 0.25)), "éé") == pytest.approx(1.0)
    assert bits_per_byte(np.log(np.full(4, 0.5)), "éé") == pytest.approx(1.0)
    assert math.isnan(bits_per_byte(np.zeros(0), ""))


def test_limits_follow_the_median_and_the_spread():
    bits = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 100.0, np.nan, -50.0])
    chosen = choose(bits, CleaningConfig(spread=4, max_share=1.0))
    assert chosen.high == pytest.approx(3 + 4 * 1.4826 * 2)
    assert chosen.dropped == (5,)
    both = choose(bits, CleaningConfig(spread=4, low_spread=4, max_share=1.0))
    assert both.dropped == (5, 7)
    capped = choose(bits, CleaningConfig(spread=4, low_spread=4, max_share=0.13))
    assert (capped.dropped, capped.capped) == ((5,), 1)
    assert choose(np.full(5, 2.0), CleaningConfig()).high == math.inf
    assert choose(np.full(3, np.nan), CleaningConfig()).dropped == ()


class Bigrams:
    """A judge: byte bigrams, add one, counted on the file that it is given."""

    def __init__(self):
        self.seen = []

    def __call__(self, path, round_):
        texts = [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]
        self.seen.append((round_, len(texts)))
        pairs, firsts = Counter(), Counter()
        for text in texts:
            data = text.encode()
            pairs.update(pairwise(data))
            firsts.update(data[:-1])

        def score(texts):
            for text in texts:
                data = text.encode()
                probabilities = [(pairs[p] + 1) / (firsts[p[0]] + 256) for p in pairwise(data)]
                yield np.log([1 / 256, *probabilities])

        return lambda texts: list(score(texts))


def noisy(rng):
    return "".join(map(chr, rng.integers(97, 123, 300))) + "."


def test_the_judge_finds_noise_that_rules_do_not():
    rng = np.random.default_rng(7)
    texts = [prose(rng) for _ in range(150)]
    places = rng.choice(150, 12, replace=False)
    for place in places:
        texts[place] = noisy(rng)
    assert run(texts).dropped == {}
    judge = Bigrams()
    found = run(texts, judge, rounds=2)
    planted, dropped = {f"c.txt:{k + 1}" for k in places}, set(found.dropped["judge"])
    assert len(planted & dropped) == 12
    assert len(dropped - planted) <= 3
    assert judge.seen == [(1, 150), (2, 150 - found.rounds[0]["dropped"])]
    assert {s["which"] for s in found.rounds[0]["samples"]} >= {"dropped, farthest", "kept, at random"}
    assert sum(found.rounds[0]["distribution"]["documents"]) == 150


def test_documents_too_short_to_judge_stay():
    rng = np.random.default_rng(8)
    texts = [prose(rng) for _ in range(40)] + ["qxzjvwkqpzxj" * 6]
    short = {"rounds": 1, "min_packed": 0.0}
    assert "c.txt:41" not in run(texts, Bigrams(), **short).dropped.get("judge", ())
    assert "c.txt:41" in run(texts, Bigrams(), **short, min_bytes=10).dropped["judge"]


# the whole


def test_kept_and_dropped_make_up_the_corpus(tmp_path):
    rng = np.random.default_rng(9)
    texts = [prose(rng) for _ in range(30)]
    texts += [texts[3], "short", "\ufffd" * 60, noisy(rng)]
    config = CleaningConfig(seed=5)
    found = clean(corpus(texts), tmp_path / "out", config, Bigrams())
    kept, dropped = (
        [json.loads(line) for line in (tmp_path / "out" / name).read_text(encoding="utf-8").splitlines()]
        for name in ("corpus.jsonl", "dropped.jsonl")
    )
    assert sorted(r["id"] for r in kept + dropped) == sorted(f"c.txt:{k + 1}" for k in range(len(texts)))
    assert [r["text"] for r in kept] == [t for t in texts if t in {r["text"] for r in kept}][: len(kept)]
    assert {r["id"]: r["step"] for r in dropped}.items() >= {
        "c.txt:31": "documents", "c.txt:32": "too_short", "c.txt:33": "garbled", "c.txt:34": "judge"
    }.items()  # fmt: skip
    assert all(r["reason"] and r["text"] for r in dropped)
    assert {n for names in found.dropped.values() for n in names} == {r["id"] for r in dropped}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["corpus.jsonl", "dropped.jsonl"]
    again = clean(corpus(texts), tmp_path / "again", config, Bigrams())
    for name in ("corpus.jsonl", "dropped.jsonl"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    assert {**again.to_json(), "seconds": 0} == {**found.to_json(), "seconds": 0}


def test_a_clean_corpus_stays_as_it_is(tmp_path):
    rng = np.random.default_rng(10)
    texts = [f"{prose(rng)}\n\n{prose(rng)}" for _ in range(10)]
    clean(corpus(texts), tmp_path, CleaningConfig(rounds=0))
    assert [d.text for d in documents(tmp_path / "corpus.jsonl")] == texts


def test_a_failure_leaves_the_earlier_result(tmp_path):
    (tmp_path / "corpus.jsonl").write_text("earlier")

    def failing(path, round_):
        raise RuntimeError("no judge today")

    with pytest.raises(RuntimeError):
        clean(corpus(["word " * 30]), tmp_path, CleaningConfig(), failing)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("corpus.jsonl", "earlier")]


def test_reasons_and_examples():
    rng = np.random.default_rng(11)
    found = run([f"<p>{prose(rng)}</p>" for _ in range(5)] + ["x"])
    reasons = {record["rule"]: record for record in found.reasons()}
    assert (reasons["html"]["documents mended"], reasons["html"]["places"]) == (5, 10)
    assert reasons["too_short"]["documents dropped"] == 1
    assert set(RULES) < set(reasons)
    assert len(found.examples["html"]) == 3
    for example in found.examples["html"]:
        assert example["before"].startswith("<p>")
        assert not example["after"].lstrip().startswith("<")
    assert {finding.check for finding in found.findings()} == {"corpus", "rules", "documents", "lines"}


def test_little_left_is_a_warning():
    overall = run(["x", "y", "z"]).findings()[0]
    assert (overall.verdict, overall.value) == ("warn", 0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"similarity": 0.1}, "similarity is out of range"), ({"skip": ("htm",)}, "Did you mean 'html'?")],
)
def test_wrong_options(options, message):
    with pytest.raises(ConfigError) as error:
        run(["text"], **options)
    assert message in str(error.value)


def test_a_spool_reads_what_it_wrote(tmp_path):
    with_half = Entry("a", "x\ud800é\n", "f")
    spool = Spool(tmp_path / "s.jsonl")
    for entry in (with_half, Entry("b", "two")):
        spool.write(entry)
    assert spool[1] == Entry("b", "two")
    assert [e.text for e in spool] == ["x?é\n", "two"]
    rest = spool.without([0], tmp_path / "t.jsonl")
    assert (len(rest), rest[0].id) == (1, "b")
    rest.close()
