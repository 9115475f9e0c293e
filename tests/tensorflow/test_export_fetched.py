"""An exported and packed module in the daemon's hands.

That tensorflow_hub takes what is exported is among the cases of `test_same_as_tensorflow_hub`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import hubclient
from tests.support.daemon import Daemon
from tests.support.origin import Answer, Origin

pytestmark = pytest.mark.tensorflow
tf: Any = pytest.importorskip("tensorflow")
keras: Any = pytest.importorskip("keras")

X = tf.constant([[1.0, 2.0], [3.0, -4.0]])


def test_the_daemon_fetches_it_and_the_client_loads_it(
    origin: Origin, daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = keras.Sequential([keras.Input((2,), name="x"), keras.layers.Dense(2), keras.layers.BatchNormalization()])
    packed = hubclient.pack(hubclient.export(model, tmp_path / "model"), tmp_path / "model.tar.gz")
    handle = origin.serve("/m/1", Answer(Path(packed.path).read_bytes()))
    monkeypatch.setenv("HUBD_SOCKET", str(daemon.socket))
    loaded = hubclient.load(handle)
    assert loaded(X).numpy() == pytest.approx(model(X, training=False).numpy())
    assert sorted(loaded.signatures) == ["default", "serving_default"]
    assert len(origin.asked("/m/1")) == 1
