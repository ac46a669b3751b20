#include "fusefs/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/config.h"
#include "fusefs/mount_source.h"

#define TIMEOUT_DEFAULT_MS 30000
#define CACHE_DEFAULT      (256ull << 20)
#define CACHE_MIN          (32ull << 20)
#define TTL_DEFAULT_MS     1000

static const char usage[] =
    "usage: gabion-fusefs SOURCE MOUNTPOINT [-o OPTION[,OPTION...]] [-f] [-d]\n"
    "\n"
    "SOURCE is HOST[:PORT][,HOST[:PORT]...]:/[SUBDIR]: nodes of the cluster\n"
    "(default port 7700, IPv6 addresses in brackets) and the directory to\n"
    "mount.\n"
    "\n"
    "  -f, --foreground  stay in the foreground, log to stderr\n"
    "  -d, --debug       the same, with all messages\n"
    "  -h, --help        this text\n"
    "  -V, --version     the version\n"
    "\n"
    "Options:\n"
    "  timeout=30s           calls end after this when nodes cannot be "
    "reached\n"
    "  hard                  calls wait for as long as it takes\n"
    "  cache_size=256M       memory for file data\n"
    "  attr_timeout=1s       attributes may be this old\n"
    "  entry_timeout=1s      names may be this old\n"
    "  negative_timeout=0    the absence of names may be this old\n"
    "  log_level=info        error, warn, info or debug\n"
    "  log_file=FILE         log there (default: syslog)\n"
    "  pid_file=FILE         write the process id there\n"
    "  conf=FILE             defaults (default: /etc/gabion/client.conf)\n"
    "  sync, dirsync         every change is durable before its call returns\n"
    "  nonempty              mount over a directory that has entries\n"
    "and those of mount(8): ro, nosuid, nodev, noexec, allow_other, _netdev,\n"
    "nofail, x-*, ...\n";

const char *options_usage(void)
{
    return usage;
}

/* ------------------------------------------------------------------ setters */

/* Value of an option; NULL when it was given without "=". */
typedef int option_setter(struct options *options,
                          const char *value,
                          struct errmsg *msg);

static int replace_text(char **text, const char *value)
{
    char *copy = strdup(value);

    if (copy == NULL) {
        return -ENOMEM;
    }
    free(*text);
    *text = copy;
    return 0;
}

static int parse_duration(const char *value,
                          int64_t *ret_ms,
                          struct errmsg *msg)
{
    int rc = config_parse_duration(value, ret_ms);

    if (rc != 0) {
        errmsg_set(msg, "'%s' is not a time such as 30s or 500ms", value);
    }
    return rc == 0 ? 0 : -EINVAL;
}

static int set_timeout(struct options *options,
                       const char *value,
                       struct errmsg *msg)
{
    int rc = parse_duration(value, &options->timeout_ms, msg);

    if (rc == 0 && options->timeout_ms < 1000) {
        errmsg_set(msg, "'%s' is too short: at least 1s", value);
        rc = -EINVAL;
    }
    return rc;
}

static int set_hard(struct options *options,
                    const char *value,
                    struct errmsg *msg)
{
    bool hard = true;

    if (value != NULL && config_parse_bool(value, &hard) != 0) {
        errmsg_set(msg, "'%s' is neither yes nor no", value);
        return -EINVAL;
    }
    options->hard = hard;
    return 0;
}

static int set_soft(struct options *options,
                    const char *value,
                    struct errmsg *msg)
{
    (void)value;
    (void)msg;
    options->hard = false;
    return 0;
}

static int set_cache_size(struct options *options,
                          const char *value,
                          struct errmsg *msg)
{
    if (config_parse_size(value, &options->cache_size) != 0 ||
        options->cache_size < CACHE_MIN) {
        errmsg_set(msg, "'%s' is not a size of at least 32M", value);
        return -EINVAL;
    }
    return 0;
}

static int set_attr_ms(struct options *options,
                       const char *value,
                       struct errmsg *msg)
{
    return parse_duration(value, &options->attr_ms, msg);
}

