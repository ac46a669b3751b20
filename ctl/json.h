/* Pieces of JSON. */
#pragma once

#include <stdio.h>

/* Print the text as a JSON string, quotes included. Bytes that are not ASCII
 * are told by their numbers. */
void json_print_string(const char *text, FILE *file);
