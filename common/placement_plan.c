/* The table is worked on column by column: column p says which node holds block
 * p of each partition.
 *
 * Zones come in rounds. Every zone contributes one node to the first round of
 * positions, every zone of at least two nodes one to the second round, and so
 * on. So the first positions of a list are in distinct zones as far as there
 * are zones, and no zone holds more of a prefix of the list than it must.
 * Rule: within a round no zone comes twice.
 *
 * How much of column p a node should get follows from the shares of prefixes.
 * Among the first l positions of a round a zone should appear in a fraction of
 * the lists that is proportional to its weight, but at most 1; likewise a node
 * among the nodes that its zone contributes to the first r rounds. Differences
 * of successive prefixes are the shares of positions; a position of a round and
 * a round of a zone are chosen independently, so their shares multiply.
 *
 * 1. keep    entries that still are nodes and obey the rule
 * 2. fill    the gaps, drawing from an urn of what each node has yet to get
 * 3. settle  entries of nodes above their share go to nodes below it */
#include "common/placement_plan.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define ROWS       PLACEMENT_PARTITIONS
#define NONE       UINT16_MAX
#define SHARE_BITS 24 /* shares are fixed-point numbers: 1.0 is WHOLE */
#define WHOLE      ((uint64_t)1 << SHARE_BITS)

struct plan {
    struct placement_node *nodes; /* owned: sorted by zone, then id */
    uint32_t n_nodes;
    uint32_t *zone;       /* owned: of each node, 0..n_zones-1, ascending */
    uint32_t *zone_first; /* owned: first node of each zone, and the end */
    uint32_t n_zones;
    uint32_t width;
    uint32_t round[PLACEMENT_WIDTH_MAX];       /* of each position */
    uint32_t round_first[PLACEMENT_WIDTH_MAX]; /* first position of its round */
    uint32_t round_end[PLACEMENT_WIDTH_MAX];   /* one past the last one */
    int32_t *target;     /* owned: [position][node] rows that it should hold */
    int32_t *count;      /* owned: [position][node] rows that it holds */
    int32_t *total_lack; /* owned: [node] target less count, of all positions */
    uint16_t *cells;     /* owned: [row][position] index of a node, or NONE */
    bool *is_joining;    /* owned: of each node: the old table has it nowhere */
    bool *node_mark;     /* owned: scratch of draw, all false between calls */
    bool *zone_mark;     /* owned: likewise */
    uint32_t *receivers; /* owned: scratch of settle: nodes below their share */
};

static uint64_t mix64(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9;
    x ^= x >> 27;
    x *= 0x94d049bb133111eb;
    return x ^ x >> 31;
}

static uint16_t *row_cells(const struct plan *plan, uint32_t row)
{
    return plan->cells + (size_t)row * plan->width;
}

static int32_t *count_of(struct plan *plan, uint32_t position, uint32_t node)
{
    return &plan->count[(size_t)position * plan->n_nodes + node];
}

/* Rows that the node has yet to get at this position; negative: too many. */
static int32_t lack(struct plan *plan, uint32_t position, uint32_t node)
{
    return plan->target[(size_t)position * plan->n_nodes + node] -
           *count_of(plan, position, node);
}

static void put_cell(struct plan *plan,
                     uint32_t row,
                     uint32_t position,
                     uint16_t node)
{
    uint16_t *cell = &row_cells(plan, row)[position];

    if (*cell != NONE) {
        --*count_of(plan, position, *cell);
        ++plan->total_lack[*cell];
    }
    *cell = node;
    if (node != NONE) {
        ++*count_of(plan, position, node);
        --plan->total_lack[node];
    }
}

/* ------------------------------------------------------------ setting up */

static int compare_nodes(const void *a, const void *b)
{
    const struct placement_node *x = a;
    const struct placement_node *y = b;

    if (x->zone != y->zone) {
        return x->zone < y->zone ? -1 : 1;
    }
    return (x->id > y->id) - (x->id < y->id);
}

/* Number the zones; each node without one is its own. */
static void find_zones(struct plan *plan)
{
    for (uint32_t i = 0; i < plan->n_nodes; i++) {
        uint32_t zone = plan->nodes[i].zone;

        if (i == 0 || zone == 0 || zone != plan->nodes[i - 1].zone) {
            plan->zone_first[plan->n_zones++] = i;
        }
        plan->zone[i] = plan->n_zones - 1;
    }
    plan->zone_first[plan->n_zones] = plan->n_nodes;
}

static uint32_t zone_size(const struct plan *plan, uint32_t zone)
{
    return plan->zone_first[zone + 1] - plan->zone_first[zone];
}

/* Zones that have a node left for this round, as many as it has positions. */
static uint32_t round_size(const struct plan *plan, uint32_t round)
{
    uint32_t n = 0;

    for (uint32_t zone = 0; zone < plan->n_zones; zone++) {
        n += zone_size(plan, zone) > round;
    }
    return n;
}

static void find_rounds(struct plan *plan)
{
    uint32_t first = 0;

    for (uint32_t round = 0; first < plan->width; round++) {
        uint32_t end = first + round_size(plan, round);

        if (end > plan->width) {
            end = plan->width;
        }
        for (uint32_t position = first; position < end; position++) {
            plan->round[position] = round;
            plan->round_first[position] = first;
            plan->round_end[position] = end;
        }
        first = end;
    }
}

/* ---------------------------------------------------------------- shares */

/* Divide `n_picks` among those with weight, in proportion, but at most one pick
 * to each. */
static void share_out(const uint64_t *weights,
                      uint32_t n,
                      uint32_t n_picks,
                      uint64_t *ret_shares)
{
    uint64_t weight_left = 0;
    uint32_t picks_left = n_picks;
    bool again = true;

    for (uint32_t i = 0; i < n; i++) {
        weight_left += weights[i];
        ret_shares[i] = 0;
    }
    while (again && picks_left > 0) {
        again = false;
        for (uint32_t i = 0; i < n && picks_left > 0; i++) {
            if (ret_shares[i] == 0 && weights[i] > 0 &&
                weights[i] * picks_left >= weight_left) {
                ret_shares[i] = WHOLE;
                weight_left -= weights[i];
                picks_left--;
                again = true;
            }
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        if (ret_shares[i] == 0 && weights[i] > 0) {
            ret_shares[i] = weights[i] * picks_left * WHOLE / weight_left;
        }
    }
}

/* Scratch for the shares: one element per node, or per zone, of which there are
 * no more. */
struct shares {
    uint64_t weights[PLACEMENT_NODES_MAX];
    uint64_t before[PLACEMENT_NODES_MAX];  /* of prefixes up to a position */
    uint64_t after[PLACEMENT_NODES_MAX];   /* of prefixes that include it */
    uint64_t in_zone[PLACEMENT_NODES_MAX]; /* of nodes: of the pick that their
                                              zone makes for this round */
};

static uint64_t difference(uint64_t after, uint64_t before)
{
    return after > before ? after - before : 0; /* roundings may cross */
}

/* Fill in `in_zone` for a round. */
static void share_zones(const struct plan *plan,
                        uint32_t round,
                        struct shares *shares)
{
    for (uint32_t zone = 0; zone < plan->n_zones; zone++) {
        uint32_t first = plan->zone_first[zone];
        uint32_t n = zone_size(plan, zone);

        if (n <= round) {
            memset(&shares->in_zone[first], 0, n * sizeof *shares->in_zone);
            continue;
        }
        for (uint32_t i = 0; i < n; i++) {
            shares->weights[i] = plan->nodes[first + i].weight;
        }
        share_out(shares->weights, n, round, shares->before);
        share_out(shares->weights, n, round + 1, shares->after);
        for (uint32_t i = 0; i < n; i++) {
            shares->in_zone[first + i] =
                difference(shares->after[i], shares->before[i]);
        }
    }
}

/* Weights of the zones that take part in a round. */
static void weigh_zones(const struct plan *plan,
                        uint32_t round,
                        struct shares *shares)
{
    memset(shares->weights, 0, plan->n_zones * sizeof *shares->weights);
    for (uint32_t i = 0; i < plan->n_nodes; i++) {
        if (zone_size(plan, plan->zone[i]) > round) {
            shares->weights[plan->zone[i]] += plan->nodes[i].weight;
        }
    }
}

static void target_position(struct plan *plan,
                            uint32_t position,
                            struct shares *shares)
{
    uint32_t prefix = position - plan->round_first[position];
    int32_t *target = plan->target + (size_t)position * plan->n_nodes;
    uint64_t total = 0;
    uint64_t sum = 0;
    uint64_t rows = 0;

    share_zones(plan, plan->round[position], shares);
    weigh_zones(plan, plan->round[position], shares);
    share_out(shares->weights, plan->n_zones, prefix, shares->before);
    share_out(shares->weights, plan->n_zones, prefix + 1, shares->after);
    for (uint32_t i = 0; i < plan->n_nodes; i++) {
        uint32_t zone = plan->zone[i];

        shares->in_zone[i] *=
            difference(shares->after[zone], shares->before[zone]);
        shares->in_zone[i] >>= SHARE_BITS;
        total += shares->in_zone[i];
    }
    assert(total > 0); /* some zone of the round is not yet in all prefixes */
    /* Rounding sums, not terms, makes the targets add up to ROWS. */
    for (uint32_t i = 0; i < plan->n_nodes; i++) {
        uint64_t upto;

        sum += shares->in_zone[i];
        upto = (sum * ROWS + total / 2) / total;
        target[i] = (int32_t)(upto - rows);
        plan->total_lack[i] += target[i];
        rows = upto;
    }
}

static int find_targets(struct plan *plan)
{
    struct shares *shares = calloc(1, sizeof *shares);

    if (shares == NULL) {
        return -ENOMEM;
    }
    for (uint32_t position = 0; position < plan->width; position++) {
        target_position(plan, position, shares);
    }
    free(shares);
    return 0;
}

/* ------------------------------------------------------------------ rows */

/* Position of a node in a row, or width when it is not there. */
static uint32_t find_in_row(const struct plan *plan,
                            uint32_t row,
                            uint32_t node)
{
    const uint16_t *cells = row_cells(plan, row);
    uint32_t position = 0;

    while (position < plan->width && cells[position] != node) {
        position++;
    }
    return position;
}

/* Whether another position of the same round is in the zone. */
static bool round_has_zone(const struct plan *plan,
                           uint32_t row,
                           uint32_t position,
                           uint32_t zone)
{
    const uint16_t *cells = row_cells(plan, row);

    for (uint32_t p = plan->round_first[position];
         p < plan->round_end[position]; p++) {
        if (p != position && cells[p] != NONE && plan->zone[cells[p]] == zone) {
            return true;
        }
    }
    return false;
}

/* Take over what is of use in the table. */
static void keep(struct plan *plan, const uint32_t *table)
{
    uint16_t index_of[UINT16_MAX + 1];

    memset(index_of, 0xff, sizeof index_of);
    for (uint32_t i = 0; i < plan->n_nodes; i++) {
        index_of[plan->nodes[i].id] = (uint16_t)i;
    }
    memset(plan->cells, 0xff, (size_t)ROWS * plan->width * sizeof *plan->cells);
    memset(plan->is_joining, true, plan->n_nodes * sizeof *plan->is_joining);
    for (uint32_t row = 0; row < ROWS; row++) {
        for (uint32_t p = 0; p < plan->width; p++) {
            uint32_t id = table[(size_t)row * plan->width + p];
            uint16_t node = id > UINT16_MAX ? NONE : index_of[id];

            if (node != NONE && find_in_row(plan, row, node) == plan->width &&
                !round_has_zone(plan, row, p, plan->zone[node])) {
                put_cell(plan, row, p, node);
                plan->is_joining[node] = false;
            }
        }
    }
}

/* ------------------------------------------------------------------ fill */

/* Mark, or unmark, the nodes and zones that may not take a position: nodes that
 * are in the row and zones that are in the round. Nodes of later rounds may, as
 * a last resort: taking one opens a gap there. */
static void mark_barred(struct plan *plan,
                        uint32_t row,
                        uint32_t position,
                        bool from_later,
                        bool mark)
{
    const uint16_t *cells = row_cells(plan, row);
    uint32_t end = from_later ? plan->round_end[position] : plan->width;

    for (uint32_t p = 0; p < end; p++) {
        if (cells[p] == NONE) {
            continue;
        }
        plan->node_mark[cells[p]] = mark;
        if (plan->round[p] == plan->round[position]) {
            plan->zone_mark[plan->zone[cells[p]]] = mark;
        }
    }
}

/* Draw among the candidates, each with a chance in proportion to what it lacks;
 * `urn` is the sum of that. */
static uint16_t draw_ball(struct plan *plan,
                          uint32_t row,
                          uint32_t position,
                          const uint16_t *candidates,
                          uint64_t urn)
{
    uint64_t ball = mix64(((uint64_t)row << 32 | position) + 1) % urn;

    for (uint32_t i = 0;; i++) {
        uint64_t rows = (uint64_t)lack(plan, position, candidates[i]);

        if (ball < rows) {
            return candidates[i];
        }
        ball -= rows;
    }
}

/* Choose a node for a position: by lot, or, when no node lacks anything there,
 * the one least above its share. NONE when no node may take the position. */
static uint16_t draw(struct plan *plan,
                     uint32_t row,
                     uint32_t position,
                     bool from_later)
{
    uint16_t candidates[PLACEMENT_NODES_MAX];
    uint32_t n = 0;
    uint64_t urn = 0;
    uint16_t best = NONE;

    mark_barred(plan, row, position, from_later, true);
    for (uint32_t i = 0; i < plan->n_nodes; i++) {
        int32_t rows = lack(plan, position, i);

        if (plan->node_mark[i] || plan->zone_mark[plan->zone[i]]) {
            continue;
        }
        if (rows > 0) {
            urn += (uint64_t)rows;
            candidates[n++] = (uint16_t)i;
        } else if (best == NONE || rows > lack(plan, position, best)) {
            best = (uint16_t)i;
        }
    }
    mark_barred(plan, row, position, from_later, false);
    return urn > 0 ? draw_ball(plan, row, position, candidates, urn) : best;
}

/* From left to right, so that a gap opened by taking a node from a later round
 * is filled in its turn. There always is a node: a round with a gap leaves out
 * a zone with more nodes than there are rounds before. */
static void fill(struct plan *plan)
{
    for (uint32_t row = 0; row < ROWS; row++) {
        for (uint32_t p = 0; p < plan->width; p++) {
            uint16_t node;

            if (row_cells(plan, row)[p] != NONE) {
                continue;
            }
            node = draw(plan, row, p, false);
            if (node == NONE) {
                node = draw(plan, row, p, true);
                assert(node != NONE);
                put_cell(plan, row, find_in_row(plan, row, node), NONE);
            }
            put_cell(plan, row, p, node);
        }
    }
}

/* ---------------------------------------------------------------- settle */

/* Whether `node` may take this position from its holder: because it is not in
 * the row, or by changing places with it, when it holds a later position of
 * which it has too much. */
static bool can_receive(struct plan *plan,
                        uint32_t row,
                        uint32_t position,
                        uint32_t node)
{
    uint16_t holder = row_cells(plan, row)[position];
    uint32_t place = find_in_row(plan, row, node);

    if (place < plan->width) {
        if (place <= position || lack(plan, place, node) >= 0) {
            return false;
        }
        if (plan->round[place] == plan->round[position]) {
            return true;
        }
        if (round_has_zone(plan, row, place, plan->zone[holder])) {
            return false;
        }
    }
    return !round_has_zone(plan, row, position, plan->zone[node]);
}

static void receive(struct plan *plan,
                    uint32_t row,
                    uint32_t position,
                    uint16_t node)
{
    uint16_t holder = row_cells(plan, row)[position];
    uint32_t place = find_in_row(plan, row, node);

    if (place < plan->width) {
        put_cell(plan, row, place, NONE);
    }
    put_cell(plan, row, position, node);
    if (place < plan->width) {
        put_cell(plan, row, place, holder);
    }
}

/* What a node lacks: at the position or, when that is not given, of all. */
static int32_t lack_at(struct plan *plan, uint32_t position, uint32_t node)
{
    return position < plan->width ? lack(plan, position, node)
                                  : plan->total_lack[node];
}

/* Give a position of a row to the receiver that lacks most, if any may have it
 * and the holder has more than its share, both counted at `counted`. */
static void settle_cell(struct plan *plan,
                        uint32_t row,
                        uint32_t position,
                        uint32_t counted,
                        uint32_t n_receivers)
{
    uint16_t holder = row_cells(plan, row)[position];
    bool may_swap = counted == position; /* swapping changes no total */
    uint16_t best = NONE;
    int32_t best_lack = 0;

    if (lack_at(plan, counted, holder) >= 0) {
        return;
    }
    for (uint32_t i = 0; i < n_receivers; i++) {
        uint32_t node = plan->receivers[i];

        if (lack_at(plan, counted, node) > best_lack &&
            (may_swap || find_in_row(plan, row, node) == plan->width) &&
            can_receive(plan, row, position, node)) {
            best = (uint16_t)node;
            best_lack = lack_at(plan, counted, node);
        }
    }
    if (best != NONE) {
        receive(plan, row, position, best);
    }
}

/* An odd stride visits every row once, in no order that matters. */
static uint32_t scatter(uint32_t i, uint32_t salt)
{
    uint64_t hash = mix64(salt + 1);

    return ((uint32_t)(hash >> 32) + i * ((uint32_t)hash | 1)) % ROWS;
}

/* Whether entries of a position should move to the node. To one that joins,
 * whenever it lacks any; to one that was there before only when it lacks more
 * than chance makes it lack after others have left, here and in the prefix of
 * lists that ends here: else it would only swap positions of the same data. */
static bool should_receive(struct plan *plan, uint32_t position, uint32_t node)
{
    int32_t rows = lack(plan, position, node);
    int32_t prefix = 0;
    int32_t tolerance;

    if (plan->is_joining[node]) {
        return rows > 0;
    }
    tolerance = (rows + *count_of(plan, position, node)) / 16 + 8;
    for (uint32_t p = 0; p <= position; p++) {
        prefix += lack(plan, p, node);
    }
    return rows > tolerance && prefix > tolerance;
}

/* Move entries of one position to the nodes that lack them there. */
static void settle_position(struct plan *plan, uint32_t position)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < plan->n_nodes; i++) {
        if (should_receive(plan, position, i)) {
            plan->receivers[n++] = i;
        }
    }
    for (uint32_t i = 0; i < ROWS && n > 0; i++) {
        settle_cell(plan, scatter(i, position), position, position, n);
    }
}

/* The rule of zones can keep a node that joins from its share of a position,
 * because only nodes of its zone can make room: then at least its share of all
 * positions together. */
static void settle_totals(struct plan *plan)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < plan->n_nodes; i++) {
        if (plan->is_joining[i] && plan->total_lack[i] > 0) {
            plan->receivers[n++] = i;
        }
    }
    for (uint32_t i = 0; i < ROWS && n > 0; i++) {
        for (uint32_t p = 0; p < plan->width; p++) {
            settle_cell(plan, scatter(i, p), p, plan->width, n);
        }
    }
}

static void settle(struct plan *plan)
{
    uint32_t n_joining = 0;

    for (uint32_t i = 0; i < plan->n_nodes; i++) {
        n_joining += plan->is_joining[i];
    }
    for (uint32_t p = 0; p < plan->width; p++) {
        settle_position(plan, p);
    }
    if (n_joining < plan->n_nodes) {
        settle_totals(plan);
    }
}

/* ----------------------------------------------------------- life, result */

static void plan_close(struct plan *plan)
{
    free(plan->nodes);
    free(plan->zone);
    free(plan->zone_first);
    free(plan->target);
    free(plan->count);
    free(plan->cells);
    free(plan->total_lack);
    free(plan->is_joining);
    free(plan->node_mark);
    free(plan->zone_mark);
    free(plan->receivers);
}