static int set_entry_ms(struct options *options,
                        const char *value,
                        struct errmsg *msg)
{
    return parse_duration(value, &options->entry_ms, msg);
}

static int set_negative_ms(struct options *options,
                           const char *value,
                           struct errmsg *msg)
{
    return parse_duration(value, &options->negative_ms, msg);
}

static int set_log_level(struct options *options,
                         const char *value,
                         struct errmsg *msg)
{
    if (log_level_parse(value, &options->log_level) != 0) {
        errmsg_set(msg, "'%s' is none of error, warn, info, debug", value);
        return -EINVAL;
    }
    return 0;
}

static int set_log_file(struct options *options,
                        const char *value,
                        struct errmsg *msg)
{
    (void)msg;
    return replace_text(&options->log_file, value);
}

static int set_pid_file(struct options *options,
                        const char *value,
                        struct errmsg *msg)
{
    (void)msg;
    return replace_text(&options->pid_file, value);
}

static int set_conf(struct options *options,
                    const char *value,
                    struct errmsg *msg)
{
    (void)msg;
    return replace_text(&options->conf, value);
}

static int set_ro(struct options *options,
                  const char *value,
                  struct errmsg *msg)
{
    (void)value;
    (void)msg;
    options->read_only = true;
    return 0;
}

static int set_rw(struct options *options,
                  const char *value,
                  struct errmsg *msg)
{
    (void)value;
    (void)msg;
    options->read_only = false;
    return 0;
}

static int set_sync(struct options *options,
                    const char *value,
                    struct errmsg *msg)
{
    (void)value;
    (void)msg;
    options->sync_data = true;
    options->sync_names = true;
    return 0;
}

static int set_async(struct options *options,
                     const char *value,
                     struct errmsg *msg)
{
    (void)value;
    (void)msg;
    options->sync_data = false;
    options->sync_names = false;
    return 0;
}

static int set_dirsync(struct options *options,
                       const char *value,
                       struct errmsg *msg)
{
    (void)value;
    (void)msg;
    options->sync_names = true;
    return 0;
}

static int set_allow_other(struct options *options,
                           const char *value,
                           struct errmsg *msg)
{
    (void)value;
    (void)msg;
    options->allow_other = true;
    return 0;
}

static int set_nonempty(struct options *options,
                        const char *value,
                        struct errmsg *msg)
{
    (void)value;
    (void)msg;
    options->nonempty = true;
    return 0;
}

/* -------------------------------------------------------------------- table */

enum option_form {
    FORM_FLAG,         /* "name" */
    FORM_VALUE,        /* "name=value" */
    FORM_EITHER,       /* both */
    FORM_IGNORE,       /* either, accepted for mount(8)'s sake */
    FORM_KERNEL_FLAG,  /* "name", handed to the kernel */
    FORM_KERNEL_VALUE, /* "name=value", likewise */
};

