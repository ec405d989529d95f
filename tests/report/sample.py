"""Realistic reports for the tests: a clothing-reviews run with all verdicts, and the awkward ones."""

import re
from dataclasses import replace

import numpy as np

from salience.core.finding import Control, Cost, Finding
from salience.core.unit import Unit
from salience.explain.explanation import Explanation, Faithfulness
from salience.report.report import Report

KINDS = {"Title": "text", "Review Text": "text", "Age": "number", "Positive Feedback Count": "number", "Class Name": "category"}  # fmt: skip
HOSTILE = '<script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">'
WEIGHTS = {
    "love": 0.9, "perfect": 0.8, "flattering": 0.75, "comfortable": 0.6, "great": 0.5, "soft": 0.4, "compliments": 0.7,
    "beautiful": 0.55, "disappointed": -1.1, "returned": -1.0, "huge": -0.6, "cheap": -0.8, "itchy": -0.75, "returning": -0.95,
    "unflattering": -0.85, "thin": -0.4, "wanted": -0.5, "runs": -0.15, "size": 0.12, "fits": 0.45, "wear": 0.2, "but": -0.2,
}  # fmt: skip
REVIEWS = [
    ("Favourite dress of the summer", "I love this dress! It is soft, comfortable and so flattering. I wear a size 8 and it fits like a glove, though I am usually between sizes. I have had so many compliments from strangers, at work and in the supermarket. The pattern is beautiful in person, much richer than in the photographs, and it washes well.", 34, 12, "Dresses", "Yes"),
    ("Such a disappointment", "I really wanted to like this top but I was disappointed. The fabric is thin and looks cheap, the sleeves are huge, and after one wash a seam came apart. I returned it the next day.", 52, 3, "Blouses", "No"),
    ("", "Itchy, itchy, itchy. Returned.", 41, 0, "Sweaters", "No"),
    (HOSTILE, f"Great fit {HOSTILE} & \"quoted\" 'single' </style></script> I love it", 29, 1, "Jeans", "Yes"),
    ("Runs large 😕", "Runs large, so size down! 👗 The colour is great and it is comfortable, but the cut is unflattering on me; I look as if I were wearing a tent. Keeping it for the beach 🏖️.", 38, 7, "Dresses", "No"),
    ("مريح جدا", "هذا الفستان جميل ومريح جدا. love it، المقاس مناسب واللون رائع.", 45, 2, "Dresses", "Yes"),
    ("Nice but not for me", "The top is great on the model. On me it is a little short and the neckline sits oddly. The quality is fine, and I would have kept it if it came in petite sizes. I am 5'1\" and 110 lbs.", 61, 5, "Knits", "No"),
    ("Perfect jeans", "Perfect! Soft, with a little stretch; the length is just right with a low heel. I bought a second pair in black.", 27, 4, "Jeans", "Yes"),
    ("Okay", "It is okay.", 33, 0, "Lounge", "Yes"),
    ("So-so", "Beautiful colour, but the material pills after two days and the zip sticks. " * 6, 48, 9, "Skirts", "No"),
    ("Great basic", "A great basic that goes with everything I own. I wear it at least once a week, and it still looks new. Fits true to size.", 56, 2, "Knits", "Yes"),
    ("Returning", "Too big in the shoulders and too tight in the hips. Returning, sadly — the print is beautiful. Averyveryverylongwordwithoutanyspacesthatwouldoverflowanarrowscreenifitwerenotbroken indeed.", 39, 1, "Dresses", "Yes"),
]  # fmt: skip


def faithfulness(k: int) -> Faithfulness:
    own, control = 0.42 - 0.04 * k, 0.08 + 0.01 * k
    difference = own - control + 0.2 - 0.02 * k
    verdict = "supported" if difference > 0.2 else "doubtful" if difference > 0 else "not supported"
    return Faithfulness(
        comprehensiveness=own, sufficiency=0.04, random_comprehensiveness=control, random_sufficiency=0.24 - 0.02 * k,
        difference=difference, interval=(difference - 0.06, difference + 0.06), better_orders=min(1.0, 0.05 * k), orders=20,
        verdict=verdict, scale="probability", log_odds=None, convention="mean over 1, 5, 10, 20 and 50 % of the units",
        forwards=210, seconds=0.2,
    )  # fmt: skip


def word_units(column: str, text: str) -> list[Unit]:
    return [Unit(column, "text", m.group(), m.span()) for m in re.finditer(r"\w+|[^\w\s]", text)]


