#include "storaged/meta/sessions.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct session {
    uint64_t id;
    int64_t heard_ms;      /* last sign of life */
    uint64_t orphans_seen; /* as of the last heartbeat */
    uint64_t *held;        /* owned: inodes open, as of the last heartbeat */
    size_t n_held;
    bool expired; /* marked; waits for its CloseSession */
};

struct sessions {
    int64_t expiry_ms;
    int64_t (*mono_ms)(void);
    pthread_mutex_t lock;    /* guards all below */
    struct session *entries; /* owned, ascending ids */
    size_t n;
    size_t capacity;
};

int sessions_new(int64_t expiry_ms,
                 int64_t (*mono_ms)(void),
                 struct sessions **ret_sessions)
{
    struct sessions *sessions = calloc(1, sizeof *sessions);

    if (sessions == NULL) {
        return -ENOMEM;
    }
    sessions->expiry_ms = expiry_ms;
    sessions->mono_ms = mono_ms;
    (void)pthread_mutex_init(&sessions->lock, NULL);
    *ret_sessions = sessions;
    return 0;
}

void sessions_free(struct sessions *sessions)
{
    if (sessions == NULL) {
        return;
    }
    for (size_t i = 0; i < sessions->n; i++) {
        free(sessions->entries[i].held);
    }
    free(sessions->entries);
    (void)pthread_mutex_destroy(&sessions->lock);
    free(sessions);
}

