/* The world: chance, time, the network. */
#include "tests/unit/raft_sim.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/raft_sim_world.h"

#define CALM_MS 60000u

/* xorshift64* */
uint64_t sim_below(struct sim_world *world, uint64_t limit)
{
    world->random ^= world->random >> 12;
    world->random ^= world->random << 25;
    world->random ^= world->random >> 27;
    return ((world->random * 0x2545f4914f6cdd1du) >> 16) % limit;
}

bool sim_one_in(struct sim_world *world, uint64_t n)
{
    return sim_below(world, n) == 0;
}

/* The first violation counts. */
void sim_violate(struct sim_world *world, const char *format, ...)
{
    struct sim_result *result = world->result;
    va_list args;
    int n;

    if (result->violation[0] != '\0') {
        return;
    }
    n = snprintf(result->violation, sizeof result->violation,
                 "seed %" PRIu64 ", %" PRIu64 " ms: ", world->options.seed,
                 world->now);
    va_start(args, format);
    (void)vsnprintf(result->violation + n, sizeof result->violation - (size_t)n,
                    format, args);
    va_end(args);
}

bool sim_is_over(const struct sim_world *world)
{
    return world->result->violation[0] != '\0';
}

/* -------------------------------------------------------------------- events
 */

static bool is_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->time != b->time ? a->time < b->time : a->number < b->number;
}