def explanation(k: int) -> Explanation:
    title, review, age, feedback, category, truth = REVIEWS[k]
    units = word_units("Title", title) + word_units("Review Text", review)
    values = [WEIGHTS.get(u.label.lower(), 0.02 * (-1) ** len(u.label)) for u in units]
    units += [
        Unit("Age", "number", f"Age = {age}"),
        Unit("Positive Feedback Count", "number", f"Positive Feedback Count = {feedback}"),
        Unit("Class Name", "category", f"Class Name = {category}"),
    ]
    values += [0.002 * (age - 40), -0.05 * feedback, 0.11 if category in ("Jeans", "Lounge") else -0.04]
    logit = 1.4 + sum(values)
    probability = float(1 / (1 + np.exp(-abs(logit))))
    inputs = {
        "Title": title,
        "Review Text": review,
        "Age": float(age),
        "Positive Feedback Count": float(feedback),
        "Class Name": category,
    }
    return Explanation(
        units=tuple(units), values=tuple(values), inputs=inputs, kinds=KINDS, row=1000 + 37 * k,
        method="integrated_gradients", target="Yes", quantity="log-odds", prediction="Yes" if logit > 0 else "No",
        probability=probability, output=logit, baseline_output=1.4,
        baseline="empty text, median numbers, unseen categories", completeness_gap=0.004,
        truth=truth, faithfulness=None if k == 8 else faithfulness(k), forwards=65, seconds=0.12,
    )  # fmt: skip


def findings() -> list[Finding]:
    bins = np.linspace(0.05, 0.95, 10)
    reliability = [
        {"confidence": b, "observed": float(b**1.15), "low": max(0.0, b**1.15 - 0.05), "high": min(1.0, b**1.15 + 0.05), "rows": int(40 + 900 * b**6)}
        for b in bins
    ]  # fmt: skip
    confusion = [
        {"true": t, "predicted": p, "rows": n} for t, p, n in (("No", "No", 610), ("No", "Yes", 214), ("Yes", "No", 163), ("Yes", "Yes", 3710))
    ]  # fmt: skip
    slices = [
        {"slice": f"Class Name = {name}", "difference": d, "low": d - w, "high": d + w, "rows": n, "adjusted p": p}
        for name, d, w, n, p in (
            ("Trend", 0.091, 0.06, 24, 0.03), ("Intimates", 0.05, 0.06, 31, 1.0), ("Sweaters", 0.021, 0.012, 287, 0.02),
            ("Dresses", 0.006, 0.008, 1264, 1.0), ("Knits", -0.004, 0.009, 968, 1.0), ("Jeans", -0.018, 0.013, 229, 0.4),
        )
    ]  # fmt: skip
    drops = [
        {"perturbation": name, "value": v, "low": v - 0.004, "high": v + 0.004, "control": 0.957}
        for name, v in (
            ("5 % of letters swapped", 0.941),
            ("10 % of words dropped", 0.946),
            ("numbers shifted by 10 %", 0.956),
        )
    ]
    columns = [{"column": c, "value": v, "low": v - 0.01, "high": v + 0.01, "control": 0.5} for c, v in (("Rating", 0.970), ("Title", 0.861), ("Age", 0.532))]  # fmt: skip
    return [
        Finding("performance", "Does it tell the classes apart?", "AUROC is 0.957 on the test rows (95 % interval 0.951 to 0.963). The strongest baseline, logistic regression, reaches 0.948; the model is 0.009 better on the same rows (paired 95 % interval 0.005 to 0.012).", "pass", 0.957, "AUROC", (0.951, 0.963), Control("majority", 0.5), "test", 4697, tables={"confusion": confusion}, cost=Cost(1.2, 4697)),
        Finding("calibration", "Do its probabilities mean what they say?", "Expected calibration error 0.018 after temperature scaling, 0.041 before.", "pass", 0.018, "ECE", (0.013, 0.025), Control("before temperature", 0.041), "test", 4697, tables={"reliability": reliability}, cost=Cost(0.4)),
        Finding("leakage", "Does one column give the target away?", "Rating alone scores AUROC 0.970, more than the whole model without it.", "fail", 0.970, "AUROC", (0.965, 0.975), Control("shuffled target", 0.501, (0.48, 0.52)), "test", 4697, "Ask whether Rating is known when the model is used. If not, train again with --drop Rating.", {"columns": columns}, Cost(3.1)),
        Finding("duplicates", "Do rows repeat across splits?", "21 test rows (0.4 %) have the same text as a training row.", "warn", 21, "rows", None, None, "test", 4697, "Drop duplicates before splitting.", {"pairs": [{"test row": 12, "train row": 871, "text": HOSTILE}, {"test row": 44, "train row": 2, "text": "Love it!"}]}, Cost(0.3)),
        Finding("slices", "Which rows does it serve worse?", "Class Name = Trend: error rate 9.1 points above the rest (95 % interval 3.1 to 15.1, 24 rows).", "warn", 0.091, "error rate", (0.031, 0.151), None, "test", 4697, "Collect more rows of this class, or report it apart.", {"slices": slices}, Cost(2.2)),
        Finding("perturbation", "Does it survive typing errors?", "AUROC falls by 0.016 when 5 % of letters are swapped.", "pass", -0.016, "AUROC", (-0.021, -0.012), Control("unchanged rows", 0.957), "test", 1000, tables={"perturbations": drops}, cost=Cost(21.0, 3000)),
        Finding("faithfulness", "Are the explanations true?", "Over 200 test rows, removing the parts ranked highest lowers the log-odds by 1.62 more than removing random parts (95 % interval 1.44 to 1.81); 91 % of the explanations beat random.", "pass", 1.62, "log-odds", (1.44, 1.81), Control("random order", 0.0), "test", 200, cost=Cost(33.0, 12000)),
        Finding("cost", "What does it cost?", "318,402 parameters, 74 s of training, 0.9 ms a row to predict.", "info", 74.0, "s", rows=16440, split="train", cost=Cost(74.0)),
        Finding("coherence", "Did it learn rather than memorise?", "Not measured: the quick preset leaves it out.", "not measured"),
    ]  # fmt: skip


