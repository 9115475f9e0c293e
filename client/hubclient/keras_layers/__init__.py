"""The layers behind `hubclient.KerasLayer`: one for Keras 3, one for Keras 2 and tf_keras, and what they share.

Importing `hubclient.keras_layers.keras3` or `hubclient.keras_layers.legacy` says which of the two is wanted,
whatever ``TF_USE_LEGACY_KERAS`` says.
"""
