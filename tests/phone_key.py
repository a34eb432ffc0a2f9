"""Android's question before debugging: does its owner know this computer's key? Debian's adbd is built without it.

The relay of an emulated phone asks it in adbd's place, as Android describes the protocol (packages/modules/adb,
protocol.txt): after CONNECT it sends tokens until one comes back signed with a key that was allowed (RSA, PKCS #1 v1.5,
over the token in the place of a SHA-1 hash), or a public key is offered, which is shown to the owner.
"""

from __future__ import annotations

import base64
import os
import socket
import struct
import time
from pathlib import Path

_CONNECT, _AUTH = 0x4E584E43, 0x48545541
_TOKEN, _SIGNATURE, _PUBLIC_KEY = 1, 2, 3
_SHA1_INFO = bytes.fromhex("3021300906052b0e03021a05000414")
_WORDS = 64
"""Of 32 bits in the modulus of a key."""


def admit(link: socket.socket, allowed: Path, asked: Path) -> bytes | None:
    """Ask until a key is allowed; the client's CONNECT for adbd, or None when the client has gone.

    Args:
        link: From the client.
        allowed: File of public keys, one a line, as the client offers them.
        asked: Where the offered key is written: what the phone shows until `allowed` holds it.
    """
    first = _receive(link)
    if first is None or first[0] != _CONNECT:
        return None
    token = _send_token(link)
    while (packet := _receive(link)) is not None:
        command, kind, data, _ = packet
        if command == _AUTH and kind == _PUBLIC_KEY:
            offered = data.rstrip(b"\0").decode()
            asked.write_text(offered)
            while offered not in _lines(allowed):
                if _gone(link):
                    return None
                time.sleep(0.05)
            return first[3]
        if command == _AUTH and kind == _SIGNATURE and any(_signed(data, token, key) for key in _lines(allowed)):
            return first[3]
        token = _send_token(link)
    return None


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def _signed(signature: bytes, token: bytes, key: str) -> bool:
    blob = base64.b64decode(key.split(maxsplit=1)[0])
    modulus = int.from_bytes(blob[8 : 8 + 4 * _WORDS], "little")
    exponent = struct.unpack_from("<I", blob, 8 + 8 * _WORDS)[0]
    plain = pow(int.from_bytes(signature, "big"), exponent, modulus).to_bytes(4 * _WORDS, "big")
    tail = b"\0" + _SHA1_INFO + token
    return plain == b"\0\1" + b"\xff" * (4 * _WORDS - 2 - len(tail)) + tail


def _send_token(link: socket.socket) -> bytes:
    token = os.urandom(20)
    link.sendall(struct.pack("<6I", _AUTH, _TOKEN, 0, len(token), sum(token), _AUTH ^ 0xFFFFFFFF) + token)
    return token


def _receive(link: socket.socket) -> tuple[int, int, bytes, bytes] | None:
    """Command, its first argument, data, and all of it as it came."""
    header = _exactly(link, 24)
    if header is None:
        return None
    command, argument, _, length, _, _ = struct.unpack("<6I", header)
    data = _exactly(link, min(length, 1 << 20))
    return None if data is None else (command, argument, data, header + data)


def _exactly(link: socket.socket, size: int) -> bytes | None:
    found = b""
    while len(found) < size:
        part = link.recv(size - len(found))
        if not part:
            return None
        found += part
    return found


def _gone(link: socket.socket) -> bool:
    try:
        return link.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
