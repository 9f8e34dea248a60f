/* Moves the clock of one process: `SKEW_SECONDS` are added to what it reads as the time of day. The monotonic clock, by which
   waits are measured, stays. Loaded with LD_PRELOAD into the functions' binaries, which know nothing of it. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long skew;

__attribute__((constructor)) static void begin(void) {
    const char *seconds = getenv("SKEW_SECONDS");
    skew = seconds ? atol(seconds) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int failed = (int)syscall(SYS_clock_gettime, clock, time);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) time->tv_sec += skew;
    return failed;
}
