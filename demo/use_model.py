"""What a program does with a module: load it by its handle, call a signature. Usage: use_model.py HANDLE"""

from __future__ import annotations

import sys

import tensorflow as tf

import hubclient as hub

model = hub.load(sys.argv[1])
predict = model.signatures["serving_default"]
print(predict(x=tf.constant([1.0, 2.0, 5.0]))["y"].numpy())
