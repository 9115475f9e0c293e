"""A library to look at: modules as publishers make them, and one that is meant to harm whoever reads of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.archives import field, tensor_info
from tests.support.library import put, put_archive

GALLERY_MODELS = 4
FLOAT, STRING, INT64 = 1, 7, 9
ELSEWHERE = "http://elsewhere.example"

Tensors = Mapping[str, tuple[int, Sequence[int]]]

IMAGES: Tensors = {"images": (FLOAT, (-1, 224, 224, 3))}


def saved_model(*graphs: tuple[Sequence[str], Mapping[str, tuple[Tensors, Tensors]]]) -> bytes:
    """A saved_model.pb with these variants: tags, and of each signature inputs and outputs."""
    return field(1, 1) + b"".join(field(2, _graph(tags, signatures)) for tags, signatures in graphs)


def _graph(tags: Sequence[str], signatures: Mapping[str, tuple[Tensors, Tensors]]) -> bytes:
    info = b"".join(field(4, tag) for tag in tags)
    return field(1, info) + b"".join(
        field(5, field(1, name) + field(2, _tensors(1, inputs) + _tensors(2, outputs) + field(3, "predict")))
        for name, (inputs, outputs) in signatures.items()
    )


def _tensors(number: int, tensors: Tensors) -> bytes:
    return b"".join(
        field(number, field(1, name) + field(2, tensor_info(f"{name}:0", dtype, *shape)))
        for name, (dtype, shape) in tensors.items()
    )


MOBILENET = """\
---
title: MobileNet V2
task: image-classification
license: apache-2.0
tags: [imagenet, vision]
---
# MobileNet V2

Labels of 1,001 classes for **images of 224 x 224 pixels**. It is small enough for a phone, and a good start for
[fine-tuning](#fine-tuning) on images of one's own.

## Usage

```python
import tensorflow as tf
import hubclient as hub

classify = hub.load("https://models.example.org/lab/vision/mobilenet/3")
logits = classify(tf.zeros([1, 224, 224, 3]))  # colours from 0 to 1
```

## Accuracy

| Width | Parameters | Top 1 | Top 5 | Latency on a phone's CPU |
|-------|-----------:|------:|------:|-------------------------:|
| 0.35  | 1.7 M      | 60.3 % | 82.9 % | 16 ms |
| 1.0   | 3.5 M      | 71.8 % | 91.0 % | 57 ms |
| 1.4   | 6.1 M      | 75.0 % | 92.5 % | 98 ms |

> Measured on the validation set of ImageNet 2012, single crop.

## Fine-tuning

1. Build a `KerasLayer` with `trainable=True`.
2. Use a *small* learning rate, batch normalisation follows by itself.

![Curves of the training](https://models.example.org/curves.png)
"""

ENCODER = """\
---
task: text-embedding
description: Sentences in 16 languages as vectors of 512 numbers; similar sentences lie close together.
license: mit
tags: [multilingual, retrieval]
---
# Sentence encoder

Takes a batch of sentences and returns one vector for each.
"""

HOSTILE_SEGMENT = "<script>document.title='taken'<script>\"'&{{7*7}}"
HOSTILE_SIGNATURE = "<img src=x onerror=\"document.title='taken'\">"
HOSTILE = f"""\
---
title: <script>document.title='taken'</script>
task: "><img src=x onerror=document.title='taken'>
---
# Welcome

<script>document.title = 'taken'</script>
<script src="{ELSEWHERE}/x.js"></script>
<img src="{ELSEWHERE}/pixel.png" onerror="document.title='taken'">
![pixel]({ELSEWHERE}/pixel.png)
<style>body {{ display: none }} @import url({ELSEWHERE}/x.css);</style>
<link rel=stylesheet href="{ELSEWHERE}/x.css">
<meta http-equiv=refresh content="0;url={ELSEWHERE}/">
<base href="{ELSEWHERE}/">
<iframe src="{ELSEWHERE}/"></iframe><object data="{ELSEWHERE}/"></object><embed src="{ELSEWHERE}/">
<video src="{ELSEWHERE}/v" autoplay></video><svg><script>document.title='taken'</script></svg>
<form action="{ELSEWHERE}/"><input name=q autofocus onfocus="document.title='taken'"></form>
<p style="position:fixed;inset:0;background:url({ELSEWHERE}/bg.png)" onclick="document.title='taken'">over all</p>

[press](javascript:document.title='taken') <a href="javascript:document.title='taken'">here</a>

<table background="{ELSEWHERE}/t.png"><tr><td>never closed

</article></main></div></body></html>

| {" | ".join(f"column {number}" for number in range(60))} |
|{"---|" * 60}
| {" | ".join("wide" for _ in range(60))} |

{"W" * 3000}

**never closed _either `and [this](

###### The end of it
"""


def fill(root: Path) -> None:
    """Put the modules of the gallery below `root`."""
    classify = {"image_classification": (IMAGES, {"default": (FLOAT, (-1, 1001))})}
    default = {"serving_default": ({"inputs": (FLOAT, (-1, 224, 224, 3))}, {"logits": (FLOAT, (-1, 1001))})}
    weights = {"variables/variables.index": bytes(5000), "variables/variables.data-00000-of-00001": bytes(300_000)}
    vision = {"saved_model.pb": saved_model((["serve"], default), ([], classify), (["train"], classify)), **weights}
    for number in (1, 2, 3):
        put(root, f"lab/vision/mobilenet/{number}", {**vision, "README.md": MOBILENET.encode()})
    embed = {"serving_default": ({"text": (STRING, (-1,))}, {"embedding": (FLOAT, (-1, 512))})}
    text = {"saved_model.pb": saved_model((["serve"], embed)), **weights, "assets/vocabulary.txt": bytes(20_000)}
    put(root, "lab/text/sentence-encoder/1", {**text, "README.md": ENCODER.encode()})
    put_archive(root, "acme/half-plus-two/1")
    odd = {HOSTILE_SIGNATURE: ({HOSTILE_SIGNATURE: (INT64, (-1, 3))}, {"\u202etxet desrever": (FLOAT, ())})}
    harmful = {
        "saved_model.pb": saved_model(([HOSTILE_SIGNATURE], odd), (["serve"], odd)),
        "README.md": HOSTILE.encode(),
    }
    put(root, f"mallory/{HOSTILE_SEGMENT}/1", harmful)
