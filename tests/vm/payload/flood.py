"""Run in the hub's user domain: cause denials at a given rate. argv: count, rate per second, kind.

Each open of the hub's cookie secret directory listing is one event with one denied permission. Kinds vary the class, so that
the count of each can be compared with the evidence.
"""

import os
import socket
import sys
import time

count, pace = int(sys.argv[1]), float(sys.argv[2])
for number in range(count):
    try:
        if number % 2:
            os.listdir("/etc/jupyterhub/open")
        else:
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    except OSError:
        pass
    time.sleep(1.0 / pace)
