/* llhttp alone: every callback is present and does nothing, so that its cost without any use of the results is seen.
 *
 *     bare_llhttp FILE PER_PASS
 *
 * FILE holds PER_PASS responses. Each line of input is a number of responses to parse (rounded to whole passes); the answer is
 * the line of JSON that harness.py expects. The stream is fed in pieces of 64 KiB, as received; one parser reads it all.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "llhttp.h"

#define PIECE (64 * 1024)

static int nothing(llhttp_t *parser) { (void)parser; return 0; }

static int no_data(llhttp_t *parser, const char *at, size_t length) {
    (void)parser; (void)at; (void)length;
    return 0;
}

static const llhttp_settings_t SETTINGS = {
    .on_message_begin = nothing, .on_protocol = no_data, .on_url = no_data, .on_status = no_data, .on_method = no_data,
    .on_version = no_data, .on_header_field = no_data, .on_header_value = no_data, .on_chunk_extension_name = no_data,
    .on_chunk_extension_value = no_data, .on_headers_complete = nothing, .on_body = no_data,
    .on_message_complete = nothing, .on_protocol_complete = nothing, .on_url_complete = nothing,
    .on_status_complete = nothing, .on_method_complete = nothing, .on_version_complete = nothing,
    .on_header_field_complete = nothing, .on_header_value_complete = nothing,
    .on_chunk_extension_name_complete = nothing, .on_chunk_extension_value_complete = nothing,
    .on_chunk_header = nothing, .on_chunk_complete = nothing, .on_reset = nothing,
};

static double cpu_seconds(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec)
         + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static double wall_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static long peak_bytes(void) {
    char line[256];
    long kib = 0;
    FILE *status = fopen("/proc/self/status", "r");
    if (status == NULL)
        return 0;
    while (fgets(line, sizeof line, status) != NULL)
        if (sscanf(line, "VmHWM: %ld", &kib) == 1)
            break;
    fclose(status);
    return kib * 1024;
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    FILE *file = fopen(argv[1], "rb");
    if (file == NULL)
        return 2;
    fseek(file, 0, SEEK_END);
    size_t size = (size_t)ftell(file);
    rewind(file);
    char *stream = malloc(size);
    if (stream == NULL || fread(stream, 1, size, file) != size)
        return 2;
    fclose(file);
    long per_pass = atol(argv[2]);

    llhttp_t parser;
    llhttp_init(&parser, HTTP_RESPONSE, &SETTINGS);
    puts("{}");
    fflush(stdout);
    long count;
    while (scanf("%ld", &count) == 1) {
        long passes = (count + per_pass - 1) / per_pass;
        double wall = wall_seconds(), cpu = cpu_seconds();
        for (long pass = 0; pass < passes; pass++)
            for (size_t at = 0; at < size; at += PIECE) {
                size_t length = size - at < PIECE ? size - at : PIECE;
                if (llhttp_execute(&parser, stream + at, length) != HPE_OK) {
                    fprintf(stderr, "llhttp: %s\n", llhttp_get_error_reason(&parser));
                    return 1;
                }
            }
        cpu = cpu_seconds() - cpu;
        wall = wall_seconds() - wall;
        printf("{\"units\": %ld, \"cpu\": %.9f, \"wall\": %.9f, \"peak\": %ld}\n", passes * per_pass, cpu, wall, peak_bytes());
        fflush(stdout);
    }
    return 0;
}