def metrics() -> dict:
    def scores(*values, width=0.006):
        names = ("auroc", "accuracy", "macro_f1", "log_loss")
        return {
            n: {"value": v, "interval": [v - width, v + width]} for n, v in zip(names, values, strict=True)
        }

    return {
        "task": "classification",
        "test": scores(0.957, 0.914, 0.851, 0.201)
        | {
            "baselines": {
                "majority": scores(0.5, 0.822, 0.451, 0.468),
                "logistic regression": scores(0.948, 0.899, 0.824, 0.231),
                "gradient boosting": scores(0.921, 0.874, 0.760, 0.289),
            }
        },
        "validation": scores(0.961, 0.917, 0.858, 0.195),
    }


def run() -> dict:
    schema = [
        {"name": "Title", "kind": "text", "role": "input", "reason": "free text, 13,993 distinct values", "missing": 3810, "distinct": 13993, "examples": ["Some major design flaws", "Love this dress"]},
        {"name": "Review Text", "kind": "text", "role": "input", "reason": "free text, 60 words on average", "missing": 845, "distinct": 22634, "examples": ["Absolutely wonderful", HOSTILE]},
        {"name": "Age", "kind": "number", "role": "input", "reason": "whole numbers", "missing": 0, "distinct": 77, "examples": [33, 34]},
        {"name": "Positive Feedback Count", "kind": "number", "role": "input", "reason": "whole numbers", "missing": 0, "distinct": 82, "examples": [0, 4]},
        {"name": "Class Name", "kind": "category", "role": "input", "reason": "20 distinct values", "missing": 14, "distinct": 20, "examples": ["Dresses", "Knits"]},
        {"name": "Rating", "kind": "number", "role": "ignored", "reason": "dropped by the user", "missing": 0, "distinct": 5, "examples": [4, 5]},
        {"name": "Recommended IND", "kind": "category", "role": "target", "reason": "chosen by the user", "missing": 0, "distinct": 2, "examples": ["Yes", "No"]},
    ]  # fmt: skip
    return {
        "dataset": "clothing-reviews", "rows": {"train": 16440, "validation": 2349, "test": 4697}, "target": "Recommended IND",
        "task": "classification", "classes": ["No", "Yes"], "model": "DiSAN + piecewise linear embedding, attention pooling",
        "parameters": 318402, "seed": 0, "seconds": {"read": 0.8, "train": 74.2, "evaluate": 3.1, "explain": 33.4, "audit": 41.9},
        "versions": {"salience": "0.1.0", "torch": "2.13.0", "python": "3.11.7"},
        "hashes": {"data": "5d7c06e0" * 8, "model.safetensors": "b3dd4f34" * 8},
        "command": "salience run clothing-reviews --target 'Recommended IND' --drop Rating --seed 0", "schema": schema,
    }  # fmt: skip


def importance() -> dict:
    columns = [
        ("Review Text", 0.71),
        ("Title", 0.19),
        ("Class Name", 0.045),
        ("Age", 0.03),
        ("Positive Feedback Count", 0.025),
    ]
    return {
        "columns": [{"column": c, "share": s, "interval": [s * 0.95, s * 1.05]} for c, s in columns],
        "words": [{"word": w, "column": "Review Text", "mean": v, "count": 20 + 13 * k} for k, (w, v) in enumerate(WEIGHTS.items())]
    }  # fmt: skip


