"""A web server with one folder of files, that can be told to behave as badly as real ones do."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class FileServer(BaseHTTPRequestHandler):
    """Serves ``files`` by path, with ranges, entity tags and redirects; ``asked`` is what it was asked for.

    ``breaks`` holds after how many bytes the next connections are cut; ``refuses`` a status to answer with;
    ``ranges`` whether it takes them; ``tags`` whether it tells versions of a file apart; ``states`` a digest of its
    own in a redirect, as Hugging Face's hub does.
    """

    files: dict[str, bytes]
    asked: list[tuple[str, str | None]]
    breaks: list[int]
    refuses = 0
    ranges = True
    tags = True
    states = ""

    def do_GET(self):
        self.asked.append((self.path, self.headers["Range"]))
        path = self.path.removeprefix("/moved")
        if self.refuses or path not in self.files:
            return self.send_error(self.refuses or 404)
        if self.states and path == self.path:
            self.send_response(302)
            self.send_header("Location", f"/moved{self.path}")
            self.send_header("X-Linked-Etag", f'"{self.states}"')
            return self.end_headers()
        content = self.files[path]
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        start = 0
        if self.ranges and self.headers["Range"] and self.headers["If-Range"] in (None, tag):
            start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1])
        if start and start >= len(content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.tags:
            self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: self.breaks.pop(0) if self.breaks else None])
        return None

    def log_message(self, *_):
        pass


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[type[FileServer]]:
    """A server on a port of its own, at ``url``."""
    with answering(type("Handler", (FileServer,), {"files": files, "asked": [], "breaks": []})) as handler:
        yield handler


@contextmanager
def answering(handler: type[BaseHTTPRequestHandler]) -> Iterator[type[BaseHTTPRequestHandler]]:
    """``handler`` at work on a port of its own, at ``url``."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        handler.url = f"http://127.0.0.1:{http.server_port}"
        yield handler
        http.shutdown()
        thread.join()
