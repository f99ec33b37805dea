/* A fake OpenAI upstream: one thread, epoll, keep-alive, Linux only. `python -m benchmarks` compiles it.
 *
 * It answers POST /v1/chat/completions and POST /v1/embeddings on 127.0.0.1 and prints its port on
 * standard output. What it is sent is checked: 401 without a bearer token, 400 for what is not such a
 * request. `"stream": true` gets 50 chunks of about 310 bytes, each in a write of its own, in turns with
 * the other streams; the model `paced-MS-COUNT` gets COUNT chunks, one every MS milliseconds. The
 * content of each chunk is the CLOCK_MONOTONIC time, in nanoseconds, at which it was written.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
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
#include <time.h>
#include <unistd.h>

#define CHUNKS 50
#define CHUNK_BYTES 310
#define TIME_DIGITS 19
#define SLOTS 1024               /* of the wheel of paced streams, one per millisecond */
#define MAX_REQUEST (64u << 20)

enum kind { NO_STREAM, FAST, PACED };

struct conn {
    int fd;
    char *in;                    /* bytes received and not yet answered */
    size_t in_len, in_cap;
    char *out;                   /* what the socket did not take yet */
    size_t out_len, out_off;
    enum kind kind;              /* of the stream that is being sent */
    bool usage;                  /* the caller asked for the last chunk with usage */
    int chunks_left, interval_ms;
    uint64_t due_ms;
    struct conn *next, *prev;    /* the ring of FAST streams, or the slot of a PACED one */
};

struct template { char text[1024]; size_t len, time_at; };

static int epoll_fd;
static struct conn fast_ring, wheel[SLOTS], dead;
static int fast_count, paced_count;
static uint64_t wheel_ms;
static unsigned arrivals;
static struct template content[2], last[2], usage_chunk, done;
static char chat_reply[2048], embedding_reply[4096];
static size_t chat_reply_len, embedding_reply_len;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- what is said -------------------------------------------------------------------------------- */

static void frame(struct template *to, const char *event) {
    size_t len = strlen(event);
    to->len = (size_t)snprintf(to->text, sizeof to->text, "%zx\r\n%s\r\n", len, event);
    char *at = strstr(to->text, "#");
    to->time_at = at ? (size_t)(at - to->text) : 0;
}

static void make_chunk(struct template *to, const char *choices, const char *usage, bool padded) {
    const char *form = "data: {\"id\":\"chatcmpl-CfNq2vTgBzYw8LmXk1RjHs4PeUa7D\",\"object\":\"chat.completion.chunk\","
                       "\"created\":1763950000,\"model\":\"gpt-4o-mini-2024-07-18\","
                       "\"system_fingerprint\":\"fp_34a54ae93c\",\"choices\":[%s]%s,\"obfuscation\":\"%.*s\"}\n\n";
    const char *noise = "u8Jq1ZkP0wXc7RtYv3NbLs9GhDf2MaEo6TiKj5UxQp4WzCy8VrSn1BlHg7FdAm3Oe0";
    char event[1000];
    int bare = snprintf(event, sizeof event, form, choices, "", 0, noise);
    int pad = padded && bare < CHUNK_BYTES ? CHUNK_BYTES - bare : 2;
    snprintf(event, sizeof event, form, choices, usage, pad, noise);
    frame(to, event);
}

static void make_replies(void) {
    /* '#' stands where the time is written; it is in no other place. */
    const char *piece = "{\"index\":0,\"delta\":{\"content\":\"###################\"},\"logprobs\":null,\"finish_reason\":null}";
    const char *stop = "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}";
    const char *total = ",\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":50,\"total_tokens\":69,"
                        "\"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},"
                        "\"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0}}";
    make_chunk(&content[0], piece, "", true);
    make_chunk(&content[1], piece, ",\"usage\":null", true);
    make_chunk(&last[0], stop, "", true);
    make_chunk(&last[1], stop, ",\"usage\":null", true);
    make_chunk(&usage_chunk, "", total, false);
    frame(&done, "data: [DONE]\n\n");
    memcpy(done.text + done.len, "0\r\n\r\n", 6);
    done.len += 5;

    const char *chat = "{\"id\":\"chatcmpl-CfNq2vTgBzYw8LmXk1RjHs4PeUa7D\",\"object\":\"chat.completion\","
        "\"created\":1763950000,\"model\":\"gpt-4o-mini-2024-07-18\",\"choices\":[{\"index\":0,\"message\":{"
        "\"role\":\"assistant\",\"content\":\"Hello! How can I help you today?\",\"refusal\":null,\"annotations\":[]},"
        "\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":10,"
        "\"total_tokens\":29,\"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},"
        "\"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0}},"
        "\"service_tier\":\"default\",\"system_fingerprint\":\"fp_34a54ae93c\"}";
    const char *head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-request-id: req_3f9a8c0b\r\n"
                       "openai-processing-ms: 1\r\nContent-Length: %zu\r\n\r\n%s";
    chat_reply_len = (size_t)snprintf(chat_reply, sizeof chat_reply, head, strlen(chat), chat);

    char vector[3000] = "";
    size_t at = 0;
    for (int i = 0; i < 128; i++)
        at += (size_t)snprintf(vector + at, sizeof vector - at, "%s%.8f", i ? "," : "", (i * 37 % 101 - 50) / 999.0);
    char body[3500];
    int len = snprintf(body, sizeof body, "{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"index\":0,"
        "\"embedding\":[%s]}],\"model\":\"text-embedding-3-small\",\"usage\":{\"prompt_tokens\":8,\"total_tokens\":8}}", vector);
    embedding_reply_len = (size_t)snprintf(embedding_reply, sizeof embedding_reply, head, (size_t)len, body);
}

