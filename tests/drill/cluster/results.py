"""The results of the drill as a file, with what they were measured on."""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from services.core.durable import replace_durably
from tests.drill.cluster.client import Client
from tests.drill.cluster.faults import LEFT_OUT
from tests.drill.cluster.table import Round, percentiles, share

ROOT = Path(__file__).resolve().parents[3]
SAVED = "bench/results/cluster.json"


def document(
    rounds: Sequence[Round],
    wrong: Sequence[str],
    client: Client,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """All that was measured."""
    pages = client.pages
    p50, p99 = percentiles(pages)
    return {
        "command": "make drill-cluster",
        "settings": {
            name: getattr(arguments, name)
            for name in ("pages", "events", "users", "roadrunners", "seed", "rounds", "resharding")
        },
        "machine": {
            "processors": os.cpu_count(),
            "shared": "others used the same processors; `load` is the load average",
        },
        "all": {
            "pages": len(pages),
            "availability": round(share(pages, [page.good for page in pages]), 5),
            "fell_back": round(share(pages, [page.is_fallback for page in pages]), 5),
            "degraded": round(share(pages, [bool(page.degraded) for page in pages]), 5),
            "p50": round(p50, 1),
            "p99": round(p99, 1),
            "acknowledged_events": len(client.acknowledged),
            "between_bytes_a_page": round(float(np.median([one.between_bytes for one in rounds] or [0.0]))),
        },
        "rounds": [one.document() for one in rounds],
        "recount": list(wrong),
        "left_out": LEFT_OUT,
    }


def save(
    rounds: Sequence[Round],
    wrong: Sequence[str],
    client: Client,
    arguments: argparse.Namespace,
) -> None:
    """Write them."""
    found = document(rounds, wrong, client, arguments)
    replace_durably(ROOT / SAVED, (json.dumps(found, indent=1, ensure_ascii=False) + "\n").encode())
