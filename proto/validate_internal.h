/* What the files of proto/validate.h share. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/validate.h"

#define FILE_OFFSET_MAX    ((uint64_t)INT64_MAX) /* off_t */
#define INLINE_LENGTH_MAX  16384u
#define BLOCK_UNIT_STEP    4096u
#define ERRNO_MAX          4095
#define RESERVE_INODES_MAX 1048576u

/* Values of fields, as metadata.proto numbers them. */
#define RENAME_FLAG_MAX  2u /* 1 NOREPLACE, 2 EXCHANGE, never both */
#define XATTR_FLAG_MAX   2u /* 1 CREATE, 2 REPLACE, never both */
#define ALLOCATE_HOW_MAX 4u
#define SET_ATTR_MODE    1u
#define SET_ATTR_UID     2u
#define SET_ATTR_GID     4u
#define SET_ATTR_SIZE    8u
#define SET_ATTR_MTIME   32u
#define SET_ATTR_ALL     63u

/* 0 or -EINVAL with `what` in `msg`. */
MUST_CHECK int check(bool is_right, struct errmsg *msg, const char *what);

MUST_CHECK int validate_coding(uint32_t k,
                               uint32_t m,
                               uint32_t unit,
                               struct errmsg *msg);
