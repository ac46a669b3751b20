#include "storaged/meta/acl.h"

#include <assert.h>
#include <errno.h>

#define ACL_VERSION     2u
#define ACL_HEADER_SIZE 4u
#define ACL_ENTRY_SIZE  8u

/* Tags, ascending in the order of the entries. */
enum acl_tag {
    ACL_OWNER = 0x01,
    ACL_USER = 0x02,
    ACL_GROUP = 0x04,
    ACL_NAMED_GROUP = 0x08,
    ACL_MASK = 0x10,
    ACL_OTHER = 0x20
};

static unsigned get_u16(const uint8_t *bytes)
{
    return bytes[0] | (unsigned)bytes[1] << 8;
}

static size_t n_entries(size_t size)
{
    assert(size >= ACL_HEADER_SIZE);
    return (size - ACL_HEADER_SIZE) / ACL_ENTRY_SIZE;
}

static unsigned entry_tag(const uint8_t *value, size_t i)
{
    return get_u16(value + ACL_HEADER_SIZE + i * ACL_ENTRY_SIZE);
}

static uint32_t entry_permissions(const uint8_t *value, size_t i)
{
    return get_u16(value + ACL_HEADER_SIZE + i * ACL_ENTRY_SIZE + 2);
}

static void set_entry_permissions(uint8_t *value,
                                  size_t i,
                                  uint32_t permissions)
{
    value[ACL_HEADER_SIZE + i * ACL_ENTRY_SIZE + 2] = (uint8_t)permissions;
    value[ACL_HEADER_SIZE + i * ACL_ENTRY_SIZE + 3] = 0;
}

static bool has_known_header(const uint8_t *value, size_t size)
{
    return size >= ACL_HEADER_SIZE && get_u16(value) == ACL_VERSION &&
           get_u16(value + 2) == 0 &&
           (size - ACL_HEADER_SIZE) % ACL_ENTRY_SIZE == 0;
}

bool acl_is_empty(const uint8_t *value, size_t size)
{
    return size == 0 ||
           (size == ACL_HEADER_SIZE && has_known_header(value, size));
}

int acl_check(const uint8_t *value, size_t size)
{
    unsigned seen = 0;
    unsigned last = 0;

    if (!has_known_header(value, size)) {
        return -EINVAL;
    }
    for (size_t i = 0; i < n_entries(size); i++) {
        unsigned tag = entry_tag(value, i);
        bool named = tag == ACL_USER || tag == ACL_NAMED_GROUP;

        if (tag == 0 || tag > ACL_OTHER || (tag & (tag - 1)) != 0 ||
            tag < last || (tag == last && !named) ||
            entry_permissions(value, i) > 7) {
            return -EINVAL;
        }
        seen |= tag;
        last = tag;
    }
    if ((seen & ACL_OWNER) == 0 || (seen & ACL_GROUP) == 0 ||
        (seen & ACL_OTHER) == 0) {
        return -EINVAL;
    }
    if ((seen & (ACL_USER | ACL_NAMED_GROUP)) != 0 && (seen & ACL_MASK) == 0) {
        return -EINVAL;
    }
    return 0;
}

bool acl_is_minimal(const uint8_t *value, size_t size)
{
    (void)value;
    return n_entries(size) == 3;
}

/* Index of the entry that the group bits of the mode stand for: the mask, or
 * without one the owning group. */
static size_t group_class(const uint8_t *value, size_t size)
{
    size_t found = 0;

    for (size_t i = 0; i < n_entries(size); i++) {
        unsigned tag = entry_tag(value, i);

        if (tag == ACL_GROUP || tag == ACL_MASK) {
            found = i;
        }
    }
    return found;
}

uint32_t acl_mode(const uint8_t *value, size_t size)
{
    return entry_permissions(value, 0) << 6 |
           entry_permissions(value, group_class(value, size)) << 3 |
           entry_permissions(value, n_entries(size) - 1);
}

void acl_chmod(uint8_t *value, size_t size, uint32_t mode)
{
    set_entry_permissions(value, 0, mode >> 6 & 7);
    set_entry_permissions(value, group_class(value, size), mode >> 3 & 7);
    set_entry_permissions(value, n_entries(size) - 1, mode & 7);
}

uint32_t acl_inherit(uint8_t *value, size_t size, uint32_t mode)
{
    uint32_t permissions = acl_mode(value, size) & mode & 0777;

    acl_chmod(value, size, permissions);
    return (mode & ~0777u) | permissions;
}
