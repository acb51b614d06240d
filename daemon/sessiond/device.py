"""The identity of this installation, stored in the state directory."""

from __future__ import annotations

import hashlib
import os
import socket
import tomllib
import uuid

import msgspec

from sessiond.atomic import atomic_write
from sessiond.decoding import convert
from sessiond.errors import ConfigError

FILE = "device.toml"


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """This installation. It survives a new spool and a new hostname."""

    device_id: uuid.UUID
    machine_id: str
    """The hostname at the first start."""
    seed: int
    """Seed of the digests in the spool (reader.Digest)."""
    key: str = ""
    """Key of hashes (redact = "hash", hash_paths), in hex. Never stored in the spool, never sent."""

    def __repr__(self) -> str:
        return f"Device(device_id={self.device_id}, machine_id={self.machine_id!r})"


def identify(directory: str) -> Device:
    """Return the identity of this installation; create it at the first start, with the hostname as machine id.

    Raises: ConfigError if the file was changed into something invalid.
    """
    path = os.path.join(directory, FILE)
    try:
        with open(path, "rb") as file:
            _refuse_loose(path, os.fstat(file.fileno()))
            found = convert(tomllib.load(file), Device)
    except FileNotFoundError:
        found = Device(device_id=uuid.uuid4(), machine_id=hostname(), seed=int.from_bytes(os.urandom(7)))
    except (tomllib.TOMLDecodeError, msgspec.MsgspecError) as error:
        raise ConfigError(str(error), file=path, hint="restore the file, or remove it to be a new device") from error
    if found.key:
        return found
    import tomli_w  # late: only a first start writes

    made = msgspec.structs.replace(found, key=os.urandom(32).hex())
    comment = "# Made by sessiond. Without it this installation is a new device to its endpoint.\n"
    atomic_write(path, (comment + tomli_w.dumps(msgspec.to_builtins(made))).encode())
    return made


def reader_id(directory: str) -> uuid.UUID:
    """Return the id with which a client reads: of this installation, or a random one if nothing was captured yet.

    Nothing is written, so that reading on a bare machine leaves no state directory behind.

    Raises: ConfigError.
    """
    return expect(directory)[0]


def expect(directory: str) -> tuple[uuid.UUID, str]:
    """Return the device id and the machine id of this installation, or those of one that begins now.

    Nothing is written. Raises: ConfigError.
    """
    if not os.path.exists(os.path.join(directory, FILE)):
        return uuid.uuid4(), hostname()
    found = identify(directory)
    return found.device_id, found.machine_id


def first_start_ms(directory: str) -> int:
    """Return when this installation was created, in unix ms. `identify` was called before."""
    return os.stat(os.path.join(directory, FILE)).st_mtime_ns // 1_000_000


def installation(directory: str) -> int:
    """Return an inode that distinguishes a state directory from a copy of it. `identify` was called before."""
    return os.stat(os.path.join(directory, FILE)).st_ino


def _refuse_loose(path: str, found: os.stat_result) -> None:
    """Raise ConfigError if other users may read the keys, as ssh does: they may have copied them."""
    if found.st_mode & 0o077:
        mode = f"{found.st_mode & 0o777:04o}"
        raise ConfigError(f"other users may read or change it (mode {mode})", file=path, hint=f"run: chmod 600 {path}")


def hostname() -> str:
    """Return the hostname without its domain, which a network may add."""
    return socket.gethostname().partition(".")[0] or "localhost"


def machine_identity() -> str:
    """Return an id of this machine that survives renaming; the hostname if the system has none.

    A digest: the machine id itself is not meant to be shown (machine-id(5)).
    """
    try:
        with open("/etc/machine-id", "rb") as file:
            found = file.read(64).strip()
    except OSError:
        found = b""
    return hashlib.blake2b(found, digest_size=8).hexdigest() if found else hostname()