static const struct option_spec {
    const char *name; /* a trailing '*' stands for anything */
    enum option_form form;
    option_setter *set; /* for the first three forms */
} specs[] = {
    { "timeout", FORM_VALUE, set_timeout },
    { "hard", FORM_EITHER, set_hard },
    { "soft", FORM_FLAG, set_soft },
    { "cache_size", FORM_VALUE, set_cache_size },
    { "attr_timeout", FORM_VALUE, set_attr_ms },
    { "entry_timeout", FORM_VALUE, set_entry_ms },
    { "negative_timeout", FORM_VALUE, set_negative_ms },
    { "log_level", FORM_VALUE, set_log_level },
    { "log_file", FORM_VALUE, set_log_file },
    { "pid_file", FORM_VALUE, set_pid_file },
    { "conf", FORM_VALUE, set_conf },
    { "nonempty", FORM_FLAG, set_nonempty },
    { "allow_other", FORM_FLAG, set_allow_other },
    { "ro", FORM_FLAG, set_ro },
    { "rw", FORM_FLAG, set_rw },
    { "sync", FORM_FLAG, set_sync },
    { "async", FORM_FLAG, set_async },
    { "dirsync", FORM_FLAG, set_dirsync },
    { "suid", FORM_KERNEL_FLAG, NULL },
    { "nosuid", FORM_KERNEL_FLAG, NULL },
    { "dev", FORM_KERNEL_FLAG, NULL },
    { "nodev", FORM_KERNEL_FLAG, NULL },
    { "exec", FORM_KERNEL_FLAG, NULL },
    { "noexec", FORM_KERNEL_FLAG, NULL },
    { "auto_unmount", FORM_KERNEL_FLAG, NULL },
    { "context", FORM_KERNEL_VALUE, NULL },
    { "fscontext", FORM_KERNEL_VALUE, NULL },
    { "defcontext", FORM_KERNEL_VALUE, NULL },
    { "rootcontext", FORM_KERNEL_VALUE, NULL },
    /* Always so here, or of no meaning to a network filesystem. */
    { "default_permissions", FORM_IGNORE, NULL },
    { "fsname", FORM_IGNORE, NULL },
    { "subtype", FORM_IGNORE, NULL },
    { "max_read", FORM_IGNORE, NULL },
    { "defaults", FORM_IGNORE, NULL },
    { "_netdev", FORM_IGNORE, NULL },
    { "nofail", FORM_IGNORE, NULL },
    { "auto", FORM_IGNORE, NULL },
    { "noauto", FORM_IGNORE, NULL },
    { "user", FORM_IGNORE, NULL },
    { "nouser", FORM_IGNORE, NULL },
    { "users", FORM_IGNORE, NULL },
    { "nousers", FORM_IGNORE, NULL },
    { "owner", FORM_IGNORE, NULL },
    { "noowner", FORM_IGNORE, NULL },
    { "group", FORM_IGNORE, NULL },
    { "nogroup", FORM_IGNORE, NULL },
    { "comment", FORM_IGNORE, NULL },
    { "x-*", FORM_IGNORE, NULL },
    { "X-*", FORM_IGNORE, NULL },
    { "atime", FORM_IGNORE, NULL },
    { "noatime", FORM_IGNORE, NULL },
    { "diratime", FORM_IGNORE, NULL },
    { "nodiratime", FORM_IGNORE, NULL },
    { "relatime", FORM_IGNORE, NULL },
    { "norelatime", FORM_IGNORE, NULL },
    { "strictatime", FORM_IGNORE, NULL },
    { "nostrictatime", FORM_IGNORE, NULL },
    { "lazytime", FORM_IGNORE, NULL },
    { "nolazytime", FORM_IGNORE, NULL },
    { "mand", FORM_IGNORE, NULL },
    { "nomand", FORM_IGNORE, NULL },
    { "iversion", FORM_IGNORE, NULL },
    { "noiversion", FORM_IGNORE, NULL },
    { "silent", FORM_IGNORE, NULL },
    { "loud", FORM_IGNORE, NULL },
};

static bool spec_matches(const struct option_spec *spec,
                         const char *name,
                         size_t length)
{
    size_t n = strlen(spec->name);

    if (spec->name[n - 1] == '*') {
        return length >= n - 1 && memcmp(spec->name, name, n - 1) == 0;
    }
    return length == n && memcmp(spec->name, name, n) == 0;
}

static const struct option_spec *find_spec(const char *name, size_t length)
{
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        if (spec_matches(&specs[i], name, length)) {
            return &specs[i];
        }
    }
    return NULL;
}

static int pass_to_kernel(struct options *options, const char *text)
{
    size_t old = strlen(options->mount_flags);
    char *flags = realloc(options->mount_flags, old + strlen(text) + 2);

    if (flags == NULL) {
        return -ENOMEM;
    }
    options->mount_flags = flags;
    (void)sprintf(flags + old, "%s%s", old > 0 ? "," : "", text);
    return 0;
}

