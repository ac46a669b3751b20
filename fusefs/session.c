#include "fusefs/session.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"
#include "fusefs/sequence_window.h"
#include "proto/validate.h"

#define SLOT_SHIFT 53

/* Inode numbers are taken in ranges of this size; the next range is fetched
 * when half of one is used up. */
#define INO_RANGE 16384u

/* Until the shard has said when sessions expire. */
#define EXPIRY_DEFAULT_MS 15000

#define BEATS_PER_EXPIRY 5

/* A heartbeat's answer with this many orphans has more behind it. */
#define ORPHANS_MANY 512u

/* Any inode of the shard that keeps the sessions. */
#define SESSION_INO 1u

struct ino_range {
    uint64_t next; /* to be given out */
    uint64_t end;  /* behind the last */
};

struct session {
    struct meta_client *meta; /* borrowed */
    bool (*is_open)(void *context, uint64_t ino);
    void *context; /* borrowed, for is_open */
    bool always_durable;
    char *host; /* owned */
    pthread_t keeper;

    /* Locks in their order. beat_lock lets one heartbeat run at a time. */
    pthread_mutex_t beat_lock;
    pthread_mutex_t lock;
    pthread_cond_t room;    /* the window has room again */
    pthread_cond_t changed; /* anything else that lock guards */

    /* Guarded by beat_lock. */
    uint64_t orphans_seen; /* highest orphan number looked at */
    uint64_t *held;        /* owned: unlinked inodes open here, as told */
    size_t n_held;
    bool is_silent; /* the last heartbeat found nobody */

    /* Guarded by lock. */
    uint64_t number; /* of the session */
    uint64_t serial; /* of the last object id given out */
    struct sequence_window window;
    struct ino_range numbers;
    struct ino_range spare; /* the range after it */
    bool is_refilling;      /* somebody is fetching a range */
    bool wants_refill;      /* the keeper shall fetch one */
    bool is_renewing;       /* somebody is opening a new session */
    bool is_closing;        /* the keeper shall end */
    int64_t expiry_ms;      /* silence after which the shard forgets us */
    uint64_t n_ops;         /* ops answered so far: the latest mark */
    uint64_t synced[METADATA_SLOTS]; /* by slot: durable up to this mark */
};

static unsigned slot_of(uint64_t ino)
{
    return (unsigned)(ino >> SLOT_SHIFT) & (METADATA_SLOTS - 1);
}

/* --------------------------------------------------------------- submitting */

void session_result_clear(struct session_result *result)
{
    if (result->reply != NULL) {
        gabion__submit_reply__free_unpacked(result->reply, NULL);
    }
    result->reply = NULL;
    result->op = NULL;
}

const Gabion__Attr *session_result_attr(const struct session_result *result,
                                        uint64_t ino)
{
    for (size_t i = 0; result->op != NULL && i < result->op->n_attr; i++) {
        if (result->op->attr[i]->ino == ino) {
            return result->op->attr[i];
        }
    }
    return NULL;
}

/* Give the op its place in the session. Returns the mark before it. */
static uint64_t begin_op(struct session *session, Gabion__Op *op)
{
    uint64_t mark;

    (void)pthread_mutex_lock(&session->lock);
    while (sequence_window_is_full(&session->window)) {
        (void)pthread_cond_wait(&session->room, &session->lock);
    }
    op->session = session->number;
    op->sequence = sequence_window_begin(&session->window);
    op->acked = sequence_window_acked(&session->window);
    mark = session->n_ops;
    (void)pthread_mutex_unlock(&session->lock);
    return mark;
}

static void note_synced_locked(struct session *session,
                               uint64_t ino,
                               uint64_t mark)
{
    uint64_t *synced = &session->synced[slot_of(ino)];

    if (mark > *synced) {
        *synced = mark;
    }
}

/* Returns the mark of the op: a durable one counts with those before it. */
static uint64_t end_op(struct session *session,
                       uint64_t ino,
                       const Gabion__Op *op,
                       bool is_durable,
                       uint64_t mark_before)
{
    uint64_t mark;

    (void)pthread_mutex_lock(&session->lock);
    if (op->session == session->number) {
        sequence_window_end(&session->window, op->sequence);
        (void)pthread_cond_broadcast(&session->room);
    }
    if (is_durable) {
        note_synced_locked(session, ino, mark_before);
        mark = mark_before;
    } else {
        mark = ++session->n_ops;
    }
    (void)pthread_mutex_unlock(&session->lock);
    return mark;
}

