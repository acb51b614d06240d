"""The state directory: who we are, and that we are the only one."""

from __future__ import annotations

import fcntl
import os
import time
import uuid

import msgspec

from sessiond.errors import AlreadyRunning, ConfigError, StateError

DEVICE = "device.toml"
LOCK = "lock"
LOCK_SIZE = 1024


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """This installation. It outlives the spool, and hostnames, which change on laptops."""

    device_id: uuid.UUID
    machine_id: str
    """The hostname at the first start."""
    seed: int
    """Of the digests in the spool (reader.Digest)."""
    key: str = ""
    """Of keyed hashes (redact = "hash", hash_paths), in hex. It is in no spool and leaves this machine never."""

    def __repr__(self) -> str:
        return f"Device(device_id={self.device_id}, machine_id={self.machine_id!r})"


def prepare(directory: str) -> None:
    """Make the state directory, readable by its user alone. Raises: StateError."""
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        found = os.stat(directory)
    except OSError as error:
        raise StateError(f"the state directory {directory} can't be made: {error.strerror}") from error
    if found.st_uid != os.geteuid():
        raise StateError(
            f"the state directory {directory} belongs to another user", hint="set state_dir to one of your own"
        )
    if found.st_mode & 0o077:
        os.chmod(directory, 0o700)


def device(directory: str) -> Device:
    """Read who this installation is, or decide it: the hostname of the first start stays the machine id.

    Raises: ConfigError where the file was changed by hand into something else.
    """
    import tomllib  # late, here and below: `status` decides nothing and reads this module

    path = os.path.join(directory, DEVICE)
    try:
        with open(path, "rb") as file:
            _refuse_loose(path, os.fstat(file.fileno()))
            found = msgspec.convert(tomllib.load(file), Device)
    except FileNotFoundError:
        found = Device(device_id=uuid.uuid4(), machine_id=hostname(), seed=int.from_bytes(os.urandom(7)))
    except (tomllib.TOMLDecodeError, msgspec.MsgspecError) as error:
        raise ConfigError(str(error), file=path, hint="restore the file, or remove it to be a new device") from error
    if found.key:
        return found
    import tomli_w  # late: `status` reads this module and writes nothing

    made = msgspec.structs.replace(found, key=os.urandom(32).hex())
    temporary = f"{path}.{os.getpid()}"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(b"# Made by sessiond. Without it this installation is a new device to its endpoint.\n")
        tomli_w.dump(msgspec.to_builtins(made), file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    return made


def first_start_ms(directory: str) -> int:
    """Tell when this installation was made, in unix ms; it outlives the spool. `device` was called before."""
    return os.stat(os.path.join(directory, DEVICE)).st_mtime_ns // 1_000_000


def _refuse_loose(path: str, found: os.stat_result) -> None:
    """Refuse a file of keys that others may read, as ssh does: who has read it once keeps it."""
    if found.st_mode & 0o077:
        mode = f"{found.st_mode & 0o777:04o}"
        raise ConfigError(f"other users may read or change it (mode {mode})", file=path, hint=f"run: chmod 600 {path}")


def hostname() -> str:
    """Name this machine as its user knows it: without the domain that a network adds."""
    import socket

    return socket.gethostname().partition(".")[0] or "localhost"


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds the lock, as it says itself."""

    pid: int = 0
    since_ms: int = 0
    service: str | None = None
    """`systemd` or `launchd` where one of them started it."""
    stopped: str | None = None
    """Why it can't capture now (a full disk: then this file is the only one that can still be written)."""


class Lock:
    """The lock of a state directory: one daemon at a time. It dies with its process, however that ends."""

    def __init__(self, directory: str, service: str | None = None) -> None:
        """Take the lock. Raises: AlreadyRunning."""
        self._descriptor = os.open(os.path.join(directory, LOCK), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            _take(self._descriptor)
        except BlockingIOError as error:
            other = _holder(self._descriptor)
            os.close(self._descriptor)
            raise AlreadyRunning(
                f"another sessiond (pid {other.pid or 'unknown'}) uses {directory}", hint="`sessiond status` shows it"
            ) from error
        self._holder = Holder(pid=os.getpid(), since_ms=time.time_ns() // 1_000_000, service=service)
        self._write()

    def note(self, *, stopped: str | None) -> None:
        """Say why nothing can be captured, or that it can again."""
        if stopped != self._holder.stopped:
            self._holder = msgspec.structs.replace(self._holder, stopped=stopped)
            self._write()

    def _write(self) -> None:
        # Padded, so that the file has its block before the disk is full.
        os.pwrite(self._descriptor, msgspec.json.encode(self._holder).ljust(LOCK_SIZE), 0)

    def release(self) -> None:
        """Let go of the lock."""
        os.close(self._descriptor)


def _holder(descriptor: int) -> Holder:
    try:
        return msgspec.json.decode(os.pread(descriptor, LOCK_SIZE, 0), type=Holder)
    except msgspec.MsgspecError:
        return Holder()  # it has the lock and has not yet written who it is


def _take(descriptor: int) -> None:
    for attempt in range(5):
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt == 4:
                raise
            time.sleep(0.02)  # a `status` may be looking at it just now
    return None


def running(directory: str) -> Holder | None:
    """Tell which daemon holds the lock; None if none does. The lock is asked, the pid alone is not believed."""
    try:
        descriptor = os.open(os.path.join(directory, LOCK), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(descriptor)
    finally:
        os.close(descriptor)
    return None


def free_bytes(directory: str) -> int:
    """Tell how much room there is for the user's files on the disk of a directory."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize
