"""Tries ports of an address: ``python3 try_ports.py ADDRESS PORT...``; prints those that answer, as JSON."""

import json
import socket
import sys

_PATIENCE_SECONDS = 5.0


def answers(address: str, port: int) -> bool:
    """Tell whether somebody takes a connection."""
    try:
        with socket.create_connection((address, port), _PATIENCE_SECONDS):
            return True
    except OSError:
        return False


if __name__ == "__main__":
    sys.stdout.write(json.dumps([int(port) for port in sys.argv[2:] if answers(sys.argv[1], int(port))]))
