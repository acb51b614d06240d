"""An S3-compatible store on the disk, for trials that kill it: s3_files.py DIRECTORY PORT.

It knows the few calls that sessiond uses, and syncs each object before it answers. It checks no credentials.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import uuid
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class Objects(BaseHTTPRequestHandler):
    """Answers requests for the objects below `root`."""

    root: Path
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        path = self._path()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.root / f".{uuid.uuid4().hex}"
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        self._answer(200, b"", ETag=f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"')

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        if "list-type" in query:
            self._answer(200, self._listing(query.get("prefix", [""])[0]))
            return
        try:
            data = self._path().read_bytes()
        except FileNotFoundError:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        headers = {"ETag": '"x"', "Last-Modified": formatdate(usegmt=True)}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if wanted is None:
            self._answer(200, data, **headers)
            return
        start, end = int(wanted[1]), min(int(wanted[2]) + 1, len(data))
        self._answer(206, data[start:end], **headers, **{"Content-Range": f"bytes {start}-{end - 1}/{len(data)}"})

    def do_DELETE(self) -> None:
        self._path().unlink(missing_ok=True)
        self._answer(204, b"")

    def do_POST(self) -> None:
        """Delete several objects."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        bucket = urlsplit(self.path).path.strip("/")
        keys = re.findall(r"<Key>(.*?)</Key>", body)
        for key in keys:
            (self.root / bucket / key).unlink(missing_ok=True)
        found = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
        self._answer(200, f"<DeleteResult>{found}</DeleteResult>".encode())

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def _path(self) -> Path:
        return self.root / unquote(urlsplit(self.path).path).strip("/")

    def _listing(self, prefix: str) -> bytes:
        bucket = self.root / urlsplit(self.path).path.strip("/")
        entries = ""
        for path in sorted(bucket.rglob("*")):
            key = str(path.relative_to(bucket))
            if path.is_file() and key.startswith(prefix):
                changed = datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
                size = path.stat().st_size
                entries += f"<Contents><Key>{escape(key)}</Key><LastModified>{changed}</LastModified>"
                entries += f"<ETag>x</ETag><Size>{size}</Size></Contents>"
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def main(directory: str, port: str) -> None:
    Objects.root = Path(directory)
    ThreadingHTTPServer.request_queue_size = 128
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), Objects)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