static int plan_init(struct plan *plan,
                     const struct placement_node *nodes,
                     size_t n_nodes,
                     uint32_t width)
{
    int rc = -ENOMEM;

    memset(plan, 0, sizeof *plan);
    plan->n_nodes = (uint32_t)n_nodes;
    plan->width = width;
    plan->nodes = malloc(n_nodes * sizeof *plan->nodes);
    plan->zone = calloc(n_nodes, sizeof *plan->zone);
    plan->zone_first = calloc(n_nodes + 1, sizeof *plan->zone_first);
    plan->target = calloc(n_nodes * width, sizeof *plan->target);
    plan->count = calloc(n_nodes * width, sizeof *plan->count);
    plan->cells = calloc((size_t)ROWS * width, sizeof *plan->cells);
    plan->total_lack = calloc(n_nodes, sizeof *plan->total_lack);
    plan->is_joining = calloc(n_nodes, sizeof *plan->is_joining);
    plan->node_mark = calloc(n_nodes, sizeof *plan->node_mark);
    plan->zone_mark = calloc(n_nodes, sizeof *plan->zone_mark);
    plan->receivers = calloc(n_nodes, sizeof *plan->receivers);
    if (plan->nodes == NULL || plan->zone == NULL || plan->zone_first == NULL ||
        plan->target == NULL || plan->count == NULL || plan->cells == NULL ||
        plan->total_lack == NULL || plan->is_joining == NULL ||
        plan->node_mark == NULL || plan->zone_mark == NULL ||
        plan->receivers == NULL) {
        goto fail;
    }
    memcpy(plan->nodes, nodes, n_nodes * sizeof *nodes);
    qsort(plan->nodes, n_nodes, sizeof *plan->nodes, compare_nodes);
    find_zones(plan);
    find_rounds(plan);
    rc = find_targets(plan);
    if (rc != 0) {
        goto fail;
    }
    return 0;

fail:
    plan_close(plan);
    return rc;
}

int placement_plan(const struct placement_node *nodes,
                   size_t n_nodes,
                   uint32_t width,
                   uint32_t *table)
{
    struct plan plan;
    int rc = plan_init(&plan, nodes, n_nodes, width);

    if (rc != 0) {
        return rc;
    }
    assert(width > 0 && width <= n_nodes);
    keep(&plan, table);
    fill(&plan);
    settle(&plan);
    for (size_t i = 0; i < (size_t)ROWS * width; i++) {
        table[i] = plan.nodes[plan.cells[i]].id;
    }
    plan_close(&plan);
    return 0;
}
