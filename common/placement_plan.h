/* How the table of a placement is filled and changed: see placement.h, whose
 * only helper this is. Pure functions, integers only, so that every machine
 * computes the same table. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/placement.h"

/* Complete `table`, PLACEMENT_PARTITIONS lists of `width` node ids, for these
 * nodes (valid, at least `width` of them).
 *
 * Ids that are 0 or not of `nodes`, and those that break the rule of zones, are
 * replaced. Then entries move from nodes that have more than their share to
 * nodes that the table did not have before, or that are far below their share.
 * A table of zeros is filled from nothing.
 *
 * Errors: -ENOMEM, the table is then as it was. */
MUST_CHECK int placement_plan(const struct placement_node *nodes,
                              size_t n_nodes,
                              uint32_t width,
                              uint32_t *table);
