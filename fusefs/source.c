#include "fusefs/source.h"

#include <stdlib.h>
#include <string.h>

static void destroy(struct source *source)
{
    free(source->data);
    free(source);
}

static struct source *new_source(void)
{
    struct source *source = calloc(1, sizeof *source);

    if (source != NULL) {
        source->refs = 1;
        source->destroy = destroy;
    }
    return source;
}

struct source *source_new_object(const struct object_info *info)
{
    struct source *source = new_source();

    if (source != NULL) {
        source->info = *info;
    }
    return source;
}

struct source *source_new_inline(const uint8_t *data, size_t size)
{
    struct source *source = new_source();

    if (source == NULL) {
        return NULL;
    }
    source->data = malloc(size > 0 ? size : 1);
    if (source->data == NULL) {
        free(source);
        return NULL;
    }
    memcpy(source->data, data, size);
    return source;
}

struct source *source_ref(struct source *source)
{
    (void)__atomic_fetch_add(&source->refs, 1, __ATOMIC_RELAXED);
    return source;
}

void source_unref(struct source *source)
{
    if (source != NULL &&
        __atomic_sub_fetch(&source->refs, 1, __ATOMIC_ACQ_REL) == 0) {
        source->destroy(source);
    }
}
