/* Frames on the socket between an agent and a worker: a header with a magic number and a size, then the payload. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "workers/stage/worker.h"

/* Both parts, in one call where the socket has room. */
static int send_all(int fd, struct iovec parts[2], struct error *err)
{
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    while (message.msg_iovlen > 0) {
        ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) return error_set_errno(err, "cannot send a frame");
        while (message.msg_iovlen > 0 && (size_t)sent >= message.msg_iov->iov_len) {
            sent -= (ssize_t)message.msg_iov->iov_len;
            message.msg_iov++;
            message.msg_iovlen--;
        }
        if (message.msg_iovlen == 0) break;
        message.msg_iov->iov_base = (char *)message.msg_iov->iov_base + sent;
        message.msg_iov->iov_len -= (size_t)sent;
    }
    return 0;
}

/* 1: all of it, 0: closed before the first byte, -1: error, or closed in the middle. */
static int receive_all(int fd, void *bytes, size_t size, struct error *err)
{
    char *at = bytes;
    size_t got = 0;
    while (got < size) {
        ssize_t more = recv(fd, at + got, size - got, 0);
        if (more < 0 && errno == EINTR) continue;
        if (more < 0 && errno == ECONNRESET && got == 0) return 0;
        if (more < 0) return error_set_errno(err, "cannot receive a frame");
        if (more == 0) return got == 0 ? 0 : error_set(err, "the other side closed in the middle of a frame");
        got += (size_t)more;
    }
    return 1;
}

int frame_send(int fd, uint32_t type, const void *payload, size_t size, struct error *err)
{
    if (size > FRAME_LIMIT) return error_set(err, "a frame of %zu bytes is above the limit of %u", size, FRAME_LIMIT);
    struct frame_header header = {.magic = FRAME_MAGIC, .type = type, .size = size};
    struct iovec parts[2] = {{&header, sizeof header}, {(void *)(uintptr_t)payload, size}}; /* it is only read */
    return send_all(fd, parts, err);
}

int frame_receive(int fd, uint32_t *type, void **payload, size_t *size, struct error *err)
{
    struct frame_header header;
    *payload = NULL;
    *size = 0;
    int got = receive_all(fd, &header, sizeof header, err);
    if (got <= 0) return got;
    if (header.magic != FRAME_MAGIC) return error_set(err, "a frame does not begin with the magic number");
    if (header.size > FRAME_LIMIT)
        return error_set(err, "a frame of %llu bytes is above the limit of %u", (unsigned long long)header.size,
                         FRAME_LIMIT);
    char *bytes = malloc(header.size + 1); /* a text payload ends with a zero that is not counted */
    if (!bytes) return error_set(err, "out of memory for a frame of %llu bytes", (unsigned long long)header.size);
    got = header.size ? receive_all(fd, bytes, header.size, err) : 1;
    if (got <= 0) {
        free(bytes);
        return got < 0 ? -1 : error_set(err, "the other side closed in the middle of a frame");
    }
    bytes[header.size] = 0;
    *type = header.type;
    *payload = bytes;
    *size = header.size;
    return 1;
}
