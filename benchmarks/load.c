/* A load generator: one thread, epoll, keep-alive, Linux only. `python -m benchmarks` compiles it.
 *
 * It keeps N connections to 127.0.0.1 busy, each with one request at a time, and checks every reply: its
 * status, its framing, and either each byte of the body (--expect) or each event of the stream
 * (--chunks). After the warm-up it measures for a fixed time, lets what is under way finish, and prints
 * one JSON object. Times are in microseconds.
 *
 *   load --port P --path /v1/chat/completions --token T --body FILE (--expect FILE | --chunks N)
 *        [--connections N] [--seconds S] [--warmup S] [--requests N] [--cpu-of PID,PID] [--hold]
 *        [--tokens N] [--models N]
 *
 * --requests  stop after so many replies, right or wrong, if that comes first.
 * --cpu-of    processes whose processor time is read at both ends of the measured time.
 * --hold      the measured time begins when every stream has sent a first chunk ("open" is printed
 *             then), and streams under way at its end are cut.
 * --tokens    "@@@@@@" in the token is a number that counts up from 000000 and begins again at N.
 * --models    the same for "@@@@@@" in the body.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MARK "@@@@@@"
#define MARK_DIGITS 6
#define LINE_MAX_BYTES 2048
#define HEAD_MAX_BYTES 8192
#define GRACE_NS 5000000000ull   /* for streams to open, and for replies under way at the end */
#define SAMPLES_MAX (16u << 20)

enum state { IDLE, HEAD, BODY, CHUNK_SIZE, CHUNK_BODY, CHUNK_END };
enum phase { WARMUP, MEASURE, DRAIN };
enum fault { STATUS, WRONG_BODY, FRAMING, CLOSED, CONNECT, UNFINISHED, FAULTS };

static const char *fault_names[FAULTS] = {"status", "body", "framing", "closed", "connect", "unfinished"};

struct conn {
    int fd;
    enum state state;
    uint64_t began_ns;
    char *head, *body;           /* of the request; the body is shared unless it is numbered */
    size_t sent;
    char line[LINE_MAX_BYTES];   /* of the reply: a head, a chunk size or a line of a stream, in parts */
    size_t line_len;
    char heads[HEAD_MAX_BYTES];
    size_t heads_len;
    size_t left, got;            /* bytes of this body or chunk to come; bytes of the body so far */
    bool closing, ok, ended;     /* ended: the stream said [DONE] */
    int chunks;
};

struct samples { uint64_t *ns; size_t n, cap; };

static struct {
    int port, connections, chunks, tokens, models;
    double seconds, warmup;
    uint64_t requests;
    const char *path, *token, *cpu_of;
    char *body, *expect;
    size_t body_len, expect_len;
    bool hold;
} option = {.path = "/v1/chat/completions", .token = "t", .connections = 1, .seconds = 1, .chunks = -1, .tokens = 1, .models = 1};

static int epoll_fd;
static enum phase phase;
static struct conn *conns;
static size_t head_len, token_at, model_at;
static bool has_token_mark, has_model_mark;
static uint64_t next_token, next_model, replies, all_replies, chunks, faults[FAULTS], reconnects;
static int opened, busy;
static struct samples latency, first_chunk, chunk_latency;
static char first_fault[400];

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- what is counted ----------------------------------------------------------------------------- */

static void sample(struct samples *s, uint64_t ns) {
    if (s->n == s->cap) {
        if (s->cap >= SAMPLES_MAX) return;
        s->cap = s->cap ? s->cap * 2 : 1 << 16;
        s->ns = realloc(s->ns, s->cap * sizeof *s->ns);
    }
    s->ns[s->n++] = ns;
}

