"""What is measured inside a fresh process; prints one line of JSON. Runs under hubd's Python and under the peer's.

    probe.py resolve LIBRARY HANDLE         one call; waits for a line on stdin when its imports are done
    probe.py hits LIBRARY HANDLE COUNT      the first hit, then repeated ones, then `with lease` where there is one
    probe.py daemon HANDLE COUNT            answers of the daemon, over one kept-alive connection
    probe.py obstore ENDPOINT BUCKET PATH DIRECTORY RANGES   an archive by obstore, unpacked; waits as `resolve` does
    probe.py predict LIBRARY PATH           one prediction, of the module's default signature
    probe.py calls LIBRARY PATH COUNT THREADS   warm calls of it, then as many from one thread and from several

Law: imports of the library are not part of any figure but `predict`'s, for which the whole process counts; whatever
the call itself imports is. Times of `resolve` are
of CLOCK_MONOTONIC, so that those of several processes can be compared.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
import threading
import time
from collections.abc import Callable
from typing import Any


def resolve(library: str, handle: str) -> dict[str, Any]:
    call = importlib.import_module(library).resolve
    print("ready", flush=True)
    sys.stdin.readline()
    before = time.process_time()
    path = call(handle)
    ended = time.monotonic()
    return {"ended": ended, "path": path, "cpu_seconds": time.process_time() - before, "peak_mb": _peak_mb()}


def hits(library: str, handle: str, count: int) -> dict[str, Any]:
    module = importlib.import_module(library)
    call, lease = module.resolve, getattr(module, "lease", None)
    result = {"first_us": samples_us(lambda: call(handle), 1)[0]}
    repeated = samples_us(lambda: call(handle), count)
    result |= {"p50_us": percentile(repeated, 50), "p99_us": percentile(repeated, 99)}
    if lease is not None:

        def hold_and_release() -> None:
            with lease(handle):
                pass

        result["lease_p50_us"] = percentile(samples_us(hold_and_release, count), 50)
    return result


def daemon(handle: str, count: int) -> dict[str, Any]:
    from hubclient.daemon import reach

    with reach() as running:
        running.resolve(handle)
        plain = samples_us(lambda: running.post("/v1/resolve", {"handle": handle}), count)
        streamed = samples_us(lambda: running.resolve(handle), count)
    return {
        "plain_p50_us": percentile(plain, 50),
        "plain_p99_us": percentile(plain, 99),
        "streamed_p50_us": percentile(streamed, 50),
        "streamed_p99_us": percentile(streamed, 99),
    }


def obstore(endpoint: str, bucket: str, path: str, directory: str, ranges: int) -> dict[str, Any]:
    """In one stream into igzip and tar; with `ranges` > 1 by so many at a time into a file, which then is unpacked."""
    import subprocess
    from concurrent.futures import ThreadPoolExecutor
    from os import pwrite

    from obstore import get, get_range, head
    from obstore.store import S3Store

    options: Any = {"allow_http": True, "timeout": "600s"}
    store = S3Store(bucket, endpoint=endpoint, region="us-east-1", skip_signature=True, client_options=options)
    print("ready", flush=True)
    sys.stdin.readline()
    tar = ["tar", "-I", "igzip", "-C", directory, "-xf"]
    if ranges == 1:
        with subprocess.Popen([*tar, "-"], stdin=subprocess.PIPE) as unpacking:
            assert unpacking.stdin is not None
            for chunk in get(store, path).stream():
                unpacking.stdin.write(chunk)
    else:
        size = head(store, path)["size"]
        step = 16 << 20

        def fetch(start: int) -> None:
            pwrite(file.fileno(), get_range(store, path, start=start, end=min(size, start + step)), start)

        with open(f"{directory}/archive", "wb") as file, ThreadPoolExecutor(ranges) as pool:
            list(pool.map(fetch, range(0, size, step)))
        subprocess.run([*tar, f"{directory}/archive"], check=True)
    return {"ended": time.monotonic()}


def predict(library: str, path: str) -> dict[str, Any]:
    apply, inputs = _signature(library, path)
    output = apply(inputs)
    return {"values": _values(output), "peak_mb": _peak_mb()}


def calls(library: str, path: str, count: int, threads: int) -> dict[str, Any]:
    apply, inputs = _signature(library, path)
    output = apply(inputs)
    samples_us(lambda: apply(inputs), max(2, count // 10))
    answer: dict[str, Any] = {"values": _values(output)}
    answer["p50_us"] = percentile(samples_us(lambda: apply(inputs), count), 50)
    for number in (1, threads):
        running = [threading.Thread(target=samples_us, args=(lambda: apply(inputs), count)) for _ in range(number)]
        begun = time.monotonic()
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        answer[f"threads_{number}_us"] = (time.monotonic() - begun) * 1e6 / (count * number)
    return answer


def _signature(library: str, path: str) -> tuple[Callable[[dict[str, Any]], dict[str, Any]], dict[str, Any]]:
    """The signature "serving_default" as a function of numpy arrays, and random inputs for it."""
    if library == "hubclient":
        from hubclient import signatures

        runner = signatures(path)["serving_default"]
        shapes = {name: (spec.shape, spec.dtype) for name, spec in runner.inputs.items()}
        return lambda inputs: runner(**inputs), _random(shapes)
    import tensorflow
    import tensorflow_hub

    module = tensorflow_hub.load(path)
    function = module.signatures["serving_default"]
    specs = function.structured_input_signature[1]
    shapes = {name: (tuple(spec.shape), spec.dtype.name) for name, spec in specs.items()}

    def apply(inputs: dict[str, Any], module: Any = module) -> dict[str, Any]:  # the module owns the variables
        tensors = {name: tensorflow.constant(value) for name, value in inputs.items()}
        return {name: tensor.numpy() for name, tensor in function(**tensors).items()}

    return apply, _random(shapes)


def _random(shapes: dict[str, Any]) -> dict[str, Any]:
    import numpy

    random = numpy.random.default_rng(1)
    inputs = {}
    for name, (shape, dtype) in shapes.items():
        sizes = [1 if size is None else size for size in shape]
        inputs[name] = random.integers(0, 30_000, sizes) if dtype.startswith("int") else random.random(sizes)
        inputs[name] = inputs[name].astype(dtype)
    return inputs


def _values(output: dict[str, Any]) -> list[float]:
    """The beginning of each output, enough to tell two answers apart."""
    return [float(value) for _, array in sorted(output.items()) for value in array.ravel()[:200].tolist()]


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def samples_us(call: Callable[[], object], count: int) -> list[float]:
    clock = time.perf_counter_ns
    samples = []
    for _ in range(count):
        begun = clock()
        call()
        samples.append((clock() - begun) / 1000)
    return samples


def percentile(samples: list[float], percent: int) -> float:
    return sorted(samples)[min(len(samples) - 1, len(samples) * percent // 100)]


def main(what: str, *arguments: str) -> dict[str, Any]:
    if what == "resolve":
        return resolve(*arguments)
    if what == "hits":
        return hits(arguments[0], arguments[1], int(arguments[2]))
    if what == "daemon":
        return daemon(arguments[0], int(arguments[1]))
    if what == "obstore":
        endpoint, bucket, path, directory, ranges = arguments
        return obstore(endpoint, bucket, path, directory, int(ranges))
    if what == "predict":
        return predict(*arguments)
    if what == "calls":
        return calls(arguments[0], arguments[1], int(arguments[2]), int(arguments[3]))
    raise SystemExit(f"no such probe: {what}")


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])), flush=True)
