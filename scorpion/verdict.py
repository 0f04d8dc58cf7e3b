"""The result of training a model, in words for people, and whether that is enough for it to serve."""

from scorpion.layout import Comparison, Evaluation, MetricMean, Verdict


def in_words(found: Evaluation) -> str:
    """Which is better, by how much, and on how much that rests: beside the best baseline, and the model that served."""
    said = _beside_baselines(found)
    return f"{said}; {beside_serving(found.serving)}" if found.serving else said


def _beside_baselines(found: Evaluation) -> str:
    if found.difference.value is None:
        return f"there was no request to compare the model with {found.best_baseline} by"
    reached = [found.methods[name][found.metric].value or 0.0 for name in ("model", found.best_baseline)]
    what = {
        Verdict.BETTER: f"the model is better than the best baseline, {found.best_baseline}",
        Verdict.WORSE: f"the model is worse than a baseline, {found.best_baseline}",
        Verdict.UNDECIDED: f"the model can't be distinguished from the best baseline, {found.best_baseline}",
    }[found.verdict]
    said = f"{what}: {found.metric.upper()} {reached[0]:.4f} against {reached[1]:.4f}, "
    return said + _by(found.difference, found.users, found.verdict, found.needed_requests)


def beside_serving(found: Comparison) -> str:
    """How it did beside the model that served when it was trained."""
    note = f" ({found.note})" if found.note else ""
    if found.difference.value is None:
        return f"it could not be compared with {found.model}, which was serving{note}"
    what = {
        Verdict.BETTER: f"it is better than {found.model}, which was serving",
        Verdict.WORSE: f"it is worse than {found.model}, which was serving",
        Verdict.UNDECIDED: f"it can't be distinguished from {found.model}, which was serving",
    }[found.verdict]
    return f"{what}: {_by(found.difference, found.users, found.verdict, found.needed_requests)}{note}"


def _by(difference: MetricMean, users: int, verdict: Verdict, needed: int) -> str:
    between = ""
    if difference.low is not None:
        between = f" (95 % interval {difference.low:+.4f} to {difference.high:+.4f})"
    said = f"a difference of {difference.value:+.4f}{between}, over {difference.requests:,} requests of {users:,} users"
    return f"{said}; {_missing(difference, needed)}" if verdict is Verdict.UNDECIDED else said


def _missing(difference: MetricMean, needed: int) -> str:
    """The data that an undecided comparison lacks."""
    if difference.value == 0 and difference.low == difference.high == 0:
        return "both order every request alike"
    if not needed:
        return "an interval needs requests of at least 10 users"
    if needed <= difference.requests:
        return "about as many requests again, of more users, would decide"
    return f"about {needed:,} requests are needed to detect such a difference"


def against_unasked(found: Evaluation, serving: str) -> str:
    """Why a new model must not serve without a person who decides so; empty: it may.

    serving: name@version of the model that serves now, empty: none does.
    """
    if found.verdict is not Verdict.BETTER:
        return in_words(found)
    if serving and (found.serving is None or found.serving.model != serving):
        return f"{serving} serves now, and was not when this one was trained: the two were not compared"
    if serving and found.serving and found.serving.verdict is not Verdict.BETTER:
        return in_words(found)
    return ""


def against(found: Evaluation, serving: str) -> str:
    """Why a model must not serve even where a person has decided so, unless forced: it reached less."""
    compared = found.serving if found.serving and found.serving.model == serving else None
    less = [(one.verdict, one.difference) for one in (found, compared) if one]
    if any(verdict is Verdict.WORSE or (by.value or 0.0) < 0 for verdict, by in less):
        return in_words(found)
    return ""