static int submit_once(struct session *session,
                       uint64_t ino,
                       Gabion__Op *op,
                       bool durable,
                       struct session_result *ret_result,
                       unsigned *ret_attempts)
{
    Gabion__SubmitRequest request = GABION__SUBMIT_REQUEST__INIT;
    uint64_t mark = begin_op(session, op);
    int rc;

    request.durable = durable;
    request.op = &op;
    request.n_op = 1;
    rc = meta_client_submit(session->meta, ino, &request, &ret_result->reply,
                            ret_attempts);
    ret_result->mark = end_op(session, ino, op, durable && rc == 0, mark);
    if (rc != 0) {
        return rc;
    }
    ret_result->op = ret_result->reply->result[0];
    rc = -ret_result->op->error;
    if (rc != 0) {
        session_result_clear(ret_result);
    }
    return rc;
}

/* ------------------------------------------------------- opening a session */

/* Register; the shard chooses the number. This op is the session's first. An
 * attempt whose answer got lost leaves a session behind that soon expires. */
static int open_new(struct session *session, uint64_t *ret_number)
{
    Gabion__OpenSession body;
    Gabion__Op op = GABION__OP__INIT;
    Gabion__Op *ops = &op;
    Gabion__SubmitRequest request = GABION__SUBMIT_REQUEST__INIT;
    Gabion__SubmitReply *reply;
    unsigned attempts;
    int rc;

    gabion__open_session__init(&body);
    body.host = session->host;
    op.sequence = 1;
    op.now_ns = clock_real_ns();
    op.body_case = GABION__OP__BODY_OPEN_SESSION;
    op.open_session = &body;
    request.op = &ops;
    request.n_op = 1;
    rc = meta_client_submit(session->meta, SESSION_INO, &request, &reply,
                            &attempts);
    if (rc != 0) {
        return rc;
    }
    rc = -reply->result[0]->error;
    *ret_number = reply->result[0]->ino;
    gabion__submit_reply__free_unpacked(reply, NULL);
    return rc == 0 && *ret_number == 0 ? -EPROTO : rc;
}

static void adopt_number_locked(struct session *session, uint64_t number)
{
    session->number = number;
    session->serial = 0;
    session->numbers = (struct ino_range){ 0, 0 };
    session->spare = (struct ino_range){ 0, 0 };
    sequence_window_init(&session->window);
    sequence_window_end(&session->window,
                        sequence_window_begin(&session->window));
    (void)pthread_cond_broadcast(&session->room);
    (void)pthread_cond_broadcast(&session->changed);
}

/* --------------------------------------------------------------- heartbeats */

/* Drop from `held` what has been closed since it was told of. */
static void forget_closed(struct session *session)
{
    size_t n = 0;

    for (size_t i = 0; i < session->n_held; i++) {
        if (session->is_open(session->context, session->held[i])) {
            session->held[n++] = session->held[i];
        }
    }
    session->n_held = n;
}

static bool is_held(const struct session *session, uint64_t ino)
{
    for (size_t i = 0; i < session->n_held; i++) {
        if (session->held[i] == ino) {
            return true;
        }
    }
    return false;
}

/* Look at the inodes that have lost their last name: from now on those that are
 * not open here must not be opened without asking the shard. Out of memory they
 * count as not seen: the shard tells of them again. */
static void look_at_orphans(struct session *session,
                            const Gabion__HeartbeatReply *reply)
{
    for (size_t i = 0; i < reply->n_orphan; i++) {
        const Gabion__Orphan *orphan = reply->orphan[i];

        if (session->is_open(session->context, orphan->ino) &&
            !is_held(session, orphan->ino)) {
            uint64_t *held =
                realloc(session->held, (session->n_held + 1) * sizeof *held);

            if (held == NULL) {
                return;
            }
            held[session->n_held++] = orphan->ino;
            session->held = held;
        }
        if (orphan->number > session->orphans_seen) {
            session->orphans_seen = orphan->number;
        }
    }
}

