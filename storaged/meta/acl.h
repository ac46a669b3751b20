/* POSIX ACLs (acl(5), withdrawn POSIX 1003.1e draft 17) as pure functions on
 * the bytes of the system.posix_acl_* xattrs: a little-endian u32 version 2,
 * then entries {u16 tag, u16 permissions, u32 id} in the order owner, named
 * users, owning group, named groups, mask, others.
 *
 * All but acl_check() take a value that acl_check() has passed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

#define ACL_XATTR_ACCESS  "system.posix_acl_access"
#define ACL_XATTR_DEFAULT "system.posix_acl_default"

/* Whether the value is a well-formed ACL. One without entries is not.
 * Errors: -EINVAL */
MUST_CHECK int acl_check(const uint8_t *value, size_t size);

/* Whether the value means that there is no ACL: nothing, or a header alone. */
bool acl_is_empty(const uint8_t *value, size_t size);

/* Whether the permission bits say all that the ACL says: no mask and no named
 * users and groups. */
bool acl_is_minimal(const uint8_t *value, size_t size);

/* The permission bits (0777) that go with an access ACL: the group bits are the
 * mask, where there is one. */
uint32_t acl_mode(const uint8_t *value, size_t size);

/* chmod(2): bring an access ACL to the permission bits of `mode`. */
void acl_chmod(uint8_t *value, size_t size, uint32_t mode);

/* Make the access ACL of a new file from a copy of its directory's default ACL:
 * permissions that `mode` does not ask for are taken away. Returns the mode
 * with the permissions that are left; the umask plays no part. */
uint32_t acl_inherit(uint8_t *value, size_t size, uint32_t mode);