/* Index of the first session whose id is not below `id`. */
static size_t lower_bound(const struct sessions *sessions, uint64_t id)
{
    size_t low = 0;
    size_t high = sessions->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (sessions->entries[middle].id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct session *find_locked(struct sessions *sessions, uint64_t id)
{
    size_t index = lower_bound(sessions, id);

    if (index == sessions->n || sessions->entries[index].id != id) {
        return NULL;
    }
    return &sessions->entries[index];
}

static int grow_locked(struct sessions *sessions)
{
    size_t capacity = sessions->capacity == 0 ? 16 : 2 * sessions->capacity;
    struct session *entries;

    if (sessions->n < sessions->capacity) {
        return 0;
    }
    entries = reallocarray(sessions->entries, capacity, sizeof *entries);
    if (entries == NULL) {
        return -ENOMEM;
    }
    sessions->entries = entries;
    sessions->capacity = capacity;
    return 0;
}

int sessions_add(struct sessions *sessions, uint64_t id)
{
    size_t index;
    int rc;

    (void)pthread_mutex_lock(&sessions->lock);
    rc = find_locked(sessions, id) != NULL ? -EEXIST : grow_locked(sessions);
    if (rc == 0) {
        index = lower_bound(sessions, id);
        memmove(&sessions->entries[index + 1], &sessions->entries[index],
                (sessions->n - index) * sizeof *sessions->entries);
        sessions->entries[index] =
            (struct session){ .id = id, .heard_ms = sessions->mono_ms() };
        sessions->n++;
    }
    (void)pthread_mutex_unlock(&sessions->lock);
    return rc;
}

void sessions_remove(struct sessions *sessions, uint64_t id)
{
    struct session *session;

    (void)pthread_mutex_lock(&sessions->lock);
    session = find_locked(sessions, id);
    if (session != NULL) {
        size_t index = (size_t)(session - sessions->entries);

        free(session->held);
        sessions->n--;
        memmove(session, session + 1, (sessions->n - index) * sizeof *session);
    }
    (void)pthread_mutex_unlock(&sessions->lock);
}

/* The session, if it lives, heard of just now. */
static struct session *touch_locked(struct sessions *sessions, uint64_t id)
{
    struct session *session = find_locked(sessions, id);

    if (session == NULL || session->expired) {
        return NULL;
    }
    session->heard_ms = sessions->mono_ms();
    return session;
}

int sessions_touch(struct sessions *sessions, uint64_t id)
{
    int rc;

    (void)pthread_mutex_lock(&sessions->lock);
    rc = touch_locked(sessions, id) != NULL ? 0 : -ESTALE;
    (void)pthread_mutex_unlock(&sessions->lock);
    return rc;
}

int sessions_heartbeat(struct sessions *sessions,
                       uint64_t id,
                       uint64_t orphans_seen,
                       const uint64_t *held,
                       size_t n_held)
{
    struct session *session;
    uint64_t *copy = NULL;

    if (n_held > 0) {
        copy = malloc(n_held * sizeof *copy);
        if (copy == NULL) {
            return -ENOMEM;
        }
        memcpy(copy, held, n_held * sizeof *copy);
    }
    (void)pthread_mutex_lock(&sessions->lock);
    session = touch_locked(sessions, id);
    if (session != NULL) {
        uint64_t *old = session->held;

        session->orphans_seen = orphans_seen;
        session->held = copy;
        session->n_held = n_held;
        copy = old;
    }
    (void)pthread_mutex_unlock(&sessions->lock);
    free(copy);
    return session != NULL ? 0 : -ESTALE;
}

void sessions_pardon(struct sessions *sessions)
{
    (void)pthread_mutex_lock(&sessions->lock);
    for (size_t i = 0; i < sessions->n; i++) {
        sessions->entries[i].heard_ms = sessions->mono_ms();
    }
    (void)pthread_mutex_unlock(&sessions->lock);
}

size_t sessions_expired(struct sessions *sessions,
                        uint64_t *ret_ids,
                        size_t max)
{
    size_t n = 0;
    int64_t now;

    (void)pthread_mutex_lock(&sessions->lock);
    now = sessions->mono_ms();
    for (size_t i = 0; i < sessions->n && n < max; i++) {
        struct session *session = &sessions->entries[i];

        if (now - session->heard_ms >= sessions->expiry_ms) {
            session->expired = true;
        }
        if (session->expired) {
            ret_ids[n++] = session->id;
        }
    }
    (void)pthread_mutex_unlock(&sessions->lock);
    return n;
}

int64_t sessions_next_expiry_ms(struct sessions *sessions)
{
    int64_t heard_ms = INT64_MAX;
    int64_t left = -1;

    (void)pthread_mutex_lock(&sessions->lock);
    for (size_t i = 0; i < sessions->n; i++) {
        if (sessions->entries[i].heard_ms < heard_ms) {
            heard_ms = sessions->entries[i].heard_ms;
        }
    }
    if (sessions->n > 0) {
        left = heard_ms + sessions->expiry_ms - sessions->mono_ms();
        left = left > 0 ? left : 0;
    }
    (void)pthread_mutex_unlock(&sessions->lock);
    return left;
}

static int compare_ino(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;

    return (left > right) - (left < right);
}

static int survey_locked(struct sessions *sessions,
                         struct sessions_survey *survey)
{
    size_t n_held = 0;

    for (size_t i = 0; i < sessions->n; i++) {
        const struct session *session = &sessions->entries[i];

        n_held += session->n_held;
        if (session->orphans_seen < survey->seen_min) {
            survey->seen_min = session->orphans_seen;
        }
    }
    if (n_held == 0) {
        return 0;
    }
    survey->held = calloc(n_held, sizeof *survey->held);
    if (survey->held == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < sessions->n; i++) {
        const struct session *session = &sessions->entries[i];

        if (session->n_held > 0) {
            memcpy(survey->held + survey->n_held, session->held,
                   session->n_held * sizeof *survey->held);
            survey->n_held += session->n_held;
        }
    }
    return 0;
}

int sessions_survey_get(struct sessions *sessions,
                        struct sessions_survey *ret_survey)
{
    struct sessions_survey survey = { .seen_min = UINT64_MAX };
    int rc;

    (void)pthread_mutex_lock(&sessions->lock);
    rc = survey_locked(sessions, &survey);
    (void)pthread_mutex_unlock(&sessions->lock);
    if (rc < 0) {
        return rc;
    }
    if (survey.n_held > 0) {
        qsort(survey.held, survey.n_held, sizeof *survey.held, compare_ino);
    }
    *ret_survey = survey;
    return 0;
}

void sessions_survey_clear(struct sessions_survey *survey)
{
    free(survey->held);
    *survey = (struct sessions_survey){ 0 };
}

bool sessions_survey_allows(const struct sessions_survey *survey,
                            uint64_t number,
                            uint64_t ino)
{
    if (number > survey->seen_min) {
        return false;
    }
    return survey->n_held == 0 || bsearch(&ino, survey->held, survey->n_held,
                                          sizeof ino, compare_ino) == NULL;
}
