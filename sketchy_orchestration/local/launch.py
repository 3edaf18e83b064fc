"""Becomes another program, after making itself a well-behaved child: run as a script, never imported.

A process with threads cannot safely run Python between fork and exec, so this small script, on the standard
library alone, stands in between. It takes a session of its own, resets the signals a shell may have had it
ignore, gives up root where it is told to, asks the kernel to be signalled when its parent dies, and then
executes the program.

Usage: launch.py '{"parent": pid, "death_signal": n, "uid": n, "gid": n}' program argument...
"""

import ctypes
import json
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    options = json.loads(sys.argv[1])
    if os.getpid() != os.getsid(0):
        os.setsid()
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        # The C library keeps two real-time signals for itself and refuses to have them touched.
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            continue
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    if options.get("uid") is not None:
        os.setgroups([])
        os.setgid(options["gid"])
        os.setuid(options["uid"])
        os.umask(0o077)
    # A change of credentials clears the request, so it comes after them.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, options["death_signal"], 0, 0, 0)
        if os.getppid() != options["parent"]:
            sys.exit(1)
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606  this is the whole purpose


if __name__ == "__main__":
    main()