def clothing() -> Report:
    explanations = [explanation(k) for k in range(len(REVIEWS))]
    return Report("Would they recommend it?", run(), metrics(), findings(), explanations, importance())


def minimal() -> Report:
    return Report("Nothing was measured")


def regression() -> Report:
    """A regression with a NaN baseline, a missing interval and four explained rows without text."""
    scores = {
        "rmse": {"value": 48321.5, "interval": [47000.0, 49800.0]},
        "r2": {"value": 0.81, "interval": [0.8, 0.82]},
    }
    baselines = {
        "mean": {"rmse": {"value": 115300.0, "interval": [114000.0, 117000.0]}, "r2": {"value": float("nan"), "interval": [float("nan"), float("nan")]}},
        "gradient boosting": {"rmse": {"value": 47010.0, "interval": None}, "r2": {"value": 0.82, "interval": None}},
    }  # fmt: skip
    explanations = [
        Explanation(
            units=(Unit("MedInc", "number", f"MedInc = {k}"), Unit("Ocean", "category", "Ocean = near")), values=(20000.0 * k, float("nan")),
            inputs={"MedInc": float(k), "Ocean": "near"}, kinds={"MedInc": "number", "Ocean": "category"}, row=f"block-{k}",
            method="occlusion", target="price", quantity="value", prediction=200000.0 + 20000 * k, probability=None, output=200000.0 + 20000 * k,
            baseline_output=200000.0, baseline="medians", truth=(200500.0, 500000.0, 240001.0, None)[k],
        )
        for k in range(4)
    ]  # fmt: skip
    info = {
        "task": "regression",
        "target": "price",
        "dataset": "california",
        "rows": {"train": 100, "test": 20},
        "classes": None,
    }
    odd = Finding("slices", "Any gaps?", "No.", "pass", float("nan"), "RMSE", (float("nan"), 1.0), tables={"slices": [], "odd": [{"a": float("inf"), "b": None}]})  # fmt: skip
    return Report(
        "House prices",
        info,
        {"task": "regression", "test": scores | {"baselines": baselines}},
        [odd],
        explanations,
    )


def many_classes() -> Report:
    """Thirty classes with a whole confusion matrix, and a list of some pairs that must stay a table."""
    names = [f"class {k:02d} with a rather long name" for k in range(30)]
    matrix = [
        {"true": a, "predicted": b, "rows": 90 if a == b else (i * j) % 3}
        for i, a in enumerate(names)
        for j, b in enumerate(names)
    ]
    some = [{"true": names[0], "predicted": names[k], "rows": k} for k in range(1, 6)]
    found = Finding("performance", "How good is it?", "Fair.", "info", 0.8, "accuracy", tables={"confusion": matrix, "most frequent confusions": some})  # fmt: skip
    return Report(
        "Thirty classes", {"task": "classification", "target": "topic", "classes": names}, {}, [found]
    )


def images(picture: object) -> Report:
    """One explained image with four regions, and one whose file is missing."""
    corners = {
        "upper left": (0, 0, 0.5, 0.5),
        "upper right": (0.5, 0, 1, 0.5),
        "lower left": (0, 0.5, 0.5, 1),
        "lower right": (0.5, 0.5, 1, 1),
    }
    units = tuple(Unit("photo", "image", label, box) for label, box in corners.items())

    def explained(row: str, value: object) -> Explanation:
        return Explanation(
            units=units, values=(0.9, -0.4, 0.02, 0.3), inputs={"photo": value}, kinds={"photo": "image"}, row=row, method="occlusion",
            target="cat", quantity="log-odds", prediction="cat", probability=0.61, output=0.4, baseline_output=0.0, baseline="mean colour",
        )  # fmt: skip

    return Report("Cats", {"task": "classification", "target": "animal", "classes": ["cat", "dog"]}, {}, [], [explained("a", picture), explained("b", "/nowhere/missing.png")])  # fmt: skip


def large() -> Report:
    """More explanations and longer texts than a page may show."""
    base = clothing()
    long = replace(
        explanation(0), inputs={**explanation(0).inputs, "Review Text": REVIEWS[0][1] + " and so on" * 2000}
    )
    return replace(base, explanations=[long] * 80)


def picture():
    """A small photograph-like picture: a gradient with a bright corner."""
    from PIL import Image

    y, x = np.mgrid[0:90, 0:120]
    pixels = np.stack([x * 2, y * 2, 128 + 0 * x], axis=-1).astype(np.uint8)
    pixels[:45, :60] = (230, 200, 80)
    return Image.fromarray(pixels)
