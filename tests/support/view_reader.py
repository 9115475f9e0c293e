"""``python -m tests.support.view_reader UID CASES``: tensorflow_hub reads every handle of the JSON object CASES.

Runs where hubclient is not installed. CASES names for each handle a directory with the same module. Once it reads as
whoever started it; with a UID it becomes that user, and reads all of it again. Prints one line of JSON: for each of
these users what each handle resolved to and whether it loads as the directory does, and how a miss ended.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import numpy
import tensorflow_hub as hub

from tests.tensorflow.cases.examples import apply, raised_by


def _signatures(handle: str) -> dict[str, dict[str, Any]]:
    loaded = hub.load(handle).signatures
    return {name: apply(loaded[name]) for name in sorted(loaded)}


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    numpy.testing.assert_equal(
        {name: {key: numpy.asarray(value) for key, value in outputs.items()} for name, outputs in one.items()},
        {name: {key: numpy.asarray(value) for key, value in outputs.items()} for name, outputs in other.items()},
    )
    return True


def main(uid: str, cases: str) -> None:
    sources = json.loads(cases)
    expected = {handle: _signatures(source) for handle, source in sources.items()}
    results = []
    for become in [None, *([int(uid)] if uid else [])]:
        if become is not None:
            os.setgroups([])
            os.setresgid(become, become, become)
            os.setresuid(become, become, become)
        results.append(
            {
                "paths": {handle: hub.resolve(handle) for handle in sources},
                "same": {handle: _same(_signatures(handle), expected[handle]) for handle in sources},
                "miss": raised_by(lambda: hub.resolve("http://127.0.0.1:9/absent/1"))["raised"][0],
            }
        )
    print(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
