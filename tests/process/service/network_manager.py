"""A fake NetworkManager on a system bus with one property, whose value is in a file."""

from __future__ import annotations

import sys

from jeepney import MessageType, message_bus, new_method_return
from jeepney.io.blocking import open_dbus_connection

NAME = "org.freedesktop.NetworkManager"


def main(path: str) -> None:
    """Own the name, announce it, and answer each call with the number in the file."""
    bus = open_dbus_connection(bus="SYSTEM")
    bus.send_and_get_reply(message_bus.RequestName(NAME))
    print("ready", flush=True)
    while True:
        message = bus.receive()
        if message.header.message_type is MessageType.method_call and message.body == (NAME, "Metered"):
            with open(path) as file:
                bus.send(new_method_return(message, "v", (("u", int(file.read())),)))


if __name__ == "__main__":
    main(sys.argv[1])
