"""The modules of `tf1_modules` and `tf2_modules` by name, each built when it is first asked for."""

from __future__ import annotations

import os


class Modules:
    """Called with ``tf1/<name>`` or ``tf2/<name>``, answers the module's directory below `root`."""

    def __init__(self, root: str) -> None:
        self.root = root

    def __call__(self, name: str) -> str:
        directory = os.path.join(self.root, name)
        if not os.path.exists(directory):
            family, _, of_family = name.partition("/")
            if family == "tf1":
                from tests.support.tf1_modules import MODULES
            elif family == "tf2":
                from tests.support.tf2_modules import MODULES
            else:
                raise KeyError(name)
            MODULES[of_family](directory)
        return directory