static int check_form(const struct option_spec *spec,
                      const char *value,
                      struct errmsg *msg)
{
    bool wants = spec->form == FORM_VALUE || spec->form == FORM_KERNEL_VALUE;
    bool refuses = spec->form == FORM_FLAG || spec->form == FORM_KERNEL_FLAG;

    if (wants && (value == NULL || *value == '\0')) {
        errmsg_set(msg, "mount option '%s' needs a value: %s=...", spec->name,
                   spec->name);
        return -EINVAL;
    }
    if (refuses && value != NULL) {
        errmsg_set(msg, "mount option '%s' takes no value", spec->name);
        return -EINVAL;
    }
    return 0;
}

/* One option, "name" or "name=value". */
static int apply_option(struct options *options,
                        const char *text,
                        struct errmsg *msg)
{
    size_t length = strcspn(text, "=");
    const char *value = text[length] == '=' ? text + length + 1 : NULL;
    const struct option_spec *spec = find_spec(text, length);
    struct errmsg why = { "" };
    int rc;

    if (length == 0 && value == NULL) {
        return 0; /* nothing between two commas */
    }
    if (spec == NULL) {
        errmsg_set(msg, "unknown mount option '%.*s'", (int)length, text);
        return -EINVAL;
    }
    rc = check_form(spec, value, msg);
    if (rc != 0) {
        return rc;
    }
    if (spec->set == NULL) {
        return spec->form == FORM_IGNORE ? 0 : pass_to_kernel(options, text);
    }
    rc = spec->set(options, value, &why);
    if (rc != 0 && why.text[0] != '\0') {
        errmsg_set(msg, "mount option %s: %s", spec->name, why.text);
    }
    return rc;
}

/* End of the option at `text`: a comma outside of double quotes, or the end. */
static size_t option_length(const char *text)
{
    bool quoted = false;
    size_t n = 0;

    for (; text[n] != '\0' && (quoted || text[n] != ','); n++) {
        if (text[n] == '"') {
            quoted = !quoted;
        }
    }
    return n;
}

/* Apply a comma-separated list; `only` not NULL: just the options of that name.
 */
static int apply_list(struct options *options,
                      const char *list,
                      const char *only,
                      struct errmsg *msg)
{
    while (*list != '\0') {
        size_t n = option_length(list);
        char *text = strndup(list, n);
        int rc = 0;

        if (text == NULL) {
            return -ENOMEM;
        }
        if (only == NULL || (strncmp(text, only, strlen(only)) == 0 &&
                             text[strlen(only)] == '=')) {
            rc = apply_option(options, text, msg);
        }
        free(text);
        if (rc != 0) {
            return rc;
        }
        list += n;
        list += *list == ',' ? 1 : 0;
    }
    return 0;
}

/* ------------------------------------------------------------- client.conf */

/* The keys of [client] are the options of the same names. */
#define CONFIG_SETTER(name)                                         \
    static int config_##name(void *target, const char *suffix,      \
                             const char *value, struct errmsg *msg) \
    {                                                               \
        (void)suffix;                                               \
        return set_##name(target, value, msg);                      \
    }

CONFIG_SETTER(timeout)
CONFIG_SETTER(hard)
CONFIG_SETTER(cache_size)
CONFIG_SETTER(attr_ms)
CONFIG_SETTER(entry_ms)
CONFIG_SETTER(negative_ms)
CONFIG_SETTER(log_level)
CONFIG_SETTER(log_file)

static const struct config_key config_keys[] = {
    { "client", "timeout", config_timeout },
    { "client", "hard", config_hard },
    { "client", "cache_size", config_cache_size },
    { "client", "attr_timeout", config_attr_ms },
    { "client", "entry_timeout", config_entry_ms },
    { "client", "negative_timeout", config_negative_ms },
    { "client", "log_level", config_log_level },
    { "client", "log_file", config_log_file },
};

