/* tundelay: a delay line in user space, for kernels that have no netem.
 *
 * Opens two TUN devices, carries IP packets between them and holds each one for
 * DELAY_US microseconds (one way) and, if RATE_MBIT > 0, behind a line of that
 * rate (endless queue, no loss).  network.py moves the devices into two network
 * namespaces, so real TCP runs over a real round trip: slow start, delayed ACKs,
 * Nagle and windows all take part, which a TCP proxy hides.  Stop it with SIGTERM.
 *
 *   cc -O2 -o tundelay tundelay.c;  ./tundelay DEVICE_A DEVICE_B DELAY_US [RATE_MBIT]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define SLOTS 32768
#define PKT 2048
struct slot { int64_t due; int len; };
struct queue { struct slot s[SLOTS]; uint8_t (*buf)[PKT]; unsigned head, tail; int64_t link_free; };

static int64_t now_ns(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000LL + t.tv_nsec; }

static int tun_open(const char *name) {
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    if (fd < 0) { perror("/dev/net/tun"); exit(1); }
    struct ifreq ifr; memset(&ifr, 0, sizeof ifr);
    ifr.ifr_flags = IFF_TUN | IFF_NO_PI;
    strncpy(ifr.ifr_name, name, IFNAMSIZ - 1);
    if (ioctl(fd, TUNSETIFF, &ifr) < 0) { perror("TUNSETIFF"); exit(1); }
    return fd;
}

int main(int argc, char **argv) {
    if (argc < 4) { fprintf(stderr, "usage: tundelay DEVICE_A DEVICE_B DELAY_US [RATE_MBIT]\n"); return 2; }
    int64_t delay = atoll(argv[3]) * 1000LL;
    double rate = argc > 4 ? atof(argv[4]) : 0;            /* Mbit/s, 0 = unlimited */
    double ns_per_byte = rate > 0 ? 8000.0 / rate : 0;
    int fd[2] = { tun_open(argv[1]), tun_open(argv[2]) };
    static struct queue q[2];
    for (int i = 0; i < 2; i++) { q[i].buf = malloc((size_t)SLOTS * PKT); q[i].head = q[i].tail = 0; q[i].link_free = 0; }
    prctl(PR_SET_TIMERSLACK, 1000);
    printf("ready\n"); fflush(stdout);
    unsigned long drops = 0;
    for (;;) {
        int64_t now = now_ns(), next = INT64_MAX;
        for (int i = 0; i < 2; i++) {
            struct queue *p = &q[i];
            while (p->head != p->tail) {
                struct slot *s = &p->s[p->head % SLOTS];
                if (s->due > now) { if (s->due < next) next = s->due; break; }
                if (write(fd[1 - i], p->buf[p->head % SLOTS], s->len) < 0 && errno == EAGAIN) { next = now + 50000; break; }
                p->head++;
            }
        }
        struct pollfd pf[2] = { { fd[0], POLLIN, 0 }, { fd[1], POLLIN, 0 } };
        struct timespec ts, *tp = NULL;
        if (next != INT64_MAX) { int64_t d = next - now_ns(); if (d < 0) d = 0; ts.tv_sec = d / 1000000000LL; ts.tv_nsec = d % 1000000000LL; tp = &ts; }
        if (ppoll(pf, 2, tp, NULL) < 0) { if (errno == EINTR) continue; return 1; }
        now = now_ns();
        for (int i = 0; i < 2; i++) if (pf[i].revents & POLLIN)
            for (int k = 0; k < 256; k++) {
                struct queue *p = &q[i];
                if (p->tail - p->head >= SLOTS) { uint8_t junk[PKT]; if (read(fd[i], junk, PKT) < 0) break; if (!drops++) fprintf(stderr, "queue full: dropping\n"); continue; }
                ssize_t n = read(fd[i], p->buf[p->tail % SLOTS], PKT);
                if (n <= 0) break;
                int64_t start = now;
                if (ns_per_byte > 0) { if (p->link_free > start) start = p->link_free; start += (int64_t)(n * ns_per_byte); p->link_free = start; }
                p->s[p->tail % SLOTS].due = start + delay; p->s[p->tail % SLOTS].len = n; p->tail++;
            }
    }
}
