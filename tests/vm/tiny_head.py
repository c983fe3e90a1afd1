"""A head reduced to its boot answers, for tests of the boot chain alone: `tiny_head.py ADDRESS PORT FOLDER`.

GET /boot/ipxe?mac=M answers FOLDER/answers/M, or 404; everything else is a file below FOLDER.
"""

from __future__ import annotations

import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def translate_path(self, path: str) -> str:
        asked = urlsplit(path)
        if asked.path == "/boot/ipxe":
            return super().translate_path(f"/answers/{parse_qs(asked.query)['mac'][0]}")
        return super().translate_path(asked.path)


if __name__ == "__main__":
    address, port, folder = sys.argv[1:]
    ThreadingHTTPServer((address, int(port)), partial(Handler, directory=folder)).serve_forever()