static void log_silence(struct session *session, int rc)
{
    bool is_silent = rc != 0 && rc != -ESTALE;

    if (is_silent && !session->is_silent) {
        log_warn("metadata service does not answer error=%s", err_text(rc));
    } else if (!is_silent && session->is_silent) {
        log_info("metadata service answers again");
    }
    session->is_silent = is_silent;
}

/* `*ret_more`: the next one should follow at once. */
static int heartbeat(struct session *session, uint64_t number, bool *ret_more)
{
    Gabion__HeartbeatRequest request = GABION__HEARTBEAT_REQUEST__INIT;
    Gabion__HeartbeatReply *reply;
    int64_t expiry_ms;
    int rc;

    *ret_more = false;
    (void)pthread_mutex_lock(&session->lock);
    expiry_ms = session->expiry_ms;
    (void)pthread_mutex_unlock(&session->lock);
    (void)pthread_mutex_lock(&session->beat_lock);
    forget_closed(session);
    request.session = number;
    request.orphans_seen = session->orphans_seen;
    request.held = session->held;
    request.n_held = session->n_held;
    rc = meta_client_heartbeat(session->meta, &request,
                               clock_mono_ms() + expiry_ms / BEATS_PER_EXPIRY,
                               &reply);
    log_silence(session, rc);
    if (rc == 0) {
        look_at_orphans(session, reply);
        *ret_more = reply->n_orphan >= ORPHANS_MANY;
        expiry_ms = reply->expiry_ms;
        gabion__heartbeat_reply__free_unpacked(reply, NULL);
    }
    (void)pthread_mutex_unlock(&session->beat_lock);
    if (rc == 0 && expiry_ms > 0) {
        (void)pthread_mutex_lock(&session->lock);
        session->expiry_ms = expiry_ms;
        (void)pthread_mutex_unlock(&session->lock);
    }
    return rc;
}

/* The shard said that `lost` is unknown: make sure, then register anew.
 * Errors: -EEXIST the session lives after all; those of the calls. */
static int replace_session(struct session *session, uint64_t lost)
{
    uint64_t number;
    bool more;
    int rc = heartbeat(session, lost, &more);

    if (rc != -ESTALE) {
        return rc == 0 ? -EEXIST : rc;
    }
    rc = open_new(session, &number);
    if (rc != 0) {
        return rc;
    }
    (void)pthread_mutex_lock(&session->beat_lock);
    session->orphans_seen = 0;
    session->n_held = 0;
    (void)pthread_mutex_unlock(&session->beat_lock);
    log_warn(
        "session was lost, opened a new one; open files without a name may "
        "be gone old=%016llx new=%016llx",
        (unsigned long long)lost, (unsigned long long)number);
    (void)pthread_mutex_lock(&session->lock);
    adopt_number_locked(session, number);
    (void)pthread_mutex_unlock(&session->lock);
    return 0;
}

/* As replace_session(), by one thread while others wait for it. */
static int renew(struct session *session, uint64_t lost)
{
    int rc;

    (void)pthread_mutex_lock(&session->lock);
    while (session->is_renewing) {
        (void)pthread_cond_wait(&session->changed, &session->lock);
    }
    if (session->number != lost) {
        (void)pthread_mutex_unlock(&session->lock);
        return 0;
    }
    session->is_renewing = true;
    (void)pthread_mutex_unlock(&session->lock);
    rc = replace_session(session, lost);
    (void)pthread_mutex_lock(&session->lock);
    session->is_renewing = false;
    (void)pthread_cond_broadcast(&session->changed);
    (void)pthread_mutex_unlock(&session->lock);
    return rc;
}

int session_submit(struct session *session,
                   uint64_t ino,
                   Gabion__Op *op,
                   bool durable,
                   struct session_result *ret_result)
{
    unsigned attempts;
    int rc;

    memset(ret_result, 0, sizeof *ret_result);
    durable = durable || session->always_durable;
    if (op->now_ns == 0) {
        op->now_ns = clock_real_ns();
    }
    rc = submit_once(session, ino, op, durable, ret_result, &attempts);
    if (rc != -ESTALE) {
        return rc;
    }
    rc = renew(session, op->session);
    if (rc == -EEXIST) {
        return -ESTALE; /* what the op is about, not the session */
    }
    if (rc != 0 || attempts > 1) {
        return -EIO;
    }
    rc = submit_once(session, ino, op, durable, ret_result, &attempts);
    return rc == -ESTALE ? -EIO : rc;
}

