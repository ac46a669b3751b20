#include "ctl/arguments.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/rpc_address.h"

#define DEFAULT_PORT "7700"

/* Add the address that the first `length` bytes of `text` are; without a port
 * it is that of nodes by default. */
static int add_seed(struct arguments *arguments,
                    const char *text,
                    size_t length,
                    struct errmsg *msg)
{
    static const char *const ports[] = { "", ":" DEFAULT_PORT };
    char **seeds =
        reallocarray(arguments->seeds, arguments->n_seeds + 1, sizeof *seeds);
    char target[RPC_TARGET_SIZE_MAX];
    char *seed;

    if (seeds == NULL) {
        return -ENOMEM;
    }
    arguments->seeds = seeds;
    for (size_t i = 0; i < sizeof ports / sizeof *ports; i++) {
        if (asprintf(&seed, "%.*s%s", (int)length, text, ports[i]) < 0) {
            return -ENOMEM;
        }
        if (rpc_address_target(seed, target) == 0) {
            seeds[arguments->n_seeds++] = seed;
            return 0;
        }
        free(seed);
    }
    errmsg_set(msg, "--cluster: '%.*s' is not an address like host:port",
               (int)length, text);
    return -EINVAL;
}

/* Add "HOST[:PORT][,HOST[:PORT]...]" to the seeds. */
static int add_seeds(struct arguments *arguments,
                     const char *list,
                     struct errmsg *msg)
{
    while (true) {
        size_t length = strcspn(list, ",");
        int rc = add_seed(arguments, list, length, msg);

        if (rc != 0 || list[length] == '\0') {
            return rc;
        }
        list += length + 1;
    }
}

/* Take an option of a command; `*i` moves to its last word. */
static int take_option(int argc,
                       char *const *argv,
                       int *i,
                       struct arguments *arguments,
                       struct errmsg *msg)
{
    const char *word = argv[*i];

    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        arguments->command = COMMAND_HELP;
        return 0;
    }
    if (strcmp(word, "--json") == 0) {
        arguments->json = true;
        return 0;
    }
    if (strcmp(word, "--metadata") == 0 && arguments->command == COMMAND_FSCK) {
        arguments->metadata = true;
        return 0;
    }
    if (strncmp(word, "--cluster=", 10) == 0) {
        return add_seeds(arguments, word + 10, msg);
    }
    if (strcmp(word, "--cluster") == 0) {
        if (*i + 1 == argc) {
            errmsg_set(msg, "--cluster needs the address of a node: host:port");
            return -EINVAL;
        }
        return add_seeds(arguments, argv[++*i], msg);
    }
    errmsg_set(msg, "unknown argument '%s': see gabion --help", word);
    return -EINVAL;
}

static int find_command(const char *word,
                        enum command *ret_command,
                        struct errmsg *msg)
{
    static const struct {
        const char *word;
        enum command command;
    } commands[] = {
        { "help", COMMAND_HELP },         { "--help", COMMAND_HELP },
        { "-h", COMMAND_HELP },           { "version", COMMAND_VERSION },
        { "--version", COMMAND_VERSION }, { "status", COMMAND_STATUS },
        { "fsck", COMMAND_FSCK },
    };

    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(word, commands[i].word) == 0) {
            *ret_command = commands[i].command;
            return 0;
        }
    }
    errmsg_set(msg, "unknown command '%s': see gabion --help", word);
    return -EINVAL;
}

/* Whether nothing is missing. */
static int check_arguments(const struct arguments *arguments,
                           struct errmsg *msg)
{
    if (arguments->command != COMMAND_STATUS &&
        arguments->command != COMMAND_FSCK) {
        return 0;
    }
    if (arguments->n_seeds == 0) {
        errmsg_set(msg, "which cluster? give --cluster host:port of a node");
        return -EINVAL;
    }
    if (arguments->command == COMMAND_FSCK && !arguments->metadata) {
        errmsg_set(msg, "check what? this version checks --metadata only");
        return -EINVAL;
    }
    return 0;
}

int arguments_parse(int argc,
                    char *const *argv,
                    struct arguments *ret_arguments,
                    struct errmsg *msg)
{
    int rc;

    memset(ret_arguments, 0, sizeof *ret_arguments);
    if (argc < 2) {
        errmsg_set(msg, "what shall be done? see gabion --help");
        return -EINVAL;
    }
    rc = find_command(argv[1], &ret_arguments->command, msg);
    for (int i = 2; i < argc && rc == 0; i++) {
        rc = take_option(argc, argv, &i, ret_arguments, msg);
    }
    if (rc == -ENOMEM) {
        errmsg_set(msg, "%s", err_text(rc));
    }
    return rc != 0 ? rc : check_arguments(ret_arguments, msg);
}

void arguments_clear(struct arguments *arguments)
{
    for (size_t i = 0; i < arguments->n_seeds; i++) {
        free(arguments->seeds[i]);
    }
    free(arguments->seeds);
    memset(arguments, 0, sizeof *arguments);
}

const char *arguments_usage(void)
{
    return "gabion COMMAND [OPTIONS]\n"
           "\n"
           "  status   nodes, their space, and the metadata shards\n"
           "  fsck     look for contradictions; changes nothing\n"
           "  help     this text\n"
           "  version  the version\n"
           "\n"
           "Options of status and fsck:\n"
           "  --cluster HOST[:PORT][,HOST[:PORT]...]\n"
           "              nodes to ask for the cluster map; port " DEFAULT_PORT
           " by default\n"
           "  --json      answer in JSON\n"
           "Options of fsck:\n"
           "  --metadata  check the metadata shards (required)\n"
           "\n"
           "Exit status: 0 everything is up or sound, 1 something is not, 2 "
           "no\n"
           "answer, 3 wrong usage.\n";
}