void sim_push(struct sim_world *world,
              uint64_t delay,
              const struct sim_event *event)
{
    struct sim_event new_event = *event;
    size_t i = world->n_heap;

    new_event.time = world->now + delay;
    new_event.number = world->n_numbers++;
    if (world->n_heap == world->heap_capacity) {
        world->heap_capacity = 2 * world->heap_capacity + 64;
        world->heap = reallocarray(world->heap, world->heap_capacity,
                                   sizeof *world->heap);
        if (world->heap == NULL) {
            abort();
        }
    }
    world->n_heap++;
    while (i > 0 && is_before(&new_event, &world->heap[(i - 1) / 2])) {
        world->heap[i] = world->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    world->heap[i] = new_event;
}

static struct sim_event pop(struct sim_world *world)
{
    struct sim_event top = world->heap[0];
    struct sim_event last = world->heap[--world->n_heap];
    size_t i = 0;

    while (2 * i + 1 < world->n_heap) {
        size_t child = 2 * i + 1;

        if (child + 1 < world->n_heap &&
            is_before(&world->heap[child + 1], &world->heap[child])) {
            child++;
        }
        if (!is_before(&world->heap[child], &last)) {
            break;
        }
        world->heap[i] = world->heap[child];
        i = child;
    }
    world->heap[i] = last;
    return top;
}

/* ------------------------------------------------------------------- network
 */

static void send_copy(struct sim_world *world,
                      uint32_t from,
                      uint32_t to,
                      const struct sim_event *event)
{
    uint64_t delay = sim_below(world, 4);
    bool is_late = sim_below(world, 10000) < world->late && !world->is_calm;
    struct sim_event copy = *event;

    if (is_late) {
        /* What an earlier connection had in flight. */
        delay = sim_below(world, 8000);
    } else if (sim_one_in(world, 20)) {
        delay += sim_below(world, 60);
    }
    if (world->in_order && !is_late) {
        if (world->now + delay < world->last_arrival[from][to]) {
            delay = world->last_arrival[from][to] - world->now;
        }
        world->last_arrival[from][to] = world->now + delay;
    }
    if (copy.data != NULL) {
        copy.data = buf_ref(copy.data);
    }
    sim_push(world, delay, &copy);
}

void sim_send(struct sim_world *world,
              uint32_t from,
              uint32_t to,
              const struct sim_event *event)
{
    if (to == 0 || to > SIM_NODES || world->cut[from][to]) {
        return;
    }
    if (!world->is_calm && sim_below(world, 10000) < world->loss) {
        return;
    }
    send_copy(world, from, to, event);
    if (!world->is_calm && sim_below(world, 10000) < world->dup) {
        send_copy(world, from, to, event);
    }
}

/* ------------------------------------------------------------------- running
 */

static void happen_on(struct sim_node *node, const struct sim_event *event)
{
    if (event->kind == EV_RESTART) {
        if (node->group == NULL && node->disk.replica != 0) {
            sim_node_boot(node);
        }
        return;
    }
    if (node->group == NULL ||
        (event->life != 0 && event->life != node->life)) {
        return;
    }
    switch (event->kind) {
    case EV_MESSAGE:
        sim_node_message(node, event);
        break;
    case EV_SYNC:
        sim_node_sync(node, event);
        break;
    case EV_TICK:
        if (node->tick_at == node->world->now) {
            sim_node_tick(node);
        }
        break;
    case EV_APPLY:
        sim_node_apply(node);
        break;
    case EV_INSTALL:
        sim_node_install(node);
        break;
    default:
        sim_node_db_sync(node);
        break;
    }
}

static void happen(struct sim_world *world, const struct sim_event *event)
{
    switch (event->kind) {
    case EV_QUESTION:
        sim_question(world, event);
        break;
    case EV_ANSWER:
        sim_answer(world, event);
        break;
    case EV_CLIENT:
        sim_client(world);
        break;
    case EV_READ:
        sim_read(world);
        break;
    case EV_NEMESIS:
        sim_nemesis(world);
        break;
    case EV_MEMBERS:
        sim_change_members(world);
        break;
    default:
        happen_on(&world->node[event->node], event);
        break;
    }
}

static void run_until(struct sim_world *world, uint64_t end)
{
    while (!sim_is_over(world) && world->n_heap > 0 &&
           world->heap[0].time <= end) {
        struct sim_event event = pop(world);

        world->now = event.time;
        world->result->n_events++;
        happen(world, &event);
        buf_unref(event.data);
    }
    world->now = end;
}

static void found(struct sim_world *world)
{
    struct raft_members members = { .n = world->options.n_voters };

    world->next_replica = 100;
    for (uint32_t i = 0; i < members.n; i++) {
        members.member[i] =
            (struct raft_member){ world->next_replica++, i + 1, MEMBER_VOTER };
    }
    world->members = members;
    for (uint32_t i = 0; i < members.n; i++) {
        struct raft_saved saved;

        if (raft_saved_bootstrap(members.member[i].id, &members, &saved) != 0) {
            abort();
        }
        sim_node_give_replica(&world->node[i + 1], &saved);
        sim_node_boot(&world->node[i + 1]);
    }
}

static void choose_world(struct sim_world *world)
{
    world->worlds = world->options.worlds;
    for (unsigned one = SIM_HARSH; one <= SIM_RESTLESS; one *= 2) {
        if (sim_one_in(world, 4)) {
            world->worlds |= one;
        }
    }
    if ((world->worlds & SIM_HARSH) != 0) {
        world->fault_every_ms = 400;
    }
    if ((world->worlds & SIM_LATE) != 0) {
        world->late = 500;
    }
}

static void init(struct sim_world *world)
{
    static const enum sim_kind first[] = { EV_CLIENT, EV_READ, EV_NEMESIS,
                                           EV_MEMBERS };

    world->random = (world->options.seed + 1) * 0x9e3779b97f4a7c15u;
    world->next_value = 1;
    world->next_read = 1;
    world->in_order = sim_one_in(world, 2);
    world->loss = (unsigned)sim_below(world, 4) * 100;
    world->dup = (unsigned)sim_below(world, 4) * 100;
    world->late = (unsigned)sim_below(world, 3) * 50;
    world->fault_every_ms = 200 + sim_below(world, 2000);
    world->snapshots_from = sim_one_in(world, 3) ? sim_below(world, 20000) : 0;
    choose_world(world);
    for (uint32_t i = 1; i <= SIM_NODES; i++) {
        world->node[i].world = world;
        world->node[i].number = i;
    }
    sim_log_open(world);
    found(world);
    for (size_t i = 0; i < sizeof first / sizeof first[0]; i++) {
        struct sim_event event = { .kind = first[i] };

        sim_push(world, 1, &event);
    }
}

static void close_world(struct sim_world *world)
{
    for (uint32_t i = 1; i <= SIM_NODES; i++) {
        sim_node_free(&world->node[i]);
    }
    while (world->n_heap > 0) {
        struct sim_event event = pop(world);

        buf_unref(event.data);
    }
    sim_log_close(world);
    free(world->heap);
    free(world->history);
    free(world->leaders);
    free(world->submitted);
    free(world);
}

void sim_run(const struct sim_options *options, struct sim_result *ret_result)
{
    struct sim_world *world = calloc(1, sizeof *world);

    if (world == NULL) {
        abort();
    }
    memset(ret_result, 0, sizeof *ret_result);
    world->options = *options;
    world->result = ret_result;
    init(world);
    run_until(world, options->faults_ms);
    if (!sim_is_over(world)) {
        sim_heal(world);
        run_until(world, options->faults_ms + CALM_MS);
    }
    if (!sim_is_over(world)) {
        sim_check_end(world);
    }
    if (sim_is_over(world) && !options->is_quiet) {
        sim_print(world);
    }
    close_world(world);
}
