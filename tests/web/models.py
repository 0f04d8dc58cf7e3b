"""Small models in the registry of a data folder, with a report beside each as training leaves one."""

from pathlib import Path

from scorpion import registry
from scorpion.layout import REPORT as REPORT_FILE
from scorpion.registry import Ref
from tests.scorpion.making import written

METRICS = {"auc": 0.71}  # as `written` states them
PICTURE = (  # one pixel
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
)
REPORT = (
    '<!doctype html><html lang="en"><title>Report</title><style>h1 { color: rgb(1, 2, 3); }</style><h1>AUC 0.71</h1>'
    f'<img alt="ROC" src="{PICTURE}"><script>document.title = "run"</script></html>'
)


def train(data: Path, draft: Path, seed: int = 1, report: str = REPORT) -> Ref:
    """Train a model in `draft`, and push it, with its report, into the registry of the data folder."""
    written(draft, seed)
    if report:
        (draft / REPORT_FILE).write_text(report)
    return registry.push(draft, data)