/* ---- connections --------------------------------------------------------------------------------- */

static void leave_list(struct conn *c) {
    if (!c->next) return;
    c->prev->next = c->next;
    c->next->prev = c->prev;
    c->next = c->prev = NULL;
    if (c->kind == FAST) fast_count--;
    if (c->kind == PACED) paced_count--;
}

static void join_list(struct conn *c, struct conn *list) {
    c->prev = list->prev;
    c->next = list;
    list->prev->next = c;
    list->prev = c;
    if (c->kind == FAST) fast_count++;
    if (c->kind == PACED) paced_count++;
}

/* Close now and free at the end of the turn: later events of this turn may still name it. */
static void drop(struct conn *c) {
    if (c->fd < 0) return;
    leave_list(c);
    close(c->fd);
    c->fd = -1;
    c->kind = NO_STREAM;
    join_list(c, &dead);
}

static void free_dead(void) {
    while (dead.next != &dead) {
        struct conn *c = dead.next;
        leave_list(c);
        free(c->in);
        free(c->out);
        free(c);
    }
}

static void watch(struct conn *c, uint32_t events) {
    struct epoll_event e = {.events = events, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
}

static void say(struct conn *c, const char *bytes, size_t len) {
    ssize_t sent = 0;
    if (c->out_len == 0) {
        sent = send(c->fd, bytes, len, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) { drop(c); return; }
        if (sent < 0) sent = 0;
        if ((size_t)sent == len) return;
        watch(c, EPOLLIN | EPOLLOUT);
    }
    size_t rest = len - (size_t)sent;
    c->out = realloc(c->out, c->out_len + rest);
    memcpy(c->out + c->out_len, bytes + sent, rest);
    c->out_len += rest;
}

static void say_more(struct conn *c) {
    ssize_t sent = send(c->fd, c->out + c->out_off, c->out_len - c->out_off, MSG_NOSIGNAL);
    if (sent < 0) { if (errno != EAGAIN) drop(c); return; }
    c->out_off += (size_t)sent;
    if (c->out_off < c->out_len) return;
    c->out_len = c->out_off = 0;
    watch(c, EPOLLIN);
}

static void say_template(struct conn *c, struct template *t) {
    if (t->time_at) {
        uint64_t left = now_ns();
        for (int i = TIME_DIGITS - 1; i >= 0; i--, left /= 10) t->text[t->time_at + (size_t)i] = (char)('0' + left % 10);
    }
    say(c, t->text, t->len);
}

static void answer_next(struct conn *c);

/* Send the next chunk of a stream. False when the stream has ended. */
static bool stream_on(struct conn *c) {
    if (c->out_len) return true;  /* the reader is slower than we are */
    int left = --c->chunks_left;
    if (left > 0) say_template(c, &content[c->usage]);
    else if (left == 0) say_template(c, &last[c->usage]);
    else if (c->usage) { c->usage = false; say_template(c, &usage_chunk); }
    else { say_template(c, &done); return false; }
    return true;
}

static void end_stream(struct conn *c) {
    if (c->fd < 0) return;
    leave_list(c);
    c->kind = NO_STREAM;
    answer_next(c);
}

static void begin_stream(struct conn *c, bool usage, int interval_ms, int chunks) {
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
        "x-request-id: req_3f9a8c0b\r\nopenai-processing-ms: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    c->usage = usage;
    c->chunks_left = chunks;
    c->interval_ms = interval_ms;
    c->kind = interval_ms ? PACED : FAST;
    say(c, head, sizeof head - 1);
    if (c->fd < 0) return;
    if (c->kind == FAST) { join_list(c, &fast_ring); return; }
    /* Streams that begin together are spread over the interval. */
    if (!paced_count) wheel_ms = now_ns() / 1000000;
    c->due_ms = wheel_ms + 1 + arrivals++ * 7 % (unsigned)interval_ms;
    join_list(c, &wheel[c->due_ms % SLOTS]);
}

/* ---- requests ------------------------------------------------------------------------------------ */

static void refuse(struct conn *c, int status, const char *why) {
    char body[300], all[600];
    int n = snprintf(body, sizeof body, "{\"error\":{\"message\":\"%s\",\"type\":\"invalid_request_error\",\"code\":null}}", why);
    n = snprintf(all, sizeof all, "HTTP/1.1 %d Refused\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", status, n, body);
    say(c, all, (size_t)n);
}

/* Find the value of a top-level-looking key; a key inside a JSON string has a backslash before its quote. */
static const char *value_of(const char *body, size_t len, const char *key) {
    const char *at = memmem(body, len, key, strlen(key));
    if (!at) return NULL;
    at += strlen(key);
    const char *end = body + len;
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) at++;
    return at < end ? at : NULL;
}

