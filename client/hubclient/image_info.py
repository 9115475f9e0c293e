"""What a module with a common signature for images expects: tensorflow.org/hub/common_signatures/images.

Law: what the module states itself, attached under "image_module_info", goes before what its input's shape tells.
"""

from __future__ import annotations

from typing import Any

from hubclient.instances.instance import DEFAULT
from hubclient.model_errors import InputInvalid, ModuleBroken

_ATTACHED_UNDER = "image_module_info"
_INPUT = "images"
_AXES = "[batch, height, width, channels]"


def get_expected_image_size(module: Any, signature: str | None = None, input_name: str | None = None) -> list[int]:
    """``[height, width]`` in pixels of the images that the module was made for.

    `module` is a `Module`, `signature` one of its signatures (None: "default"), and `input_name` the input that takes
    the images (None: "images").

    Raises `InputInvalid`, a ``ValueError``, if the module has no such input, or neither states a size nor has one in
    the shape of the input; `ModuleBroken` if what it states cannot be read; `SignatureNotFound`.
    """
    size = _stated_size(module)
    if size is not None:
        return size
    shape = _shape(module, signature, input_name)
    if shape.rank != 4 or not shape[1] or not shape[2]:
        raise InputInvalid(
            f"the module states no image size, and its input for images has the shape {shape}, "
            f"not {_AXES} with a known height and width"
        )
    return [shape[1], shape[2]]


def get_num_image_channels(module: Any, signature: str | None = None, input_name: str | None = None) -> int:
    """The number of channels of the images that the module takes, which is 3 for nearly all.

    Arguments and errors are those of `get_expected_image_size`.
    """
    shape = _shape(module, signature, input_name)
    if shape.rank != 4 or not shape[3]:
        raise InputInvalid(
            f"the module's input for images has the shape {shape}, not {_AXES} with a known number of channels"
        )
    return int(shape[3])


def _message_class() -> Any:
    """The class for image_module_info.proto (tensorflow_hub up to 0.12), which nothing here brings along."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="image_module_info.proto", package="tensorflow_hub", syntax="proto3")
    info = file.message_type.add(name="ImageModuleInfo")
    info.field.add(
        name="default_image_size",
        number=1,
        label=field.LABEL_OPTIONAL,
        type=field.TYPE_MESSAGE,
        type_name=".tensorflow_hub.ImageModuleInfo.InputSize",
    )
    size = info.nested_type.add(name="InputSize")
    size.field.add(name="height", number=1, label=field.LABEL_OPTIONAL, type=field.TYPE_INT32)
    size.field.add(name="width", number=2, label=field.LABEL_OPTIONAL, type=field.TYPE_INT32)
    pool = descriptor_pool.DescriptorPool()  # not the default one, where tensorflow_hub may put its own
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow_hub.ImageModuleInfo"))


def _stated_size(module: Any) -> list[int] | None:
    from google.protobuf.message import DecodeError

    try:
        info = module.get_attached_message(_ATTACHED_UNDER, _message_class())
    except DecodeError as error:
        raise ModuleBroken(f"the message {_ATTACHED_UNDER!r} attached to the module cannot be read: {error}") from error
    if info is None:
        return None
    height, width = info.default_image_size.height, info.default_image_size.width
    return [height, width] if height > 0 and width > 0 else None


def _shape(module: Any, signature: str | None, input_name: str | None) -> Any:
    """The static shape of the input for images, a ``tf.TensorShape``."""
    name = _INPUT if input_name is None else input_name
    inputs = module.get_input_info_dict(signature)
    if name not in inputs:
        raise InputInvalid(
            f"the signature {signature or DEFAULT!r} of the module has no input {name!r}; it has {sorted(inputs)}"
        )
    return inputs[name].shape
