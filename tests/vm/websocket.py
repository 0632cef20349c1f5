"""The parts of RFC 6455 that a test client needs: connect, send text, receive text and binary messages."""

from __future__ import annotations

import base64
import os
import socket
import ssl
import struct
from typing import Union

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class WebSocketError(Exception):
    """The server refused the upgrade, closed the connection, or said nothing in time."""


class WebSocket:
    """A client connection; every wait is bounded by `timeout` seconds."""

    def __init__(
        self, host: str, port: int, path: str, headers: dict[str, str], context: ssl.SSLContext, timeout: float
    ) -> None:
        plain = socket.create_connection((host, port), timeout=timeout)
        self.link = context.wrap_socket(plain, server_hostname=host)
        self.link.settimeout(timeout)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {path} HTTP/1.1", f"Host: {host}:{port}", "Upgrade: websocket", "Connection: Upgrade"]
        lines += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", f"Origin: https://{host}:{port}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.link.sendall("\r\n".join([*lines, "", ""]).encode())
        self.rest = b""
        head = self._until(b"\r\n\r\n").decode(errors="replace")
        if " 101 " not in head.splitlines()[0]:
            self.link.close()
            raise WebSocketError(f"no websocket at {path.split('?')[0]}: {head.splitlines()[0]}")

    def _more(self) -> None:
        try:
            piece = self.link.recv(65536)
        except OSError as error:
            raise WebSocketError(f"nothing came over the websocket: {error}") from error
        if not piece:
            raise WebSocketError("the server closed the websocket")
        self.rest += piece

    def _until(self, mark: bytes) -> bytes:
        while mark not in self.rest:
            self._more()
        head, self.rest = self.rest.split(mark, 1)
        return head

    def _take(self, count: int) -> bytes:
        while len(self.rest) < count:
            self._more()
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def _send(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
        elif size < 65536:
            head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
        mask = os.urandom(4)
        body = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        self.link.sendall(head + mask + body)

    def send(self, text: str) -> None:
        self._send(TEXT, text.encode())

    def receive(self) -> Union[str, bytes]:
        """The next whole message. :raises WebSocketError: closed, or nothing in time"""
        message = b""
        kind = TEXT
        while True:
            first, second = self._take(2)
            size = second & 0x7F
            if size == 126:
                size = struct.unpack("!H", self._take(2))[0]
            elif size == 127:
                size = struct.unpack("!Q", self._take(8))[0]
            payload = self._take(size)
            opcode = first & 0x0F
            if opcode == PING:
                self._send(PONG, payload)
                continue
            if opcode == PONG:
                continue
            if opcode == CLOSE:
                raise WebSocketError(f"the server closed the websocket: {payload[2:].decode(errors='replace')}")
            if opcode:
                kind = opcode
            message += payload
            if first & 0x80:
                return message.decode() if kind == TEXT else message

    def close(self) -> None:
        self.link.close()