static bool is_true(const char *body, size_t len, const char *key) {
    const char *v = value_of(body, len, key);
    return v && (size_t)(body + len - v) >= 4 && memcmp(v, "true", 4) == 0;
}

static void chat(struct conn *c, const char *body, size_t len) {
    const char *model = value_of(body, len, "\"model\":");
    if (!model || *model != '"' || !value_of(body, len, "\"messages\":")) { refuse(c, 400, "no model or no messages"); return; }
    if (!is_true(body, len, "\"stream\":")) { say(c, chat_reply, chat_reply_len); return; }
    char name[64] = "";
    size_t n = (size_t)(body + len - model - 1);
    memcpy(name, model + 1, n < sizeof name - 1 ? n : sizeof name - 1);
    int interval_ms = 0, chunks = CHUNKS;
    if (sscanf(name, "paced-%d-%d", &interval_ms, &chunks) == 2 && (interval_ms < 1 || interval_ms >= SLOTS || chunks < 1)) {
        refuse(c, 400, "no such pace");
        return;
    }
    begin_stream(c, is_true(body, len, "\"include_usage\":"), interval_ms, chunks);
}

static void answer(struct conn *c, const char *head, bool bearer, const char *body, size_t len) {
    size_t first = 0, end = len;
    while (first < end && strchr(" \t\r\n", body[first])) first++;
    while (end > first && strchr(" \t\r\n", body[end - 1])) end--;
    if (strncmp(head, "POST ", 5)) refuse(c, 400, "not a POST");
    else if (!bearer) refuse(c, 401, "no bearer token");
    else if (end - first < 2 || body[first] != '{' || body[end - 1] != '}') refuse(c, 400, "not a JSON object");
    else if (!strncmp(head + 5, "/v1/chat/completions ", 21)) chat(c, body, len);
    else if (!strncmp(head + 5, "/v1/embeddings ", 15)) {
        if (value_of(body, len, "\"input\":")) say(c, embedding_reply, embedding_reply_len);
        else refuse(c, 400, "no input");
    } else refuse(c, 400, "no such path");
}

/* Undo chunked coding in place. The coded length, 0 when more is needed, -1 when it is wrong. */
static ssize_t unchunk(char *at, size_t len, size_t *plain) {
    size_t from = 0;
    *plain = 0;
    for (;;) {
        char *line = memmem(at + from, len - from, "\r\n", 2);
        if (!line) return 0;
        char *stop;
        size_t size = strtoul(at + from, &stop, 16);
        if (stop == at + from || size > MAX_REQUEST) return -1;
        from = (size_t)(line - at) + 2;
        if (len - from < size + 2) return 0;
        if (memcmp(at + from + size, "\r\n", 2)) return -1;
        memmove(at + *plain, at + from, size);
        *plain += size;
        from += size + 2;
        if (size == 0) return (ssize_t)from;
    }
}

static bool header_is(const char *line, const char *name, const char **value) {
    size_t n = strlen(name);
    if (strncasecmp(line, name, n) || line[n] != ':') return false;
    *value = line + n + 1;
    while (**value == ' ') (*value)++;
    return true;
}

