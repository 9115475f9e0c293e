"""`hubclient.signatures` in processes of its own: beside Python's TensorFlow, after a fork, on Ctrl-C, at the end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.building import Modules

pytestmark = pytest.mark.tensorflow
tf: Any = pytest.importorskip("tensorflow")

TIMEOUT_SECONDS = 110
HELPERS = """
import os, signal, sys, threading
import hubclient
signal.alarm(100)
signal.signal(signal.SIGINT, signal.default_int_handler)  # which whoever runs the tests may ignore
MODULE = {module!r}
def show(*words): print(*words, flush=True)
def run(found): return found["default"]([[1, 2, 3]])["default"].shape
def child(work):
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try: show("child", work())
        except hubclient.HubError as error: show("child", error.code)
        finally: sys.stdout.flush()
        sys.exit()
    show("status", os.waitpid(pid, 0)[1])
"""


@pytest.fixture(scope="module")
def module(modules: Modules) -> str:
    return modules("tf1/affine")


def python(module: str, program: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HELPERS.format(module=module) + program],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        env={name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"} | environ,
    )


def lines(module: str, program: str, **environ: str) -> list[str]:
    done = python(module, program, **environ)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_pythons_tensorflow_is_not_imported(module: str) -> None:
    program = """
show(run(hubclient.signatures(MODULE)))
show([name for name in ("tensorflow", "keras", "google.protobuf", "http.client", "asyncio") if name in sys.modules])
"""
    assert lines(module, program) == ["(1, 2)", "[]"]


TENSORFLOW = "import tensorflow as tf; show(tf.reduce_sum(tf.ones([300, 300])).numpy())"
OURS = "found = hubclient.signatures(MODULE); show(run(found))"


def test_it_lives_beside_pythons_tensorflow(module: str) -> None:
    """And a fork of what only TensorFlow has run in is told, too."""
    program = f"{TENSORFLOW}; child(lambda: run(hubclient.signatures(MODULE))); {OURS}; {TENSORFLOW}; show(run(found))"
    assert lines(module, program) == ["90000.0", "child forked", "status 0", "(1, 2)", "90000.0", "(1, 2)"]


@pytest.mark.thorough
@pytest.mark.parametrize("before", ["", "import tensorflow"])
def test_pythons_tensorflow_may_come_after_it(module: str, before: str) -> None:
    assert lines(module, "\n".join([before, OURS, TENSORFLOW, "show(run(found))"])) == ["(1, 2)", "90000.0", "(1, 2)"]


def test_tensorflow_is_imported_in_a_thread_meanwhile(module: str) -> None:
    program = f"""
thread = threading.Thread(target=__import__, args=("tensorflow",))
thread.start()
{OURS}
thread.join()
{TENSORFLOW}
show(run(found))
"""
    assert lines(module, program) == ["(1, 2)", "90000.0", "(1, 2)"]


def test_openssl_still_works_after_it(module: str) -> None:
    program = """
run(hubclient.signatures(MODULE))
import ssl, hashlib
ssl.create_default_context()
show(hashlib.sha256(b"").hexdigest()[:8], hashlib.new("sha512", b"").hexdigest()[:8])
"""
    assert lines(module, program) == ["e3b0c442 cf83e135"]


def test_several_threads_may_load_at_once(module: str) -> None:
    program = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(6) as pool:
    show(set(pool.map(lambda _: run(hubclient.signatures(MODULE)), range(6))))
"""
    assert lines(module, program) == ["{(1, 2)}"]


@pytest.mark.parametrize(
    "program",
    [
        "found = hubclient.signatures(MODULE); run(found)",
        "import builtins; builtins.found = hubclient.signatures(MODULE); run(builtins.found)",
        "found = hubclient.signatures(MODULE); found.me = found; runner = found['default']; run(found)",
        "found = hubclient.signatures(MODULE); import numpy; big = numpy.ones((400_000, 3), 'f4')\n"
        "kept = found['default'](big)",
        "import atexit; found = hubclient.signatures(MODULE); atexit.register(lambda: show(run(found)))",
        "found = hubclient.signatures(MODULE)\n"
        "def work():\n    while True: run(found)\n"
        "for _ in range(3): threading.Thread(target=work, daemon=True).start()\n"
        "run(found)",
    ],
    ids=["global", "builtins", "cycle", "output", "atexit", "daemon-threads"],
)
def test_the_interpreter_ends_without_a_crash(module: str, program: str) -> None:
    done = python(module, program)
    assert (done.returncode, "Traceback" in done.stderr, "Exception" in done.stderr) == (0, False, False), done.stderr


