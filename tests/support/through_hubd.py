"""``python -m tests.support.through_hubd HANDLE ABSENT DIRECTORY``: tensorflow_hub in a program that
calls ``hubclient.tfhub.install()`` and is otherwise its own.

Prints one line of JSON: what tensorflow_hub answered for the handles and the directory, and after ``uninstall()``.
"""

from __future__ import annotations

import json
import sys

import tensorflow as tf
import tensorflow_hub as hub

import hubclient
from tests.tensorflow.cases.examples import raised_by


def main(handle: str, absent: str, directory: str) -> None:
    before = list(hub.registry.resolver._impls)
    hubclient.tfhub.install()
    hubclient.tfhub.install()
    added = [type(known).__module__ for known in hub.registry.resolver._impls if known not in before]
    words = tf.constant(["the quick fox"])
    layer = hub.KerasLayer(handle)
    results = {
        "added": added,
        "path": hub.resolve(handle),
        "load": hub.load(handle)(words).numpy().tolist(),
        "layer": layer(words).numpy().tolist(),
        "as_the_directory": hub.load(directory)(words).numpy().tolist(),
        "directory": hub.resolve(directory),
        "absent": raised_by(lambda: hub.load(absent))["raised"][0],
    }
    hubclient.tfhub.uninstall()
    hubclient.tfhub.uninstall()
    results["restored"] = hub.registry.resolver._impls == before
    results["absent_without"] = raised_by(lambda: hub.load(absent))["raised"][0]
    print(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
