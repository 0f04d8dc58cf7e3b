"""Answers of scorpion without a model, and its client's errors for answers that are none."""

from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from protos import scorpion_pb2 as pb
from protos.scorpion_pb2_grpc import ScorpionServicer, add_ScorpionServicer_to_server
from scorpion.client import NoModel, ScorpionClient
from scorpion.models import Models
from scorpion.pin_features import PinFeatureLoader
from scorpion.service import Scorpion
from services.core.columns import ids
from services.core.errors import MeshError
from services.core.metrics import Metrics
from services.rpc.admission import AdmissionLimiter
from services.rpc.dispatch import Arrived, Dispatcher, finished
from services.rpc.server import Adding
from tests.kit import asked, serve_services
from tests.scorpion.held import HeldOrigin, followed


@pytest.mark.parametrize("short", ["scores", "features", "first_interests", "taken_down", "creators"])
def test_an_answer_of_another_length_is_an_error_of_the_mesh(short: str) -> None:
    """Whatever process answers so, its caller can act on it: a feed goes on without the stage."""

    class Short(ScorpionServicer):
        def Score(self, request: pb.ScoreRequest, context: Any) -> pb.ScoreReply:
            reply = pb.ScoreReply(model="m@1", scores=bytes(24), first_interests=bytes(24), taken_down=bytes(3))
            reply.feature_names.append("origin")
            reply.features, reply.creators = bytes(12), bytes(12)
            setattr(reply, short, getattr(reply, short)[:-8] if short == "scores" else b"\1\0\0\0\0\0\0\0")
            return reply

        def Models(self, request: pb.ModelsRequest, context: Any) -> pb.ModelsReply:
            return pb.ModelsReply()

        def Refresh(self, request: pb.RefreshRequest, context: Any) -> pb.ModelsReply:
            return pb.ModelsReply()

    add = partial(add_ScorpionServicer_to_server, Short())
    with serve_services({"scorpion": [[add]]}, 4) as mesh, pytest.raises(MeshError, match=f"{short}"):
        asked(
            ScorpionClient, mesh,
            lambda c: c.score("", {}, ids([]), np.empty(0, np.float32), {}, ids([1, 2, 3]), timeout=10),
        )  # fmt: skip


def test_asking_without_a_model_is_no_error_in_its_figures(tmp_path: Path) -> None:
    metrics = Metrics("scorpion", 0)
    models = Models(tmp_path, lambda: {}, lambda columns: None)
    service, dispatcher = (
        Scorpion(models, PinFeatureLoader(HeldOrigin(), followed(), 1 << 20, 0)),
        Dispatcher(metrics, AdmissionLimiter()),
    )
    add_ScorpionServicer_to_server(service, cast(Any, Adding(dispatcher.methods)))
    call = ("/feedmesh.Scorpion/Score", pb.ScoreRequest().SerializeToString())
    [answer] = finished(dispatcher.dispatch([call], Arrived(None, b"", 0)))
    assert "no model is promoted; feedmesh model train" in pb.ScoreReply.FromString(answer.reply).no_model
    assert (metrics.windows()["Score"].calls, metrics.windows()["Score"].errors) == (1, 0)


def test_without_a_model_the_client_says_so(tmp_path: Path) -> None:
    service = Scorpion(
        Models(tmp_path, lambda: {}, lambda columns: None), PinFeatureLoader(HeldOrigin(), followed(), 1 << 20, 0)
    )
    add = partial(add_ScorpionServicer_to_server, service)
    with (
        serve_services({"scorpion": [[add], [add]]}, 4) as mesh,
        pytest.raises(NoModel, match="no model is promoted; "),
    ):
        asked(
            ScorpionClient, mesh,
            lambda c: c.score("", {}, ids([]), np.empty(0, np.float32), {}, ids([1, 2, 3, 4]), timeout=10),
        )  # fmt: skip
