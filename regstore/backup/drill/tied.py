"""Run a program that dies when the process dies that started this: `tied.py PID PROGRAM ARGUMENT...`.

A script of its own, because what Python runs between fork and exec must not meet the locks of other threads.
Source: PR_SET_PDEATHSIG in prctl(2); it outlives execve(2).
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, and become the program."""
    parent, *command = sys.argv[1:]
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() == int(parent):  # else it died before the tie
        os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()