uint64_t session_mark(struct session *session)
{
    uint64_t mark;

    (void)pthread_mutex_lock(&session->lock);
    mark = session->n_ops;
    (void)pthread_mutex_unlock(&session->lock);
    return mark;
}

int session_sync(struct session *session, uint64_t ino, uint64_t mark)
{
    Gabion__SubmitRequest request = GABION__SUBMIT_REQUEST__INIT;
    Gabion__SubmitReply *reply;
    uint64_t now;
    unsigned attempts;
    bool is_synced;
    int rc;

    (void)pthread_mutex_lock(&session->lock);
    is_synced = session->synced[slot_of(ino)] >= mark;
    now = session->n_ops;
    (void)pthread_mutex_unlock(&session->lock);
    if (is_synced) {
        return 0;
    }
    request.durable = true;
    rc = meta_client_submit(session->meta, ino, &request, &reply, &attempts);
    if (rc != 0) {
        return rc;
    }
    gabion__submit_reply__free_unpacked(reply, NULL);
    (void)pthread_mutex_lock(&session->lock);
    note_synced_locked(session, ino, now);
    (void)pthread_mutex_unlock(&session->lock);
    return 0;
}

/* ------------------------------------------------------------------ numbers */

static int reserve_range(struct session *session, struct ino_range *ret_range)
{
    Gabion__ReserveInodes body = GABION__RESERVE_INODES__INIT;
    Gabion__Op op = GABION__OP__INIT;
    struct session_result result;
    int rc;

    body.count = INO_RANGE;
    op.body_case = GABION__OP__BODY_RESERVE_INODES;
    op.reserve_inodes = &body;
    rc = session_submit(session, SESSION_INO, &op, false, &result);
    if (rc == 0) {
        ret_range->next = result.op->ino;
        ret_range->end = result.op->ino + INO_RANGE;
    }
    session_result_clear(&result);
    return rc == 0 && ret_range->next == 0 ? -EPROTO : rc;
}

/* Fetch a range, to be used now or next. Only one thread does so at a time;
 * called and returns with the lock held. */
static int refill_locked(struct session *session)
{
    struct ino_range range = { 0, 0 };
    uint64_t number = session->number;
    int rc;

    session->is_refilling = true;
    session->wants_refill = false;
    (void)pthread_mutex_unlock(&session->lock);
    rc = reserve_range(session, &range);
    (void)pthread_mutex_lock(&session->lock);
    session->is_refilling = false;
    if (rc == 0 && session->number == number) {
        session->spare = range;
    }
    (void)pthread_cond_broadcast(&session->changed);
    return rc;
}

int session_new_ino(struct session *session, uint64_t *ret_ino)
{
    struct ino_range *numbers = &session->numbers;
    int rc = 0;

    (void)pthread_mutex_lock(&session->lock);
    while (rc == 0 && numbers->next == numbers->end) {
        if (session->spare.next != session->spare.end) {
            *numbers = session->spare;
            session->spare = (struct ino_range){ 0, 0 };
        } else if (session->is_refilling) {
            (void)pthread_cond_wait(&session->changed, &session->lock);
        } else {
            rc = refill_locked(session);
        }
    }
    if (rc == 0) {
        *ret_ino = numbers->next++;
        if (numbers->end - numbers->next < INO_RANGE / 2 &&
            session->spare.next == session->spare.end &&
            !session->is_refilling && !session->wants_refill) {
            session->wants_refill = true;
            (void)pthread_cond_broadcast(&session->changed);
        }
    }
    (void)pthread_mutex_unlock(&session->lock);
    return rc;
}

void session_new_object(struct session *session, struct object_id *ret_id)
{
    (void)pthread_mutex_lock(&session->lock);
    ret_id->session = session->number;
    ret_id->serial = ++session->serial;
    (void)pthread_mutex_unlock(&session->lock);
}

uint64_t session_number(struct session *session)
{
    uint64_t number;

    (void)pthread_mutex_lock(&session->lock);
    number = session->number;
    (void)pthread_mutex_unlock(&session->lock);
    return number;
}

