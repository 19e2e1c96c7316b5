"""Runs one command and writes what it took, as a process of its own: `python -I -S measured.py REPORT COMMAND...`.

A process starts with the memory mark of the one that made it. Made by a large one (a test runner that has loaded
torch), a small child would be called large; this launcher holds nothing, so what it starts is measured for what it is.
REPORT receives "WALL CPU MAXRSS": seconds, seconds, the system's unit of memory. The exit status is the command's.
"""

import os
import resource
import subprocess
import sys
import time


def main(report, command):
    started = time.perf_counter()
    status = subprocess.call(command)
    wall = time.perf_counter() - started
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(report, "w") as file:
        file.write(f"{wall} {usage.ru_utime + usage.ru_stime} {usage.ru_maxrss}")
    if status < 0:
        os.kill(os.getpid(), -status)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
