"""Examples of requests and answers for /openapi.json; a test reads each with the struct it is an example of."""

from typing import Any

PIN: dict[str, Any] = {
    "pin": "7301",
    "title": "Slow-roasted tomatoes",
    "link": "https://example.org/tomatoes",
    "interests": [{"id": "12", "name": "cooking"}],
    "quality": 0.82,
    "created_ms": 1760000000000,
    "taken_down": False,
}
FEED: dict[str, Any] = {
    "items": [
        {
            "pin": "7301",
            "title": "Slow-roasted tomatoes",
            "link": "https://example.org/tomatoes",
            "board": {"id": "410", "title": "Summer kitchen"},
            "owner": {"id": "77", "name": "Ines Duarte"},
            "source": "followed_boards",
            "reason": "from Summer kitchen, a board you follow",
            "score": 0.731,
            "at_ms": 1760000300000,
            "interests": ["cooking"],
        }
    ],
    "cursor": "eyJ2IjoxfQ",
    "degraded": [],
    "model": "light",
    "request_id": "9f1c2ab47de0",
    "took_ms": 18.4,
}
EVENTS: dict[str, Any] = {
    "events": [
        {"user": "42", "action": "save", "pin": "7301", "board": "512", "surface": "following", "id": "90210"},
        {"user": "42", "action": "follow_interest", "target": "12", "id": "90211"},
    ]
}
ACCEPTED: dict[str, Any] = {"accepted": 2, "duplicates": 0, "token": "AAcADQAAAAAAAAA"}
WRITTEN: dict[str, Any] = {"token": "AQMAGQAAAAAAAAA"}
USERS: dict[str, Any] = {
    "users": [{"user": "42", "name": "Ola Nordmann", "followers": 3}],
    "next": "42",
    "degraded": [],
}
USER: dict[str, Any] = {
    "user": "42",
    "name": "Ola Nordmann",
    "followers": 3,
    "follows": {
        "users": [{"id": "77", "name": "Ines Duarte"}],
        "boards": [{"id": "410", "title": "Summer kitchen"}],
        "interests": [{"id": "12", "name": "cooking"}],
    },
    "boards": [{"id": "512", "title": "To try"}],
    "counts": {"users": 1, "followed_boards": 1, "interests": 1, "boards": 1},
    "degraded": [],
}
MODELS: dict[str, Any] = {
    "models": [
        {
            "name": "ranker",
            "version": 2,
            "fingerprint": "aaaaaaaaaaaaaaaa",
            "promoted": True,
            "loaded": True,
            "problem": "",
            "trees": 200,
            "leaves": 31,
            "features": ["origin", "light_below_best", "pin_save_rate_7d", "affinity_sum"],
            "trained_ms": 1760000900000,
            "load_ms": 41.7,
            "metrics": {"auc": 0.742, "ndcg@10": 0.481},
            "report": "/models/ranker/2/report",
            "evaluation": {
                "metric": "ndcg@10",
                "requests": 334,
                "users": 308,
                "methods": {
                    "model": {"ndcg@10": {"value": 0.214, "low": 0.19, "high": 0.2394, "requests": 334}},
                    "item-knn": {"ndcg@10": {"value": 0.1218, "low": 0.1017, "high": 0.1424, "requests": 334}},
                },
                "best_baseline": "item-knn",
                "difference": {"value": 0.0922, "low": 0.0664, "high": 0.1188, "requests": 334},
                "verdict": "better",
                "needed_requests": 54,
                "words": "the model is better than the best baseline, item-knn: NDCG@10 0.2140 against 0.1218",
                "from_ms": 1759200000000,
                "serving": {
                    "model": "ranker@1",
                    "difference": {"value": 0.0214, "low": 0.0052, "high": 0.0377, "requests": 334},
                    "users": 308,
                    "verdict": "better",
                    "needed_requests": 310,
                    "note": "",
                },
            },
        }
    ],
    "rollback": "ranker@1",
    "learning": {
        "state": "served",
        "stage": "",
        "fraction": 0.0,
        "since_ms": 1760000800000,
        "ended_ms": 1760000900000,
        "message": "the model is better than the best baseline, item-knn: NDCG@10 0.2140 against 0.1218",
        "model": "ranker@2",
    },
}
PROMOTION: dict[str, Any] = {"model": "ranker@2"}
HEALTH: dict[str, Any] = {
    "ready": True,
    "processes": [
        {
            "service": "apiary",
            "shard": 0,
            "replica": 0,
            "zone": "local",
            "address": "127.0.0.1:40123",
            "ready": True,
            "why": "",
            "pid": 4711,
            "uptime_s": 86.2,
            "rss_bytes": 104857600,
            "peak_rss_bytes": 115343360,
            "behind": 0,
            "behind_records": 0,
            "behind_s": 0.0,
            "qps": 12.5,
            "p50_ms": 0.4,
            "p99_ms": 1.9,
            "errors": 0,
            "calls": 1042,
            "methods": [
                {"method": "FollowedBoards", "qps": 12.5, "p50_ms": 0.4, "p99_ms": 1.9, "errors": 0, "calls": 1042}
            ],
            "gauges": {"applied_offset": 5120.0},
            "restarts": 1,
            "exits": [{"at_ms": 1760000700000, "why": "was killed by SIGKILL", "log": ""}],
            "effect": "",
        }
    ],
    "freshness": [{"view": "apiary", "last_ms": 9.1, "p50_ms": 8.7, "p99_ms": 21.3, "samples": 17, "lost": 0}],
    "loading": "",
}
