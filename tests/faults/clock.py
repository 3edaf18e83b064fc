"""A wall clock that a test sets, for processes that load it: it jumps when the test says so."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

HOUR = 3600.0

# The offset is mapped, not read: a jump reaches every process at once, and asking for the time costs no more.
_SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
static volatile double *offset;
__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("WRONG_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *found = file < 0 ? MAP_FAILED : mmap(0, sizeof(double), PROT_READ, MAP_SHARED, file, 0);
    offset = found == MAP_FAILED ? 0 : found;
}
int clock_gettime(clockid_t which, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int answer = real(which, at);
    if (offset && which == CLOCK_REALTIME) at->tv_sec += (time_t)*offset;
    return answer;
}
int gettimeofday(struct timeval *at, void *zone) {
    struct timespec now;
    int answer = clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return answer;
}
time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
"""


class WrongClock:
    """The clock of all processes that are started with `environment`.

    Args:
        folder: where those processes can read.
    """

    def __init__(self, folder: Path, offset: float) -> None:
        compiler = shutil.which("cc")
        if sys.platform != "linux" or compiler is None:
            pytest.skip("a clock of one's own for a process needs Linux and a C compiler")
        source, self._shim, self._offset = (folder / name for name in ("clock.c", "clock.so", "offset"))
        source.write_text(_SHIM, encoding="utf-8")
        subprocess.run(
            [compiler, "-O1", "-shared", "-fPIC", "-o", str(self._shim), str(source), "-ldl"], check=True
        )
        self._offset.write_bytes(struct.pack("d", offset))
        self.environment = {"LD_PRELOAD": str(self._shim), "WRONG_CLOCK": str(self._offset)}
        self.offset = offset
        self._assert_works()

    def jump_to(self, offset: float) -> None:
        """From now on the clock is so many seconds ahead of the real one, or behind."""
        self.offset = offset
        with self._offset.open("r+b") as file:
            file.write(struct.pack("d", offset))

    def _assert_works(self) -> None:
        said = subprocess.run(
            [sys.executable, "-c", "import time; print(time.time())"],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        ahead = float(said) - time.time()
        assert abs(ahead - self.offset) < 60, f"the clock is {ahead:.0f} s ahead, not {self.offset:.0f}"

    def is_loaded_by(self, pid: int) -> bool:
        """Whether that process really goes by this clock."""
        maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
        return str(self._shim) in maps and str(self._offset) in maps
