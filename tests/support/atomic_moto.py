"""moto's server as a program, with what S3 promises and moto's threads do not: of many conditional writes one wins.

Law: between a condition that was looked at and what is written upon it, no other such write and no removal comes.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

from __future__ import annotations

import sys
import threading
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple

_CONDITIONS = {"HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"}


class _Atomic(DomainDispatcherApplication):
    _writing = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        method = environ["REQUEST_METHOD"]
        if method == "DELETE" or (method == "PUT" and not _CONDITIONS.isdisjoint(environ)):
            with self._writing:
                return super().__call__(environ, start_response)
        return super().__call__(environ, start_response)


if __name__ == "__main__":
    run_simple(
        "127.0.0.1", int(sys.argv[1]), _Atomic(create_backend_app), threaded=True, request_handler=MotoRequestHandler
    )
