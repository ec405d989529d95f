"""Run checks on a model and collect their findings."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter

from salience.audit.context import AuditContext
from salience.core import registry
from salience.core.errors import SalienceError, UnsupportedError
from salience.core.finding import Cost, Finding
from salience.core.progress import Stage
from salience.core.registry import Card


def audit(context: AuditContext, checks: Sequence[str] | None = None, quick: bool = False) -> list[Finding]:
    """Ask every check its question.

    Args:
        context: the model and its rows.
        checks: keys of the checks to run, in the order given; all of them, in the order of their cards, if None.
        quick: look at fewer rows and resamples.

    Returns:
        Findings. A check that refuses gives one with the verdict ``"not measured"`` and the reason. The cost of a
        check with several findings is on its first.

    Raises:
        ConfigError: a check of that name does not exist.
    """
    context = replace(context, quick=True) if quick and not context.quick else context
    chosen = _chosen(checks)
    findings: list[Finding] = []
    with Stage("audit", len(chosen)) as stage:
        for card in chosen:
            findings += run_check(card, registry.load("check", card.key), context)
            context.findings = tuple(findings)
            stage.step(card.key)
    return findings


def _chosen(checks: Sequence[str] | None) -> list[Card]:
    if checks is None:
        return sorted(registry.cards("check"), key=lambda card: (card.get("order", 1000), card.key))
    return [registry.card("check", key) for key in checks]


def run_check(
    card: Card, run: Callable[[AuditContext], list[Finding]], context: AuditContext
) -> list[Finding]:
    """Run one check, note its cost, and turn a refusal into a finding. Other errors are not hidden.

    A check that does not name the context's task on its card is not run: its finding says that it does not apply.
    """
    start, before = perf_counter(), context.forwards
    try:
        _check_task(card, context.task)
        findings = run(context)
    except SalienceError as refusal:
        findings = [refused(card, refusal)]
    cost = Cost(perf_counter() - start, context.forwards - before)
    return [replace(findings[0], cost=cost), *findings[1:]] if findings else []


def _check_task(card: Card, task: str) -> None:
    tasks = card.get("tasks") or [task]
    if task not in tasks:
        raise UnsupportedError(
            f"The check does not apply to {task}",
            f"It is defined for {' and '.join(tasks)}.",
            "Train a model of one target to ask it." if task.startswith("multi-") else "",
        )


def refused(card: Card, refusal: SalienceError) -> Finding:
    """Return the finding that says why a check was not made."""
    return Finding(
        check=card.key,
        question=card.get("question", card.get("title")),
        answer=f"Not measured: {refusal.what.rstrip('.')}. {refusal.received}".strip(),
        verdict="not measured",
        advice=refusal.fix,
    )