def test_the_log_is_quiet_and_the_environment_unchanged(module: str) -> None:
    program = """
before = dict(os.environ)
run(hubclient.signatures(MODULE))
show(before == dict(os.environ), os.system('test -z "$TF_CPP_MIN_LOG_LEVEL"'))
"""
    done = python(module, program)
    assert done.stdout.split() == ["True", "0"]
    # What TensorFlow's libraries say while they are opened comes before any setting is looked at.
    assert "cpu_feature_guard" not in done.stderr
    assert "cpu_feature_guard" in python(module, program, TF_CPP_MIN_LOG_LEVEL="0").stderr


WITHOUT_THREADS = "dict(intra_op_threads=1, inter_op_threads=-1)"


LOADED_ANEW = "run(hubclient.signatures(MODULE))"
LOADED_WITHOUT_THREADS = f"found = hubclient.signatures(MODULE, **{WITHOUT_THREADS})"


@pytest.mark.parametrize(
    ("parent", "works", "answer"),
    [
        ("found = hubclient.signatures(MODULE)", ["run(found)", LOADED_ANEW], "forked"),
        ("hubclient.signatures(MODULE).close()", [LOADED_ANEW], "forked"),
        pytest.param(
            f"{TENSORFLOW}; import hubclient.capi.library as l; l.library()",
            [LOADED_ANEW],
            "forked",
            marks=pytest.mark.thorough,
        ),
        pytest.param(f"{TENSORFLOW}; {LOADED_WITHOUT_THREADS}", ["run(found)"], "forked", marks=pytest.mark.thorough),
        (
            LOADED_WITHOUT_THREADS,
            [
                "run(found)",
                LOADED_ANEW,
                f"[found.close(), run(hubclient.signatures(MODULE, **{WITHOUT_THREADS}))][1]",
            ],
            "(1, 2)",
        ),
        ("import hubclient.capi.library as l; l.library()", [LOADED_ANEW], "(1, 2)"),
        ("", [LOADED_ANEW], "(1, 2)"),
    ],
)
def test_a_forked_child_gets_an_answer_or_an_error_and_never_hangs(
    module: str, parent: str, works: list[str], answer: str
) -> None:
    """Several children of one parent, which stays as it was."""
    program = f"""
{parent}
if "found" in globals(): run(found)
for work in {works!r}:
    child(lambda: eval(work))
    if "found" in globals(): show(run(found))
"""
    outputs = [line for line in lines(module, program) if line not in ("90000.0", "(1, 2)")]
    assert outputs == [f"child {answer}", "status 0"] * len(works)


@pytest.fixture(scope="module")
def with_dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A module that reads a dataset, for which TensorFlow starts threads whatever a session's settings are."""
    root = tf.Module()
    root.call = tf.function(
        lambda x: {
            "default": tf.data.Dataset.from_tensor_slices(x).map(lambda row: row * 2.0).batch(9).get_single_element()
        },
        input_signature=[tf.TensorSpec([None, 3], name="x")],
    )
    path = str(tmp_path_factory.mktemp("with_dataset"))
    tf.saved_model.save(root, path, {"default": root.call})
    return path


def test_a_fork_after_a_dataset_was_read_is_told(with_dataset: str) -> None:
    program = f"""
found = hubclient.signatures(MODULE, **{WITHOUT_THREADS})
show(run(found))
child(lambda: run(found))
"""
    assert lines(with_dataset, program) == ["(1, 3)", "child forked", "status 0"]


def test_the_error_after_a_fork_says_what_to_do(module: str) -> None:
    program = """
found = hubclient.signatures(MODULE)
if os.fork() == 0:
    try: run(found)
    except hubclient.Forked as error: show(error)
    del found
    os._exit(0)
os.wait()
"""
    (message,) = lines(module, program)
    assert "'spawn'" in message
    assert "intra_op_threads=1" in message


def test_ctrl_c_is_raised_after_the_run_and_harms_nothing(modules: Modules) -> None:
    program = """
found = hubclient.signatures(MODULE)
runner = found["default"]
steps = 60_000
started = threading.Event()
def interrupt():
    started.wait()
    os.kill(os.getpid(), signal.SIGINT)
thread = threading.Thread(target=interrupt)
thread.start()
try:
    started.set()
    while True: runner(x=[[1, 2, 3]], steps=steps)
except KeyboardInterrupt:
    show("interrupted")
thread.join()
show(runner(x=[[1, 2, 3]], steps=1)["default"].shape)
"""
    outputs = lines(modules("tf1/while_v1"), program)
    assert outputs == ["interrupted", "(1, 3)"]


