/* Preloaded into both sides alike: every fsync and fdatasync takes SLOW_FSYNC_US microseconds longer.
 * A build machine's disk may answer a sync from a cache in 0.1 ms; a disk that keeps its word takes some milliseconds.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static void wait_us(void) {
    const char *set = getenv("SLOW_FSYNC_US");
    long us = set ? atol(set) : 0;
    struct timespec left = {us / 1000000, (us % 1000000) * 1000};
    while (nanosleep(&left, &left) != 0) {
    }
}

static int slowly(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    int result = real(fd);
    wait_us();
    return result;
}

int fsync(int fd) { return slowly("fsync", fd); }

int fdatasync(int fd) { return slowly("fdatasync", fd); }
