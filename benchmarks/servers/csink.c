#define _GNU_SOURCE
/* csink: an SMTP server that costs next to nothing, to find a client's own limit.
 * ESMTP with PIPELINING, CHUNKING, 8BITMIME, SIZE, SMTPUTF8; drops all mail.
 * One child per connection.  Replies are flushed only when no input is pending.
 *   csink ADDR PORT [-d] [-D usec] [-m MAX] [-c CUT]
 *     -d      do not offer CHUNKING        -p  do not offer PIPELINING
 *     -D n    spend n microseconds asleep per accepted message (server cost)
 *     -m n    421 to MAIL after n messages (like Exim smtp_accept_max_per_connection)
 *     -c n    close the socket with no reply after receiving message n
 *     -r n    550 to every n-th RCPT
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

static char in[1 << 18], out[1 << 16]; static size_t ip, il, ol; static int fd;
static void flush_out(void) { size_t o = 0; while (o < ol) { ssize_t n = write(fd, out + o, ol - o); if (n <= 0) _exit(0); o += n; } ol = 0; }
static void say(const char *s) { size_t n = strlen(s); if (ol + n > sizeof out) flush_out(); memcpy(out + ol, s, n); ol += n; }
static void fill(void) { if (ip == il) ip = il = 0; if (il == sizeof in) { memmove(in, in + ip, il - ip); il -= ip; ip = 0; } 
    if (ol) flush_out();
    ssize_t n = read(fd, in + il, sizeof in - il); if (n <= 0) _exit(0);
    il += n; }
static char *line(void) { size_t from = ip; for (;;) { char *p = memchr(in + from, '\n', il - from); if (p) { char *l = in + ip; *p = 0; if (p > l && p[-1] == '\r') p[-1] = 0; ip = p - in + 1; return l; }
    size_t seen = il - ip; fill(); from = ip + seen; if (seen > 100000) _exit(1); } }

int main(int argc, char **argv) {
    int chunk = 1, pipel = 1, us = 0, max = 0, cut = 0, rej = 0, c;
    const char *addr = argv[1]; int port = atoi(argv[2]); optind = 3;
    while ((c = getopt(argc, argv, "dpD:m:c:r:")) > 0) { if (c == 'd') chunk = 0; if (c == 'p') pipel = 0; if (c == 'D') us = atoi(optarg); if (c == 'm') max = atoi(optarg); if (c == 'c') cut = atoi(optarg); if (c == 'r') rej = atoi(optarg); }
    int s = socket(AF_INET, SOCK_STREAM, 0), one = 1; setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) }; inet_pton(AF_INET, addr, &a.sin_addr);
    if (bind(s, (void *)&a, sizeof a) || listen(s, 64)) { perror("bind"); return 1; }
    signal(SIGCHLD, SIG_IGN);
    for (;;) { fd = accept(s, 0, 0); if (fd < 0) continue; if (fork() == 0) { close(s); break; } close(fd); }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    say("220 csink ESMTP\r\n"); int rc = 0, nr = 0; long nm = 0; char b[128];
    for (;;) {
        char *l = line();
        if (!strncasecmp(l, "MAIL", 4)) { if (max && nm >= max) { say("421 4.7.0 too many messages in this connection\r\n"); flush_out(); _exit(0); } rc = 0; say("250 2.1.0 Ok\r\n"); }
        else if (!strncasecmp(l, "RCPT", 4)) { if (rej && ++nr % rej == 0) say("550 5.1.1 no such user\r\n"); else { rc++; say("250 2.1.5 Ok\r\n"); } }
        else if (!strncasecmp(l, "BDAT", 4)) { size_t n = strtoul(l + 5, 0, 10); int last = strcasestr(l, "LAST") != 0;
            while (n) { if (ip == il) fill(); size_t k = il - ip < n ? il - ip : n; ip += k; n -= k; }
            if (!rc) say("554 5.5.1 no valid recipients\r\n"); else if (last) { nm++; if (cut && nm == cut) _exit(0); if (us) usleep(us); snprintf(b, sizeof b, "250 2.0.0 Ok: queued as %lX\r\n", nm); say(b); rc = 0; } else say("250 2.0.0 Ok\r\n"); }
        else if (!strncasecmp(l, "DATA", 4)) { if (!rc) { say("554 5.5.1 no valid recipients\r\n"); continue; }
            say("354 go\r\n"); for (;;) { if (ip == il) fill(); char *p;
                if (il - ip >= 3 && in[ip] == '.' && in[ip + 1] == '\r' && in[ip + 2] == '\n') { ip += 3; break; }   /* at a line start */
                if (il - ip < 3) { memmove(in, in + ip, il - ip); il -= ip; ip = 0; if (ol) flush_out(); ssize_t n = read(fd, in + il, sizeof in - il); if (n <= 0) _exit(0); il += n; continue; }
                p = memmem(in + ip, il - ip, "\r\n.\r\n", 5);
                if (p) { ip = p - in + 5; break; }
                size_t keep = 4; if (il - ip > keep) ip = il - keep; memmove(in, in + ip, il - ip); il -= ip; ip = 0; if (ol) flush_out(); ssize_t n = read(fd, in + il, sizeof in - il); if (n <= 0) _exit(0); il += n; 
                /* the kept tail is mid-line: search only for the full terminator from here */
                for (;;) { p = memmem(in, il, "\r\n.\r\n", 5); if (p) break; if (il > 4) { memmove(in, in + il - 4, 4); il = 4; } n = read(fd, in + il, sizeof in - il); if (n <= 0) _exit(0); il += n; }
                ip = p - in + 5; break; }
            nm++; if (cut && nm == cut) _exit(0); if (us) usleep(us); snprintf(b, sizeof b, "250 2.0.0 Ok: queued as %lX\r\n", nm); say(b); rc = 0; }
        else if (!strncasecmp(l, "EHLO", 4)) { say("250-csink\r\n"); if (pipel) say("250-PIPELINING\r\n"); if (chunk) say("250-CHUNKING\r\n"); say("250-SIZE 10240000\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"); }
        else if (!strncasecmp(l, "HELO", 4) || !strncasecmp(l, "NOOP", 4)) say("250 2.0.0 Ok\r\n");
        else if (!strncasecmp(l, "RSET", 4)) { rc = 0; say("250 2.0.0 Ok\r\n"); }
        else if (!strncasecmp(l, "QUIT", 4)) { say("221 2.0.0 Bye\r\n"); flush_out(); _exit(0); }
        else say("500 5.5.2 what?\r\n");
    }
}
