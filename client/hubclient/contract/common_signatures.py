"""Which of TensorFlow Hub's common signatures a signature meets, told from its tensors alone.

Law: what is named met every rule that signature facts can tell; what cannot be told apart is named as both.

The definitions are those of tensorflow.org/hub/common_signatures, for images and for text:

- **Images** come in as one dense float32 tensor ``[batch, height, width, 3]``, whose batch is not fixed. In the named
  signatures the input is called ``images``.
- **Image feature vector** and **image classification** give an output ``default``, float32 of ``[batch, N]``, where N
  is a constant: the features, or the classes. Their named signatures are ``image_feature_vector`` and
  ``image_classification``, and the default signature is the one or the other, as its publisher chose. Its form is the
  same for both. Further outputs, such as activations of hidden layers, may stand beside it.
- **Text embedding** (text feature vector) takes a batch of strings ``[batch]`` and gives float32 of ``[batch, N]``.

Signatures that TensorFlow 2 exports follow them under other names: there a single input and a single output stand for
``images`` and ``default``.
"""

from __future__ import annotations

from hubclient.contract.saved_model import Signature, TensorSpec

IMAGE_FEATURE_VECTOR = "image feature vector"
IMAGE_CLASSIFICATION = "image classification"
IMAGE_EITHER = "image feature vector or classification"
TEXT_EMBEDDING = "text embedding"

_NAMED = {"image_feature_vector": IMAGE_FEATURE_VECTOR, "image_classification": IMAGE_CLASSIFICATION}
_CHANNELS = 3


def common_signature(name: str, signature: Signature) -> str | None:
    """The common signature that the signature called `name` meets; None if it meets none."""
    if len(signature.inputs) != 1 or not _is_vector(_principal_output(signature)):
        return None
    ((input_name, spec),) = signature.inputs.items()
    if name in _NAMED:
        proper = _is_images(spec) and input_name == "images" and "default" in signature.outputs
        return _NAMED[name] if proper else None
    if _is_images(spec):
        return IMAGE_EITHER
    return TEXT_EMBEDDING if _is_texts(spec) else None


def _principal_output(signature: Signature) -> TensorSpec | None:
    outputs = signature.outputs
    return outputs.get("default") or (next(iter(outputs.values())) if len(outputs) == 1 else None)


def _is_vector(spec: TensorSpec | None) -> bool:
    """A dense float32 tensor of [batch, N]."""
    shape = _shape(spec, "float32")
    return shape is not None and len(shape) == 2 and shape[0] is None and shape[1] is not None


def _is_images(spec: TensorSpec) -> bool:
    shape = _shape(spec, "float32")
    return shape is not None and len(shape) == 4 and shape[0] is None and shape[3] == _CHANNELS


def _is_texts(spec: TensorSpec) -> bool:
    return _shape(spec, "string") == (None,)


def _shape(spec: TensorSpec | None, dtype: str) -> tuple[int | None, ...] | None:
    return spec.shape if spec is not None and spec.encoding == "dense" and spec.dtype == dtype else None