/* ------------------------------------------------------------------- keeper */

static void wait_until_locked(struct session *session, int64_t until_ms)
{
    struct timespec until = { .tv_sec = until_ms / 1000,
                              .tv_nsec = until_ms % 1000 * 1000000 };

    while (!session->is_closing && !session->wants_refill &&
           clock_mono_ms() < until_ms) {
        (void)pthread_cond_timedwait(&session->changed, &session->lock, &until);
    }
}

static void *keep(void *context)
{
    struct session *session = context;
    int64_t next_beat_ms = clock_mono_ms();

    (void)pthread_mutex_lock(&session->lock);
    while (!session->is_closing) {
        uint64_t number = session->number;
        bool more;

        if (session->wants_refill && !session->is_refilling &&
            refill_locked(session) != 0) {
            log_debug("cannot reserve inode numbers ahead of need");
        }
        if (clock_mono_ms() >= next_beat_ms) {
            (void)pthread_mutex_unlock(&session->lock);
            if (heartbeat(session, number, &more) == -ESTALE) {
                (void)renew(session, number);
            }
            (void)pthread_mutex_lock(&session->lock);
            next_beat_ms = clock_mono_ms() +
                           (more ? 0 : session->expiry_ms / BEATS_PER_EXPIRY);
        }
        wait_until_locked(session, next_beat_ms);
    }
    (void)pthread_mutex_unlock(&session->lock);
    return NULL;
}

/* --------------------------------------------------------------------- life */

static void init_locks(struct session *session)
{
    pthread_condattr_t attr;

    (void)pthread_mutex_init(&session->beat_lock, NULL);
    (void)pthread_mutex_init(&session->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&session->room, NULL);
    (void)pthread_cond_init(&session->changed, &attr);
    (void)pthread_condattr_destroy(&attr);
}

static void free_session(struct session *session)
{
    (void)pthread_cond_destroy(&session->changed);
    (void)pthread_cond_destroy(&session->room);
    (void)pthread_mutex_destroy(&session->lock);
    (void)pthread_mutex_destroy(&session->beat_lock);
    free(session->held);
    free(session->host);
    free(session);
}

int session_open(const struct session_config *config,
                 struct session **ret_session,
                 struct errmsg *msg)
{
    struct session *session = calloc(1, sizeof *session);
    uint64_t number;
    int rc;

    if (session == NULL) {
        return -ENOMEM;
    }
    init_locks(session);
    session->meta = config->meta;
    session->is_open = config->is_open;
    session->context = config->context;
    session->always_durable = config->always_durable;
    session->expiry_ms = EXPIRY_DEFAULT_MS;
    session->host = strdup(config->host);
    if (session->host == NULL) {
        free_session(session);
        return -ENOMEM;
    }
    rc = open_new(session, &number);
    if (rc != 0) {
        errmsg_set(msg, "the metadata service does not register this mount: %s",
                   err_text(rc));
        free_session(session);
        return rc;
    }
    adopt_number_locked(session, number);
    rc = -pthread_create(&session->keeper, NULL, keep, session);
    if (rc != 0) {
        errmsg_set(msg, "cannot start a thread: %s", err_text(rc));
        free_session(session);
        return rc;
    }
    *ret_session = session;
    return 0;
}

int session_close(struct session *session)
{
    Gabion__CloseSession body = GABION__CLOSE_SESSION__INIT;
    Gabion__Op op = GABION__OP__INIT;
    struct session_result result;
    unsigned attempts;
    int rc;

    if (session == NULL) {
        return 0;
    }
    (void)pthread_mutex_lock(&session->lock);
    session->is_closing = true;
    (void)pthread_cond_broadcast(&session->changed);
    (void)pthread_mutex_unlock(&session->lock);
    (void)pthread_join(session->keeper, NULL);

    memset(&result, 0, sizeof result);
    op.now_ns = clock_real_ns();
    op.body_case = GABION__OP__BODY_CLOSE_SESSION;
    op.close_session = &body;
    rc = submit_once(session, SESSION_INO, &op, true, &result, &attempts);
    session_result_clear(&result);
    free_session(session);
    return rc;
}