/* Answer the first request in the buffer. False when it is not all here, or one is being answered. */
static bool answer_one(struct conn *c) {
    if (c->fd < 0 || c->kind != NO_STREAM || c->in_len == 0) return false;
    char *end = memmem(c->in, c->in_len, "\r\n\r\n", 4);
    if (!end) return false;
    size_t head_len = (size_t)(end - c->in) + 4;
    ssize_t body_len = -1;
    bool chunked = false, bearer = false;
    for (char *line = strstr(c->in, "\r\n"); line < end; line = strstr(line + 2, "\r\n")) {
        const char *value;
        if (header_is(line + 2, "content-length", &value)) body_len = (ssize_t)strtoul(value, NULL, 10);
        else if (header_is(line + 2, "transfer-encoding", &value)) chunked = !strncasecmp(value, "chunked", 7);
        else if (header_is(line + 2, "authorization", &value)) bearer = !strncasecmp(value, "Bearer ", 7) && value[7] > ' ';
    }
    size_t used, plain;
    if (chunked && body_len < 0) {
        /* A wrong length is found only once; the copy keeps the buffer whole until all has arrived. */
        char *copy = malloc(c->in_len - head_len + 1);
        memcpy(copy, c->in + head_len, c->in_len - head_len);
        ssize_t coded = unchunk(copy, c->in_len - head_len, &plain);
        if (coded > 0) answer(c, c->in, bearer, copy, plain);
        free(copy);
        if (coded == 0) return false;
        if (coded < 0) { refuse(c, 400, "bad chunks"); drop(c); return false; }
        used = head_len + (size_t)coded;
    } else {
        if (chunked || body_len < 0 || (size_t)body_len > MAX_REQUEST) { refuse(c, 400, "bad framing"); drop(c); return false; }
        used = head_len + (size_t)body_len;
        if (c->in_len < used) return false;
        answer(c, c->in, bearer, c->in + head_len, (size_t)body_len);
    }
    if (c->fd < 0) return false;
    memmove(c->in, c->in + used, c->in_len - used);
    c->in_len -= used;
    return true;
}

static void answer_next(struct conn *c) {
    while (answer_one(c)) {}
}

static void hear(struct conn *c) {
    for (;;) {
        if (c->in_cap - c->in_len < 4096) {
            if (c->in_len > MAX_REQUEST) { drop(c); return; }
            c->in_cap = c->in_cap ? c->in_cap * 2 : 8192;
            c->in = realloc(c->in, c->in_cap);
        }
        size_t room = c->in_cap - c->in_len - 1;  /* one for a NUL, so that string functions stop */
        ssize_t got = recv(c->fd, c->in + c->in_len, room, 0);
        if (got == 0 || (got < 0 && errno != EAGAIN)) { drop(c); return; }
        if (got < 0) break;
        c->in_len += (size_t)got;
        c->in[c->in_len] = 0;
        if ((size_t)got < room) break;
    }
    answer_next(c);
}

/* ---- the turns ----------------------------------------------------------------------------------- */

static void welcome(int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct conn *c = calloc(1, sizeof *c);
        c->fd = fd;
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e);
    }
}

static void turn_fast(void) {
    for (struct conn *c = fast_ring.next, *after; c != &fast_ring; c = after) {
        after = c->next;
        if (!stream_on(c)) end_stream(c);
    }
}

static void turn_paced(void) {
    uint64_t now_ms = now_ns() / 1000000;
    while (paced_count && wheel_ms < now_ms) {
        wheel_ms++;
        struct conn *slot = &wheel[wheel_ms % SLOTS];
        for (struct conn *c = slot->next, *after; c != slot; c = after) {
            after = c->next;
            if (c->due_ms > wheel_ms) continue;
            if (!stream_on(c)) { end_stream(c); continue; }
            if (c->fd < 0) continue;
            leave_list(c);
            c->due_ms += (uint64_t)c->interval_ms;
            join_list(c, &wheel[c->due_ms % SLOTS]);
        }
    }
}

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    if (bind(fd, (struct sockaddr *)&address, len) || listen(fd, 4096)) { perror("upstream"); exit(1); }
    getsockname(fd, (struct sockaddr *)&address, &len);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

int main(int argc, char **argv) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);  /* never outlive the benchmark */
    fast_ring.next = fast_ring.prev = &fast_ring;
    dead.next = dead.prev = &dead;
    for (int i = 0; i < SLOTS; i++) wheel[i].next = wheel[i].prev = &wheel[i];
    make_replies();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on(argc > 1 ? atoi(argv[1]) : 0);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL}, events[256];
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        int n = epoll_wait(epoll_fd, events, 256, fast_count ? 0 : paced_count ? 1 : -1);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (!c) { welcome(listener); continue; }
            if (c->fd >= 0 && events[i].events & EPOLLOUT) say_more(c);
            if (c->fd >= 0 && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) hear(c);
        }
        if (fast_count) turn_fast();
        if (paced_count) turn_paced();
        free_dead();
    }
}