def test_an_input_that_memory_has_no_room_for_is_an_error_and_no_crash(module: str, tmp_path: Path) -> None:
    program = f"""
import numpy as np, resource
found = hubclient.signatures(MODULE)
run(found)
with open({str(tmp_path / "sparse")!r}, "wb") as file:
    file.truncate(3 << 30)
rows = np.memmap(file.name, "f4", "r", offset=4, shape=(1 << 27, 3))
room = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + (1 << 29)
resource.setrlimit(resource.RLIMIT_AS, (room, room))
try: found["default"](rows)
except hubclient.HubError as error: show(error.code)
show(run(found))
"""
    # The allocator that oneDNN brings would try again for ten seconds.
    assert lines(module, program, TF_ENABLE_ONEDNN_OPTS="0") == ["run-failed", "(1, 2)"]


def test_a_spawned_child_works(module: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"""
import multiprocessing
import hubclient
def work(number):
    with hubclient.signatures({module!r}) as found:
        return found["default"]([[number, 2, 3]])["default"].shape
if __name__ == "__main__":
    work(0)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        print(pool.map(work, [1, 2]))
"""
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=True
    )
    assert done.stdout.strip() == "[(1, 2), (1, 2)]"


CUSTOM_OP = r"""
#include <stdint.h>
#include <string.h>
// From tensorflow/c/kernels.h, ops.h and tf_tensor.h, which are for C++ only.
extern void *TF_NewStatus(void), *TF_TensorData(const void*), *TF_NewOpDefinitionBuilder(const char*);
extern void TF_DeleteStatus(void*), TF_DeleteTensor(void*), TF_GetInput(void*, int, void**, void*);
extern void* TF_AllocateOutput(void*, int, int, const int64_t*, int, size_t, void*);
extern void TF_OpDefinitionBuilderAddInput(void*, const char*), TF_OpDefinitionBuilderAddOutput(void*, const char*);
extern void TF_RegisterOpDefinition(void*, void*), TF_RegisterKernelBuilder(const char*, void*, void*);
extern void* TF_NewKernelBuilder(const char*, const char*, void*, void (*)(void*, void*), void*);
static void compute(void* kernel, void* context) {
  void *status = TF_NewStatus(), *input = NULL;
  TF_GetInput(context, 0, &input, status);
  void* output = TF_AllocateOutput(context, 0, 1, NULL, 0, 4, status);
  float value;
  memcpy(&value, TF_TensorData(input), 4);
  value += 42;
  memcpy(TF_TensorData(output), &value, 4);
  TF_DeleteTensor(input);
  TF_DeleteTensor(output);
  TF_DeleteStatus(status);
}
__attribute__((constructor)) static void enter(void) {
  void *status = TF_NewStatus(), *op = TF_NewOpDefinitionBuilder("AddFortyTwo");
  TF_OpDefinitionBuilderAddInput(op, "x: float");
  TF_OpDefinitionBuilderAddOutput(op, "y: float");
  TF_RegisterOpDefinition(op, status);
  TF_RegisterKernelBuilder("AddFortyTwo", TF_NewKernelBuilder("AddFortyTwo", "CPU", NULL, compute, NULL), status);
  TF_DeleteStatus(status);
}
"""


@pytest.fixture(scope="module")
def custom_op(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A shared library with an operation of its own, and a module that uses it."""
    import importlib.util
    import shutil

    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    directory = tmp_path_factory.mktemp("custom_op")
    spec: Any = importlib.util.find_spec("tensorflow")
    wheel = spec.submodule_search_locations[0]
    source, library, saved = directory / "op.c", directory / "op.so", directory / "saved"
    source.write_text(CUSTOM_OP)
    command = [compiler, "-shared", "-fPIC", str(source), "-o", str(library)]
    subprocess.run([*command, f"-L{wheel}", "-l:libtensorflow_framework.so.2"], check=True, timeout=TIMEOUT_SECONDS)
    add_forty_two = tf.load_op_library(str(library)).add_forty_two
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [])
        signature = v1.saved_model.predict_signature_def({"x": x}, {"default": add_forty_two(x=x)})
        builder = v1.saved_model.Builder(str(saved))
        builder.add_meta_graph_and_variables(session, ["serve"], {"default": signature})
        builder.save()
    return str(library), str(saved)


def test_a_custom_op_works_once_its_library_is_loaded(custom_op: tuple[str, str]) -> None:
    library, saved = custom_op
    program = f"""
try: hubclient.signatures(MODULE)
except hubclient.ModuleBroken as error: show("AddFortyTwo" in str(error))
hubclient.load_library({library!r})
hubclient.load_library({library!r})
show(hubclient.signatures(MODULE)["default"](1)["default"])
"""
    assert lines(saved, program) == ["True", "43.0"]


def test_a_file_that_is_no_library_is_told(module: str, tmp_path: Path) -> None:
    (tmp_path / "text.so").write_text("no library")
    program = f"""
for name in ("text.so", "missing.so"):
    try: hubclient.load_library({str(tmp_path)!r} + "/" + name)
    except hubclient.RunFailed as error: show(name in str(error))
"""
    assert lines(module, program) == ["True", "True"]
