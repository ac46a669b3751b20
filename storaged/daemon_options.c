#include "storaged/daemon_options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/config.h"
#include "storaged/node.h"

/* ------------------------------------------------------------ command line */

/* The value of option `name` at `argv[*i]`, given as "--name VALUE" or
 * "--name=VALUE"; NULL when it is another option. `*i` moves to its last word.
 * A missing value is "". */
static const char *option_value(int argc,
                                char *const *argv,
                                int *i,
                                const char *name)
{
    size_t length = strlen(name);

    if (strncmp(argv[*i], name, length) != 0) {
        return NULL;
    }
    if (argv[*i][length] == '=') {
        return argv[*i] + length + 1;
    }
    if (argv[*i][length] != '\0') {
        return NULL;
    }
    return *i + 1 < argc ? argv[++*i] : "";
}

int daemon_command_parse(int argc,
                         char *const *argv,
                         struct daemon_command *ret_command,
                         struct errmsg *msg)
{
    *ret_command = (struct daemon_command){ .action = DAEMON_RUN };
    for (int i = 1; i < argc; i++) {
        const char *config;

        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            ret_command->action = DAEMON_HELP;
            return 0;
        }
        if (strcmp(argv[i], "--version") == 0) {
            ret_command->action = DAEMON_VERSION;
            return 0;
        }
        config = option_value(argc, argv, &i, "--config");
        if (config == NULL) {
            errmsg_set(msg, "unknown argument '%s': see --help", argv[i]);
            return -EINVAL;
        }
        if (*config == '\0') {
            errmsg_set(msg, "--config needs the path of a file");
            return -EINVAL;
        }
        ret_command->config = config;
    }
    if (ret_command->config == NULL) {
        errmsg_set(msg, "which node? give --config FILE: see --help");
        return -EINVAL;
    }
    return 0;
}

const char *daemon_usage(void)
{
    return "gabion-storaged --config FILE\n"
           "\n"
           "Run one storage node of a Gabion cluster in the foreground, until "
           "SIGTERM\n"
           "or SIGINT.\n"
           "\n"
           "  --config FILE  storaged.conf of the node:\n"
           "                   [node]\n"
           "                   id = 3\n"
           "                   data = /var/lib/gabion/data\n"
           "                   cluster = /etc/gabion/cluster.conf\n"
           "                   listen = HOST:PORT   (address in cluster.conf)\n"
           "                   reserve = SIZE       (1G or 1 %, the smaller)\n"
           "                   log_level = error | warn | info | debug\n"
           "  --help         this text\n"
           "  --version      the version\n"
           "\n"
           "Exit status: 0 stopped cleanly, 1 wrong usage or configuration,\n"
           "2 the node cannot run.\n";
}

/* ----------------------------------------------------------- storaged.conf */

static int set_text(char **target,
                    const char *value,
                    const char *what,
                    struct errmsg *msg)
{
    if (*value == '\0') {
        errmsg_set(msg, "%s is missing", what);
        return -EINVAL;
    }
    *target = strdup(value);
    return *target != NULL ? 0 : -ENOMEM;
}

static int set_id(void *target,
                  const char *suffix,
                  const char *value,
                  struct errmsg *msg)
{
    struct daemon_options *options = target;
    uint64_t id;

    (void)suffix;
    if (config_parse_uint(value, 1, UINT16_MAX, &id) != 0) {
        errmsg_set(msg, "'%s' is not a number of 1..%u", value, UINT16_MAX);
        return -EINVAL;
    }
    options->id = (uint32_t)id;
    return 0;
}

static int set_data(void *target,
                    const char *suffix,
                    const char *value,
                    struct errmsg *msg)
{
    struct daemon_options *options = target;

    (void)suffix;
    return set_text(&options->data, value, "the path of a directory", msg);
}

static int set_cluster(void *target,
                       const char *suffix,
                       const char *value,
                       struct errmsg *msg)
{
    struct daemon_options *options = target;

    (void)suffix;
    return set_text(&options->cluster, value, "the path of cluster.conf", msg);
}

static int set_listen(void *target,
                      const char *suffix,
                      const char *value,
                      struct errmsg *msg)
{
    struct daemon_options *options = target;

    (void)suffix;
    return set_text(&options->listen, value, "host:port", msg);
}

static int set_reserve(void *target,
                       const char *suffix,
                       const char *value,
                       struct errmsg *msg)
{
    struct daemon_options *options = target;
    uint64_t reserve = 0;

    (void)suffix;
    if (config_parse_size(value, &reserve) != 0 || reserve > INT64_MAX) {
        errmsg_set(msg, "'%s' is not a size such as 500M or 2G", value);
        return -EINVAL;
    }
    options->reserve = reserve;
    return 0;
}

static int set_log_level(void *target,
                         const char *suffix,
                         const char *value,
                         struct errmsg *msg)
{
    struct daemon_options *options = target;

    (void)suffix;
    if (log_level_parse(value, &options->log_level) != 0) {
        errmsg_set(msg, "'%s' is not error, warn, info or debug", value);
        return -EINVAL;
    }
    return 0;
}

int daemon_options_read(const char *path,
                        struct daemon_options *ret_options,
                        struct errmsg *msg)
{
    static const struct config_key keys[] = {
        { "node", "id", set_id },
        { "node", "data", set_data },
        { "node", "cluster", set_cluster },
        { "node", "listen", set_listen },
        { "node", "reserve", set_reserve },
        { "node", "log_level", set_log_level },
    };
    const char *missing;
    int rc;

    *ret_options = (struct daemon_options){ .reserve = NODE_RESERVE_DEFAULT,
                                            .log_level = LOG_INFO };
    rc = config_read(path, keys, sizeof keys / sizeof *keys, ret_options, msg);
    if (rc != 0) {
        return rc;
    }
    missing = ret_options->id == 0           ? "id"
              : ret_options->data == NULL    ? "data"
              : ret_options->cluster == NULL ? "cluster"
                                             : NULL;
    if (missing != NULL) {
        errmsg_set(msg, "%s: section [node] has no %s", path, missing);
        return -EINVAL;
    }
    return 0;
}

void daemon_options_clear(struct daemon_options *options)
{
    free(options->data);
    free(options->cluster);
    free(options->listen);
    memset(options, 0, sizeof *options);
}
