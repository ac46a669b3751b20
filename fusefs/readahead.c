#include "fusefs/readahead.h"

#include <string.h>

#define WINDOW_MIN ((uint64_t)1 << 20)

/* How far from its stream's end a big read may lie. */
#define STRAY_MAX ((uint64_t)2 << 20)

/* Small reads that must continue each other before they count. */
#define RUN_MIN 3u

static bool belongs(const struct readahead_stream *stream,
                    uint64_t offset,
                    size_t length)
{
    if (offset == stream->next) {
        return stream->next != 0;
    }
    if (length < READAHEAD_BIG && stream->window == 0) {
        return false;
    }
    return stream->next != 0 && offset + STRAY_MAX >= stream->next &&
           offset <= stream->next + STRAY_MAX;
}

/* Move the stream to the front. */
static struct readahead_stream *use_stream(struct readahead *readahead,
                                           size_t index)
{
    struct readahead_stream stream = readahead->streams[index];

    memmove(&readahead->streams[1], &readahead->streams[0],
            index * sizeof stream);
    readahead->streams[0] = stream;
    return &readahead->streams[0];
}

/* The stream that the read belongs to; a new one takes the place of the one
 * that was not used for longest. */
static struct readahead_stream *find_stream(struct readahead *readahead,
                                            uint64_t offset,
                                            size_t length)
{
    struct readahead_stream *stream;

    for (size_t i = 0; i < READAHEAD_STREAMS; i++) {
        if (belongs(&readahead->streams[i], offset, length)) {
            stream = use_stream(readahead, i);
            stream->run++;
            return stream;
        }
    }
    stream = use_stream(readahead, READAHEAD_STREAMS - 1);
    memset(stream, 0, sizeof *stream);
    return stream;
}

void readahead_note(struct readahead *readahead,
                    uint64_t offset,
                    size_t length,
                    uint64_t window_max,
                    struct readahead_advice *ret_advice)
{
    struct readahead_stream *stream = find_stream(readahead, offset, length);
    uint64_t end = offset + length;
    /* A big read at the start of a file is taken for the first of many. */
    bool is_sequential = length >= READAHEAD_BIG
                             ? stream->run >= 1 || offset == 0
                             : stream->run >= RUN_MIN;

    memset(ret_advice, 0, sizeof *ret_advice);
    if (end > stream->next) {
        stream->next = end;
    }
    if (!is_sequential) {
        return;
    }
    ret_advice->is_sequential = true;
    stream->window = stream->window == 0 ? WINDOW_MIN : stream->window;
    if (stream->ahead < stream->next) {
        stream->ahead = stream->next;
    }
    /* In big steps: half a window at a time. */
    if (stream->ahead - stream->next > stream->window / 2) {
        return;
    }
    ret_advice->ahead_from = stream->ahead;
    ret_advice->ahead_to = stream->next + stream->window;
    stream->ahead = ret_advice->ahead_to;
    if (stream->window < window_max) {
        stream->window *= 2;
    }
    if (stream->window > window_max) {
        stream->window = window_max;
    }
}