static int by_size(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static double quantile_us(struct samples *s, double q) { return s->ns[(size_t)(q * (double)(s->n - 1) + 0.5)] / 1000.0; }

static void print_samples(const char *name, struct samples *s) {
    if (!s->n) { printf("\"%s\":null,", name); return; }
    qsort(s->ns, s->n, sizeof *s->ns, by_size);
    printf("\"%s\":{\"count\":%zu,\"min\":%.1f,\"median\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"max\":%.1f},", name, s->n,
           quantile_us(s, 0), quantile_us(s, .5), quantile_us(s, .9), quantile_us(s, .99), quantile_us(s, 1));
}

static void note(enum fault fault, const char *text, size_t len) {
    faults[fault]++;
    if (first_fault[0]) return;
    size_t at = (size_t)snprintf(first_fault, sizeof first_fault, "%s: ", fault_names[fault]);
    for (size_t i = 0; i < len && i < 200 && at < sizeof first_fault - 1; i++)
        first_fault[at++] = text[i] < ' ' || text[i] == '"' || text[i] == '\\' || text[i] > '~' ? ' ' : text[i];
}

/* Sum the processor time of every thread of the processes, in nanoseconds. */
static uint64_t cpu_ns(void) {
    uint64_t sum = 0;
    char list[4096];
    snprintf(list, sizeof list, "%s", option.cpu_of ? option.cpu_of : "");
    for (char *pid = strtok(list, ","); pid; pid = strtok(NULL, ",")) {
        char path[300];
        snprintf(path, sizeof path, "/proc/%s/task", pid);
        DIR *tasks = opendir(path);
        for (struct dirent *task; tasks && (task = readdir(tasks));) {
            snprintf(path, sizeof path, "/proc/%s/task/%.20s/schedstat", pid, task->d_name);
            FILE *f = task->d_name[0] == '.' ? NULL : fopen(path, "r");
            unsigned long long ran;
            if (f && fscanf(f, "%llu", &ran) == 1) sum += ran;
            if (f) fclose(f);
        }
        if (tasks) closedir(tasks);
    }
    return sum;
}

/* ---- requests ------------------------------------------------------------------------------------ */

static void number(char *at, uint64_t n) {
    for (int i = MARK_DIGITS - 1; i >= 0; i--, n /= 10) at[i] = (char)('0' + n % 10);
}

static void watch(struct conn *c, uint32_t events) {
    struct epoll_event e = {.events = events, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
}

static void hang_up(struct conn *c) {
    if (c->state != IDLE) busy--;
    c->state = IDLE;
    close(c->fd);
    c->fd = -1;
}

static bool dial(struct conn *c) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)option.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to)) {  /* blocking: it is this machine */
        note(CONNECT, strerror(errno), strlen(strerror(errno)));
        close(c->fd);
        c->fd = -1;
        return false;
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e);
    return true;
}

