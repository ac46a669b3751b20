#include "storaged/block/group_sync.h"

void group_sync_init(struct group_sync *group,
                     int (*run)(void *context),
                     void *context)
{
    *group = (struct group_sync){ .run = run, .context = context };
    (void)pthread_mutex_init(&group->lock, NULL);
    (void)pthread_cond_init(&group->ended, NULL);
}

void group_sync_close(struct group_sync *group)
{
    (void)pthread_cond_destroy(&group->ended);
    (void)pthread_mutex_destroy(&group->lock);
}

static void run_locked(struct group_sync *group)
{
    int rc;

    group->running = true;
    group->n_begun++;
    (void)pthread_mutex_unlock(&group->lock);
    rc = group->run(group->context);
    (void)pthread_mutex_lock(&group->lock);
    group->running = false;
    group->n_ended++;
    group->rc = rc;
    (void)pthread_cond_broadcast(&group->ended);
}

int group_sync_wait(struct group_sync *group)
{
    uint64_t wanted;
    int rc;

    (void)pthread_mutex_lock(&group->lock);
    wanted = group->n_begun + 1;
    while (group->n_ended < wanted) {
        if (group->running) {
            (void)pthread_cond_wait(&group->ended, &group->lock);
        } else {
            run_locked(group);
        }
    }
    rc = group->rc;
    (void)pthread_mutex_unlock(&group->lock);
    return rc;
}