static int read_conf(struct options *options, struct errmsg *msg)
{
    const char *path =
        options->conf != NULL ? options->conf : OPTIONS_DEFAULT_CONF;
    int rc =
        config_read(path, config_keys, sizeof config_keys / sizeof *config_keys,
                    options, msg);

    if (rc == -ENOENT && options->conf == NULL) {
        return 0;
    }
    return rc;
}

/* ------------------------------------------------------------- command line */

/* What the arguments say, before it is interpreted. */
struct arguments {
    const char *positional[2]; /* borrowed from argv */
    size_t n_positional;
    char *list;           /* owned: all -o, joined by commas */
    bool is_mount_helper; /* called by mount(8) */
};

static int add_list(struct arguments *arguments, const char *text)
{
    size_t old = arguments->list != NULL ? strlen(arguments->list) : 0;
    char *list = realloc(arguments->list, old + strlen(text) + 2);

    if (list == NULL) {
        return -ENOMEM;
    }
    (void)sprintf(list + old, "%s%s", old > 0 ? "," : "", text);
    arguments->list = list;
    return 0;
}

static int add_positional(struct arguments *arguments,
                          const char *text,
                          struct errmsg *msg)
{
    if (arguments->n_positional == 2) {
        errmsg_set(msg, "unexpected argument '%s' after SOURCE and MOUNTPOINT",
                   text);
        return -EINVAL;
    }
    arguments->positional[arguments->n_positional++] = text;
    return 0;
}

/* A flag of one letter. Errors: -EINVAL there is no such. */
static int apply_letter(struct options *options,
                        struct arguments *arguments,
                        char letter)
{
    switch (letter) {
    case 'f':
        if (arguments->is_mount_helper) {
            options->fake = true;
        } else {
            options->foreground = true;
        }
        return 0;
    case 'd':
        options->foreground = true;
        return add_list(arguments, "log_level=debug");
    case 'h':
        options->wants_help = true;
        return 0;
    case 'V':
        options->wants_version = true;
        return 0;
    case 'r':
        return add_list(arguments, "ro");
    case 'w':
        return add_list(arguments, "rw");
    case 'n':
    case 'v':
    case 's':
        return arguments->is_mount_helper ? 0 : -EINVAL;
    default:
        return -EINVAL;
    }
}

static int apply_letters(struct options *options,
                         struct arguments *arguments,
                         const char *text,
                         struct errmsg *msg)
{
    for (const char *letter = text + 1; *letter != '\0'; letter++) {
        int rc = apply_letter(options, arguments, *letter);

        if (rc != 0) {
            errmsg_set(msg, "unknown argument '%s'", text);
            return rc;
        }
    }
    return 0;
}

static int apply_long(struct options *options,
                      struct arguments *arguments,
                      const char *text,
                      struct errmsg *msg)
{
    static const struct {
        const char *name;
        char letter;
    } longs[] = {
        { "--foreground", 'f' },
        { "--debug", 'd' },
        { "--help", 'h' },
        { "--version", 'V' },
    };

    for (size_t i = 0; i < sizeof longs / sizeof *longs; i++) {
        if (strcmp(text, longs[i].name) == 0) {
            return apply_letter(options, arguments, longs[i].letter);
        }
    }
    errmsg_set(msg, "unknown argument '%s'", text);
    return -EINVAL;
}

/* -o LIST, -oLIST and mount(8)'s -t TYPE, -N NAMESPACE. Returns how many
 * arguments were used, 0 when it is something else. */
static int take_valued(struct arguments *arguments,
                       int n_left,
                       char *const *argv,
                       struct errmsg *msg)
{
    const char *text = argv[0];
    bool is_list = text[1] == 'o';
    bool is_ignored =
        arguments->is_mount_helper && (text[1] == 't' || text[1] == 'N');
    const char *value = text[2] != '\0' ? text + 2 : argv[1];
    int rc;

    if (!is_list && !is_ignored) {
        return 0;
    }
    if (text[2] == '\0' && n_left < 2) {
        errmsg_set(msg, "%s needs a value", text);
        return -EINVAL;
    }
    rc = is_list ? add_list(arguments, value) : 0;
    if (rc != 0) {
        return rc;
    }
    return text[2] != '\0' ? 1 : 2;
}