static void send_rest(struct conn *c) {
    size_t head_left = c->sent < head_len ? head_len - c->sent : 0;
    size_t body_sent = c->sent > head_len ? c->sent - head_len : 0;
    struct iovec parts[2] = {{c->head + (head_len - head_left), head_left}, {c->body + body_sent, option.body_len - body_sent}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t n = sendmsg(c->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    bool waited = c->sent > 0;
    if (n > 0) c->sent += (size_t)n;
    /* A connection that cannot be written is reported when it is read. */
    if (c->sent < head_len + option.body_len) { if (!waited) watch(c, EPOLLIN | EPOLLOUT); }
    else if (waited) watch(c, EPOLLIN);
}

static void ask(struct conn *c) {
    if (phase == DRAIN || (c->fd < 0 && !dial(c))) return;
    if (has_token_mark) { number(c->head + token_at, next_token); next_token = (next_token + 1) % (uint64_t)option.tokens; }
    if (has_model_mark) { number(c->body + model_at, next_model); next_model = (next_model + 1) % (uint64_t)option.models; }
    c->state = HEAD;
    c->sent = c->line_len = c->heads_len = c->left = c->got = 0;
    c->closing = c->ended = false;
    c->ok = true;
    c->chunks = 0;
    busy++;
    c->began_ns = now_ns();
    send_rest(c);
}

/* ---- replies ------------------------------------------------------------------------------------- */

static void wrong(struct conn *c, enum fault fault, const char *text, size_t len) {
    if (c->ok) note(fault, text, len);
    c->ok = false;
}

static void finish(struct conn *c) {
    static const char *cut = "the stream ended without [DONE]", *few = "not the number of chunks", *length = "not the length";
    if (option.chunks >= 0 && !c->ended) wrong(c, WRONG_BODY, cut, strlen(cut));
    if (option.chunks >= 0 && c->chunks != option.chunks) wrong(c, WRONG_BODY, few, strlen(few));
    if (option.expect && c->got != option.expect_len) wrong(c, WRONG_BODY, length, strlen(length));
    all_replies++;
    if (phase == MEASURE && c->ok) {
        replies++;
        sample(&latency, now_ns() - c->began_ns);
    }
    busy--;
    c->state = IDLE;
    if (c->closing) { reconnects++; hang_up(c); }
    ask(c);
}

static uint64_t digits(const char *at, const char *end) {
    uint64_t n = 0;
    for (; at < end && *at >= '0' && *at <= '9'; at++) n = n * 10 + (uint64_t)(*at - '0');
    return n;
}

static void hear_event(struct conn *c, const char *line, size_t len) {
    static const char content[] = "\"content\":\"";
    if (len && line[len - 1] == '\r') len--;
    if (!len || line[0] == ':') return;   /* the end of an event, or a comment */
    if (c->ended || len < 6 || memcmp(line, "data: ", 6)) { wrong(c, WRONG_BODY, line, len); return; }
    if (len == 12 && !memcmp(line, "data: [DONE]", 12)) { c->ended = true; return; }
    if (len < 30 || line[6] != '{' || line[len - 1] != '}' || !memmem(line, len, "chat.completion.chunk", 21)) {
        wrong(c, WRONG_BODY, line, len);
        return;
    }
    if (c->chunks++ == 0) {
        opened++;
        if (phase == MEASURE) sample(&first_chunk, now_ns() - c->began_ns);
    }
    if (phase != MEASURE) return;
    chunks++;
    const char *at = memmem(line, len, content, sizeof content - 1);
    uint64_t written_ns = at ? digits(at + sizeof content - 1, line + len) : 0;
    if (written_ns) sample(&chunk_latency, now_ns() - written_ns);
}

static void hear_lines(struct conn *c, const char *at, size_t len) {
    while (len) {
        const char *end = memchr(at, '\n', len);
        size_t part = end ? (size_t)(end - at) : len;
        if (end && !c->line_len) hear_event(c, at, part);
        else {
            size_t fits = part < sizeof c->line - c->line_len ? part : sizeof c->line - c->line_len;
            memcpy(c->line + c->line_len, at, fits);
            c->line_len += fits;
            if (end) { hear_event(c, c->line, c->line_len); c->line_len = 0; }
        }
        part += end ? 1 : 0;
        at += part;
        len -= part;
    }
}

static void hear_body(struct conn *c, const char *at, size_t len) {
    if (!c->ok) { c->got += len; return; }
    if (option.chunks >= 0) hear_lines(c, at, len);
    else if (option.expect && (c->got + len > option.expect_len || memcmp(option.expect + c->got, at, len))) wrong(c, WRONG_BODY, at, len);
    c->got += len;
}

/* Read the head of a reply, which ends at `len`. False when it is not one. */
static bool hear_head(struct conn *c, char *head, size_t len) {
    bool length = false, chunked = false;
    head[len - 1] = 0;
    if (strncmp(head, "HTTP/1.1 ", 9)) return false;
    if (strncmp(head + 9, "200 ", 4)) wrong(c, STATUS, head + 9, strcspn(head + 9, "\r"));
    for (char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (!strncasecmp(line, "content-length:", 15)) { length = true; c->left = strtoul(line + 15, NULL, 10); }
        else if (!strncasecmp(line, "transfer-encoding:", 18)) chunked = strcasestr(line, "chunked") != NULL;
        else if (!strncasecmp(line, "connection:", 11)) c->closing = !strncasecmp(line + 11 + strspn(line + 11, " "), "close", 5);
    }
    if (length == chunked) return false;
    c->state = chunked ? CHUNK_SIZE : BODY;
    c->heads_len = 0;
    return true;
}

/* Take as much of a line that ends with CR LF as is here, keeping it in `heads`. True when it is whole. */
static bool take_until(struct conn *c, const char *mark, size_t mark_len, const char **at, size_t *len) {
    size_t fits = sizeof c->heads - 1 - c->heads_len < *len ? sizeof c->heads - 1 - c->heads_len : *len;
    memcpy(c->heads + c->heads_len, *at, fits);
    char *end = memmem(c->heads, c->heads_len + fits, mark, mark_len);
    size_t used = end ? (size_t)(end - c->heads) + mark_len - c->heads_len : fits;
    c->heads_len += used;
    *at += used;
    *len -= used;
    return end != NULL;
}

static bool framing_fault(struct conn *c) {
    wrong(c, FRAMING, c->heads, c->heads_len);
    hang_up(c);
    ask(c);
    return false;
}

/* Take one element of the reply. False when there is nothing more to take. */
static bool hear_some(struct conn *c, const char **at, size_t *len) {
    size_t n = *len < c->left ? *len : c->left;
    switch (c->state) {
    case IDLE:
        return framing_fault(c);  /* bytes that nothing asked for */
    case HEAD:
        if (!take_until(c, "\r\n\r\n", 4, at, len)) return c->heads_len < sizeof c->heads - 1 ? false : framing_fault(c);
        if (!hear_head(c, c->heads, c->heads_len)) return framing_fault(c);
        if (c->state == BODY && !c->left) finish(c);
        return c->fd >= 0;
    case BODY:
    case CHUNK_BODY:
        hear_body(c, *at, n);
        *at += n;
        *len -= n;
        c->left -= n;
        if (c->left) return false;
        if (c->state == BODY) finish(c);
        else c->state = CHUNK_END;
        return c->fd >= 0;
    case CHUNK_SIZE: {
        if (!take_until(c, "\r\n", 2, at, len)) return c->heads_len < 100 ? false : framing_fault(c);
        char *stop;
        c->left = strtoul(c->heads, &stop, 16);
        if (stop == c->heads) return framing_fault(c);
        c->heads_len = 0;
        c->state = CHUNK_BODY;
        if (!c->left) { c->left = (size_t)-1; c->state = CHUNK_END; }  /* the last chunk; no trailers are expected */
        return true;
    }
    case CHUNK_END:
        if (!take_until(c, "\r\n", 2, at, len)) return c->heads_len < 100 ? false : framing_fault(c);
        if (c->heads_len != 2) return framing_fault(c);
        c->heads_len = 0;
        if (c->left) finish(c);
        else c->state = CHUNK_SIZE;
        return c->fd >= 0;
    }
    return false;
}

static void hear(struct conn *c) {
    static char buffer[1 << 18];
    ssize_t got = recv(c->fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        static const char *early = "the connection closed before the reply had ended";
        if (c->state != IDLE) wrong(c, CLOSED, early, strlen(early));
        hang_up(c);
        ask(c);
        return;
    }
    const char *at = buffer;
    size_t len = (size_t)got;
    while (len && hear_some(c, &at, &len)) {}
}

/* ---- the run ------------------------------------------------------------------------------------- */

static void turn(uint64_t until_ns) {
    struct epoll_event events[512];
    uint64_t now = now_ns();
    struct timespec wait = {0};
    if (until_ns > now) { wait.tv_sec = (time_t)((until_ns - now) / 1000000000u); wait.tv_nsec = (long)((until_ns - now) % 1000000000u); }
    int n = epoll_pwait2(epoll_fd, events, 512, &wait, NULL);
    for (int i = 0; i < n; i++) {
        struct conn *c = events[i].data.ptr;
        if (c->fd < 0) continue;
        if (events[i].events & EPOLLOUT) send_rest(c);
        if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) hear(c);
    }
}

static bool failing(void) {
    uint64_t sum = 0;
    for (int i = 0; i < FAULTS; i++) sum += faults[i];
    return sum > 1000;   /* a wrong address need not be tried for seconds */
}

static void run_until(uint64_t ns) {
    while (now_ns() < ns && busy && !failing() && !(option.requests && all_replies >= option.requests)) turn(ns);
}

static void warm_up(uint64_t began) {
    if (!option.hold) { run_until(began + (uint64_t)(option.warmup * 1e9)); return; }
    while (opened < option.connections && busy && now_ns() < began + GRACE_NS && !failing()) turn(began + GRACE_NS);
    printf("open\n");
    fflush(stdout);
}

static char *read_file(const char *path, size_t *len) {
    FILE *f = fopen(path, "rb");
    if (!f) { perror(path); exit(2); }
    char *text = NULL;
    *len = 0;
    for (size_t n = 1; n;) {
        text = realloc(text, *len + 65537);
        n = fread(text + *len, 1, 65536, f);
        *len += n;
    }
    text[*len] = 0;
    fclose(f);
    return text;
}

static void prepare(void) {
    char head[2048];
    head_len = (size_t)snprintf(head, sizeof head,
        "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"
        "Accept: application/json\r\nUser-Agent: OpenAI/Python 1.109.1\r\nContent-Length: %zu\r\n\r\n",
        option.path, option.port, option.token, option.body_len);
    char *mark = strstr(head, MARK), *body_mark = strstr(option.body, MARK);
    has_token_mark = mark != NULL;
    has_model_mark = body_mark != NULL;
    if (mark) token_at = (size_t)(mark - head);
    if (body_mark) model_at = (size_t)(body_mark - option.body);
    conns = calloc((size_t)option.connections, sizeof *conns);
    for (int i = 0; i < option.connections; i++) {
        conns[i].fd = -1;
        conns[i].head = strdup(head);
        conns[i].body = body_mark ? strdup(option.body) : option.body;
    }
}

static void read_options(int argc, char **argv) {
    static const struct option names[] = {
        {"port", 1, 0, 'p'}, {"path", 1, 0, 'P'}, {"token", 1, 0, 't'}, {"body", 1, 0, 'b'}, {"expect", 1, 0, 'e'},
        {"chunks", 1, 0, 'c'}, {"connections", 1, 0, 'n'}, {"seconds", 1, 0, 's'}, {"warmup", 1, 0, 'w'},
        {"requests", 1, 0, 'r'}, {"cpu-of", 1, 0, 'u'}, {"hold", 0, 0, 'h'}, {"tokens", 1, 0, 'T'}, {"models", 1, 0, 'M'}, {0}};
    for (int o; (o = getopt_long(argc, argv, "", names, NULL)) != -1;) switch (o) {
        case 'p': option.port = atoi(optarg); break;
        case 'P': option.path = optarg; break;
        case 't': option.token = optarg; break;
        case 'b': option.body = read_file(optarg, &option.body_len); break;
        case 'e': option.expect = read_file(optarg, &option.expect_len); break;
        case 'c': option.chunks = atoi(optarg); break;
        case 'n': option.connections = atoi(optarg); break;
        case 's': option.seconds = atof(optarg); break;
        case 'w': option.warmup = atof(optarg); break;
        case 'r': option.requests = strtoull(optarg, NULL, 10); break;
        case 'u': option.cpu_of = optarg; break;
        case 'h': option.hold = true; break;
        case 'T': option.tokens = atoi(optarg); break;
        case 'M': option.models = atoi(optarg); break;
        default: exit(2);
    }
    if (!option.port || !option.body || (!option.expect && option.chunks < 0) || option.connections < 1) {
        fprintf(stderr, "load: --port, --body and one of --expect and --chunks are needed\n");
        exit(2);
    }
}

static void print_result(double seconds, uint64_t used_ns) {
    uint64_t sum = 0;
    printf("{\"seconds\":%.6f,\"replies\":%llu,\"requests_per_s\":%.1f,\"chunks\":%llu,\"chunks_per_s\":%.1f,\"reconnects\":%llu,",
           seconds, (unsigned long long)replies, replies / seconds, (unsigned long long)chunks, chunks / seconds, (unsigned long long)reconnects);
    if (option.cpu_of) printf("\"cpu_us\":%.1f,", used_ns / 1000.0);
    print_samples("latency", &latency);
    print_samples("first_chunk", &first_chunk);
    print_samples("chunk_latency", &chunk_latency);
    printf("\"faults\":{");
    for (int i = 0; i < FAULTS; i++) {
        sum += faults[i];
        printf("%s\"%s\":%llu", i ? "," : "", fault_names[i], (unsigned long long)faults[i]);
    }
    printf("},\"errors\":%llu,\"first_error\":\"%s\"}\n", (unsigned long long)sum, first_fault);
}

int main(int argc, char **argv) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);  /* never outlive the benchmark */
    read_options(argc, argv);
    prepare();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    uint64_t began = now_ns();
    for (int i = 0; i < option.connections; i++) ask(&conns[i]);
    warm_up(began);
    uint64_t cpu_before = cpu_ns();
    began = now_ns();
    phase = MEASURE;
    run_until(began + (uint64_t)(option.seconds * 1e9));
    uint64_t ended = now_ns();
    uint64_t used_ns = cpu_ns() - cpu_before;
    phase = DRAIN;
    while (!option.hold && busy && now_ns() < ended + GRACE_NS) turn(ended + GRACE_NS);
    if (option.hold) {
        static const char *unopened = "not every stream sent a first chunk";
        if (opened < option.connections) note(UNFINISHED, unopened, strlen(unopened));
    } else if (busy) {
        static const char *late = "no end of the reply within 5 seconds";
        note(UNFINISHED, late, strlen(late));
        faults[UNFINISHED] += (uint64_t)busy - 1;
    }
    print_result((ended - began) / 1e9, used_ns);
    return 0;
}
