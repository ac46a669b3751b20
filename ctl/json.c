#include "ctl/json.h"

void json_print_string(const char *text, FILE *file)
{
    (void)fputc('"', file);
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\') {
            (void)fprintf(file, "\\%c", *c);
        } else if ((unsigned char)*c < ' ' || (unsigned char)*c > '~') {
            (void)fprintf(file, "\\u%04x", (unsigned char)*c);
        } else {
            (void)fputc(*c, file);
        }
    }
    (void)fputc('"', file);
}