static int parse_argument(struct options *options,
                          struct arguments *arguments,
                          int n_left,
                          char *const *argv,
                          struct errmsg *msg)
{
    const char *text = argv[0];
    int rc;

    if (text[0] != '-' || text[1] == '\0') {
        rc = add_positional(arguments, text, msg);
    } else if (text[1] == '-') {
        rc = apply_long(options, arguments, text, msg);
    } else {
        int used = take_valued(arguments, n_left, argv, msg);

        if (used != 0) {
            return used;
        }
        rc = apply_letters(options, arguments, text, msg);
    }
    return rc == 0 ? 1 : rc;
}

static int parse_arguments(struct options *options,
                           struct arguments *arguments,
                           int argc,
                           char *const *argv,
                           struct errmsg *msg)
{
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    const char *name = slash != NULL ? slash + 1 : argc > 0 ? argv[0] : "";

    arguments->is_mount_helper = strncmp(name, "mount.", 6) == 0;
    for (int i = 1; i < argc;) {
        int used = parse_argument(options, arguments, argc - i, argv + i, msg);

        if (used < 0) {
            return used;
        }
        i += used;
    }
    return 0;
}

static int take_positional(struct options *options,
                           const struct arguments *arguments,
                           struct errmsg *msg)
{
    int rc;

    if (arguments->n_positional < 2) {
        errmsg_set(msg, "%s is missing; see --help",
                   arguments->n_positional == 0 ? "SOURCE" : "MOUNTPOINT");
        return -EINVAL;
    }
    rc = replace_text(&options->source, arguments->positional[0]);
    if (rc == 0) {
        rc = replace_text(&options->mountpoint, arguments->positional[1]);
    }
    return rc != 0
               ? rc
               : mount_source_parse(options->source, &options->seeds,
                                    &options->n_seeds, &options->subdir, msg);
}

static int set_defaults(struct options *options)
{
    memset(options, 0, sizeof *options);
    options->timeout_ms = TIMEOUT_DEFAULT_MS;
    options->cache_size = CACHE_DEFAULT;
    options->attr_ms = TTL_DEFAULT_MS;
    options->entry_ms = TTL_DEFAULT_MS;
    options->log_level = LOG_INFO;
    options->allow_other = geteuid() == 0;
    options->mount_flags = strdup("");
    return options->mount_flags != NULL ? 0 : -ENOMEM;
}

static int interpret(struct options *options,
                     const struct arguments *arguments,
                     struct errmsg *msg)
{
    const char *list = arguments->list != NULL ? arguments->list : "";
    int rc;

    if (options->wants_help || options->wants_version) {
        return 0;
    }
    rc = take_positional(options, arguments, msg);
    if (rc == 0) {
        rc = apply_list(options, list, "conf", msg);
    }
    if (rc == 0) {
        rc = read_conf(options, msg);
    }
    return rc != 0 ? rc : apply_list(options, list, NULL, msg);
}

int options_parse(struct options *options,
                  int argc,
                  char *const *argv,
                  struct errmsg *msg)
{
    struct arguments arguments = { .n_positional = 0 };
    int rc = set_defaults(options);

    if (rc == 0) {
        rc = parse_arguments(options, &arguments, argc, argv, msg);
    }
    if (rc == 0) {
        rc = interpret(options, &arguments, msg);
    }
    free(arguments.list);
    if (rc == -ENOMEM) {
        errmsg_set(msg, "out of memory");
    }
    return rc;
}

void options_clear(struct options *options)
{
    free(options->source);
    mount_source_free_seeds(options->seeds, options->n_seeds);
    free(options->subdir);
    free(options->mountpoint);
    free(options->conf);
    free(options->log_file);
    free(options->pid_file);
    free(options->mount_flags);
    memset(options, 0, sizeof *options);
}
